"""The sample of entities: whole rows, held-out names and sentences, nothing that memory finds."""

from __future__ import annotations

from collections import Counter
from itertools import permutations

import pytest

from bertft.samples import SPLITS, load_sample
from bertft.tasks.token_classification.metrics import EntityCounts
from bertft.tasks.token_classification.tag_schemes import (
    extract_entities,
    find_invalid_tag,
    parse_tag,
)
from tools.make_samples.ner import ROWS, TYPES
from tools.make_samples.texts.namings import NAMINGS

LISTS = ("first_names", "surnames", "places", "organisations", "products", "sentences")


@pytest.mark.parametrize("split", SPLITS)
def test_rows_are_whole_and_tagged_in_bio(split):
    content = load_sample("ner", split)
    assert list(content) == ["words", "tags"]
    assert len(content["words"]) == len(content["tags"]) == ROWS[split]
    assert len({" ".join(words) for words in content["words"]}) == ROWS[split]
    seen = Counter()
    for words, tags in zip(content["words"], content["tags"], strict=True):
        assert len(words) == len(tags) and find_invalid_tag(tags, "bio") is None
        assert all(word and not set(word) & set("{} ") for word in words)
        seen.update(
            kind for kind, _, _ in extract_entities([parse_tag(tag, "bio") for tag in tags])
        )
    assert set(seen) == set(TYPES)
    assert min(seen.values()) > 0.1 * sum(seen.values())


@pytest.mark.parametrize(("one", "other"), list(permutations(SPLITS, 2)))
def test_no_name_and_no_sentence_is_shared(one, other):
    for name in LISTS:
        assert not set(getattr(NAMINGS[one], name)) & set(getattr(NAMINGS[other], name)), name


@pytest.mark.parametrize("split", ["validation", "test"])
def test_memory_of_words_does_not_solve_it(split):
    """Each word gets the tag that it had most often in train, O if it was never there."""
    seen: dict[str, Counter] = {}
    train = load_sample("ner", "train")
    for words, tags in zip(train["words"], train["tags"], strict=True):
        for word, tag in zip(words, tags, strict=True):
            seen.setdefault(word.lower(), Counter())[tag] += 1
    held_out, counts = load_sample("ner", split), EntityCounts()
    for words, tags in zip(held_out["words"], held_out["tags"], strict=True):
        given = [
            seen[word.lower()].most_common(1)[0][0] if word.lower() in seen else "O"
            for word in words
        ]
        counts.add(
            *(
                extract_entities([parse_tag(tag, "bio") for tag in sequence])
                for sequence in (tags, given)
            )
        )
    assert counts.scores()[2] < 0.2
