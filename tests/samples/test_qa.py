"""The sample of questions: answers at the recorded positions, held-out words and frames."""

from __future__ import annotations

import re
from collections import Counter
from itertools import combinations, permutations

import pytest

from bertft.samples import SPLITS, load_sample
from tools.make_samples.qa import ROWS
from tools.make_samples.texts.deeds import DEEDS, SLOTS


def rows(split):
    content = load_sample("qa", split)
    return [dict(zip(content, row, strict=True)) for row in zip(*content.values(), strict=True)]


def words(split):
    deeds = DEEDS[split]
    actual = {*deeds.people, *deeds.places, *deeds.times}
    actual |= {thing for deed in deeds.deeds for thing in deed.things}
    return {re.sub("^the ", "", word).lower() for word in actual}


def frames(split):
    deeds = DEEDS[split]
    questions = {ask for deed in deeds.deeds for slot in SLOTS for ask in deed.questions[slot]}
    statements = {statement for deed in deeds.deeds for statement in deed.statements}
    return questions | statements | set(deeds.background)


@pytest.mark.parametrize("split", SPLITS)
def test_rows_and_answers(split):
    made = rows(split)
    assert list(made[0]) == ["id", "question", "context", "answer", "answer_start"]
    assert len(made) == ROWS[split] == len({row["id"] for row in made})
    assert len({(row["question"], row["context"]) for row in made}) == len(made)
    without = [row for row in made if not row["answer"]]
    assert len(without) * 3 == len(made) and {row["answer_start"] for row in without} == {-1}
    for row in made:
        start, stop = row["answer_start"], row["answer_start"] + len(row["answer"])
        assert not row["answer"] or row["context"][start:stop] == row["answer"]
        assert row["question"][-1] == "?" and row["context"][-1] == "."
        assert not re.search(r"[{}]|  ", row["question"] + row["context"])
    assert set(Counter(row["context"] for row in made).values()) == {3}


@pytest.mark.parametrize("split", SPLITS)
def test_an_answer_is_of_the_kind_that_is_requested(split):
    """And where there is none, the question could be answered of another row of the text."""
    deeds = DEEDS[split]
    kinds = {"who": deeds.people, "where": deeds.places, "when": deeds.times}
    of_ask = {ask: slot for deed in deeds.deeds for slot in SLOTS for ask in deed.questions[slot]}
    for row in rows(split):
        fitting = {
            slot
            for ask, slot in of_ask.items()
            if re.fullmatch(re.sub(r"\\{\w+\\}", ".+", re.escape(ask)), row["question"])
        }
        assert fitting, row["question"]
        if row["answer"] and len(fitting) == 1 and (slot := fitting.pop()) in kinds:
            assert row["answer"].lower() in {kind.lower() for kind in kinds[slot]}


@pytest.mark.parametrize(("held_out", "other"), list(permutations(SPLITS, 2)))
def test_words_of_a_split_stand_in_no_text_of_another(held_out, other):
    prose = "\n".join(f"{row['question']} {row['context']}" for row in rows(other)).lower()
    assert not {word for word in words(held_out) if re.search(rf"\b{re.escape(word)}\b", prose)}


@pytest.mark.parametrize(("one", "other"), list(combinations(SPLITS, 2)))
def test_no_frame_is_shared(one, other):
    assert not frames(one) & frames(other)


@pytest.mark.parametrize("split", SPLITS)
def test_neither_length_nor_place_gives_the_answer_away(split):
    """Answers are spread over the sentences, and questions without one look like the others."""
    made = rows(split)
    shares = [row["answer_start"] / len(row["context"]) for row in made if row["answer"]]
    thirds = Counter(int(3 * share) for share in shares)
    assert min(thirds.values()) > 0.2 * len(shares)
    first = {
        kind: Counter(row["question"].split()[0] for row in made if bool(row["answer"]) == kind)
        for kind in (True, False)
    }
    assert set(first[False]) <= set(first[True])
