"""Words and templates of validation and test stand in no other split, in tables and in rows."""

from __future__ import annotations

import re
from functools import cache
from itertools import combinations, permutations

import pytest

from bertft.samples import SPLITS, load_sample
from tools.make_samples.texts.claims import CLAIMS
from tools.make_samples.texts.opinions import OPINIONS

TEMPLATES = ("background", "plain", "turned", "closing", "fair", "mixed")
# A bare symbol is a frame that says nothing of its own.
FRAMES = {"{verdict}"}


@cache
def prose(name: str, split: str) -> str:
    content = load_sample(name, split)
    texts = [text for column in content if column != "label" for text in content[column]]
    return "\n".join(texts).lower()


def opinion_words(split: str) -> set[str]:
    """Things, their parts, and every word that carries an opinion, without its article."""
    opinions = OPINIONS[split]
    actual = set(opinions.things)
    actual |= {word for parts, _ in opinions.things.values() for word in parts}
    for of_class in opinions.words.values():
        actual |= {word for words in of_class.values() for word in words}
    return {re.sub(r"^an? ", "", word).lower() for word in actual}


def claim_words(split: str) -> set[str]:
    """Names, groups and their members."""
    claims = CLAIMS[split]
    actual = set(claims.names)
    for topic in claims.topics:
        actual |= set(topic.groups)
        actual |= {member for members in topic.groups.values() for member in members}
    return {word.lower() for word in actual}


@pytest.mark.parametrize(("held_out", "other"), list(permutations(SPLITS, 2)))
@pytest.mark.parametrize(("name", "words"), [("sentiment", opinion_words), ("pair", claim_words)])
def test_words_of_a_split_stand_in_no_text_of_another(name, words, held_out, other):
    text = prose(name, other)
    actual = {word for word in words(held_out) if re.search(rf"\b{re.escape(word)}\b", text)}
    assert not actual


@pytest.mark.parametrize(("name", "words"), [("sentiment", opinion_words), ("pair", claim_words)])
@pytest.mark.parametrize("split", SPLITS)
def test_words_of_a_split_are_used(name, words, split):
    text = prose(name, split)
    used = {word for word in words(split) if re.search(rf"\b{re.escape(word)}\b", text)}
    assert len(used) > 0.95 * len(words(split))  # chance leaves out a few


@pytest.mark.parametrize(("one", "other"), list(combinations(SPLITS, 2)))
def test_no_template_is_shared(one, other):
    of_one, of_other = (
        {template for kind in TEMPLATES for template in getattr(OPINIONS[split], kind)}
        | {fact for _, facts in OPINIONS[split].things.values() for fact in facts}
        for split in (one, other)
    )
    assert of_one & of_other == FRAMES


@pytest.mark.parametrize(("one", "other"), list(combinations(SPLITS, 2)))
def test_no_frame_is_shared(one, other):
    of_one, of_other = (
        {sentence for topic in CLAIMS[split].topics for frame in topic.frames for sentence in frame}
        for split in (one, other)
    )
    assert not of_one & of_other


def test_claims_follow_from_the_groups():
    topics = [topic for split in SPLITS for topic in CLAIMS[split].topics]
    for topic in topics:
        members = [member for group in topic.groups.values() for member in group]
        assert len(set(members)) == len(members)
    for split in SPLITS:
        group_of = {
            member: group
            for topic in CLAIMS[split].topics
            for group, members in topic.groups.items()
            for member in members
        }
        content = load_sample("pair", split)
        checked = 0
        for text, claim, label in zip(*content.values(), strict=True):
            who = next(name for name in CLAIMS[split].names if re.search(rf"\b{name}\b", claim))
            assert re.search(rf"\b{who}\b", text), (text, claim)
            groups = {
                group
                for member, group in group_of.items()
                if re.search(rf"\b{re.escape(member)}\b", text)
            }
            claimed = {
                group for group in group_of.values() if re.search(rf"\b{re.escape(group)}\b", claim)
            }
            if len(groups) == len(claimed) == 1:
                assert (groups == claimed) == (label == "supported"), (text, claim)
                checked += 1
        assert checked > 0.9 * len(content["label"])
