"""Spans of characters as tags of words, and spans that are not whole words of their text."""

from __future__ import annotations

import numpy as np
import pytest

from bertft.data.annotated_spans import Span
from bertft.data.rows import RowError
from bertft.tasks.shared.word_splitting import split_words
from bertft.tasks.token_classification.span_tags import spans_to_tags
from bertft.tasks.token_classification.tag_schemes import extract_entities, parse_tag

TEXT = "Ann Lee (Oslo) sang 😀 in  New\tYork."
WORDS = ["Ann", "Lee", "(", "Oslo", ")", "sang", "😀", "in", "New", "York", "."]


def tags(text, *spans, scheme="bio"):
    ignored: list[str] = []
    return spans_to_tags(
        text, split_words(text), [Span(*span) for span in spans], scheme, ignored
    ), ignored


def refused(text, *spans):
    with pytest.raises(RowError) as raised:
        tags(text, *spans)
    return raised.value


def test_words_and_tags():
    assert [TEXT[start:stop] for start, stop in split_words(TEXT)] == WORDS
    expected = ["B-PER", "I-PER", "O", "B-LOC", "O", "O", "O", "O", "B-LOC", "I-LOC", "O"]
    spans = [(26, 34, "LOC"), (0, 7, "PER"), (9, 13, "LOC")]
    assert tags(TEXT, *spans) == (expected, [])
    assert tags(TEXT, *spans, scheme="bioes")[0] == [
        "B-PER", "E-PER", "O", "S-LOC", "O", "O", "O", "O", "B-LOC", "E-LOC", "O"
    ]  # fmt: skip
    assert tags(TEXT) == (["O"] * 11, [])


def test_chinese_characters_are_words():
    text = "叶老桂说2019年在ABC公司"
    assert tags(text, (0, 3, "name"), (4, 9, "date"), (10, 15, "company"))[0] == [
        "B-name", "I-name", "I-name", "O", "B-date", "I-date", "O",
        "B-company", "I-company", "I-company",
    ]  # fmt: skip


def test_adjacent_spans_begin_again():
    assert tags("Oslo Rome", (0, 4, "LOC"), (5, 9, "LOC"))[0] == ["B-LOC", "B-LOC"]
    assert tags("北京", (0, 1, "A"), (1, 2, "A"))[0] == ["B-A", "B-A"]


def test_the_entities_of_the_tags_are_the_spans():
    """Random whole words of random texts, in every scheme."""
    random = np.random.default_rng(0)
    pieces = ["Ann", "Lee,", "(Oslo)", "北京", " ", "  ", "\t", "\r\n", "😀", "U.S.", "don't", "-"]
    for _ in range(300):
        text = " ".join(random.choice(pieces, random.integers(1, 12)))
        words = split_words(text)
        if not words:
            continue
        borders = sorted(random.choice(len(words) + 1, min(6, len(words) + 1), replace=False))
        entities = [
            (str(random.choice(["A", "B-C"])), int(first), int(stop) - 1)
            for first, stop in zip(borders[::2], borders[1::2], strict=False)
        ]
        spans = [(words[first][0], words[last][1], name) for name, first, last in entities]
        for scheme in ("bio", "bios", "bioes", "biluo", "bmes"):
            found, ignored = tags(text, *spans, scheme=scheme)
            parsed = [parse_tag(tag, scheme) for tag in found]
            assert extract_entities(parsed) == entities and ignored == []


def test_white_space_and_line_ends_around_a_span_are_left_out():
    found, ignored = tags("at\r\nOslo \r\nnow", (2, 11, "LOC"))
    assert found == ["O", "B-LOC", "O"]
    assert ignored == ["white space at the ends of a span ignored"]


def test_offsets_of_javascript_are_converted_if_the_text_of_the_span_shows_it():
    """Older versions of Label Studio count an emoji as two."""
    expected, _ = tags(TEXT, (26, 34, "LOC"))
    note = ["offsets of a span converted from UTF-16 code units"]
    assert tags(TEXT, (27, 35, "LOC", "New\tYork")) == (expected, note)
    assert tags("😀😀😀 a b", (7, 8, "X", "a")) == (["O", "O", "O", "B-X", "O"], note)
    assert tags("😀 a", (2, 3, "X", "a")) == (["O", "B-X"], [])


def test_the_text_of_a_span_may_have_other_white_space():
    text = "New\n York"
    for written in ("New\n York", "New York", "New\\n York"):
        assert tags(text, (0, 9, "LOC", written)) == (["B-LOC", "I-LOC"], [])


def test_repeated_spans_count_once():
    assert tags("Oslo", (0, 4, "LOC"), (0, 4, "LOC")) == (["B-LOC"], ["repeated span ignored"])


@pytest.mark.parametrize(
    ("spans", "reason", "detail"),
    [
        ([(0, 2, "PER")], "span not at the borders of words",
         "the span 'An' (PER, 0 to 2) ends inside the word 'Ann'"),
        ([(1, 7, "PER")], "span not at the borders of words",
         "the span 'nn Lee' (PER, 1 to 7) begins inside the word 'Ann'"),
        ([(0, 3, "PER"), (9, 12, "LOC")], "span not at the borders of words",
         "the span 'Osl' (LOC, 9 to 12) ends inside the word 'Oslo'"),
        ([(0, 7, "PER"), (4, 7, "LOC")], "overlapping spans",
         "the spans 'Ann Lee' (PER, 0 to 7) and 'Lee' (LOC, 4 to 7) overlap: a word has one tag"),
        ([(4, 14, "PER"), (0, 7, "PER")], "overlapping spans", "overlap"),
        ([(0, 3, "PER"), (0, 3, "LOC")], "overlapping spans", "overlap"),
        ([(30, 36, "LOC")], "span out of range",
         "the span 30 to 36 is not in the text, which has 35 characters"),
        ([(-3, 3, "PER")], "span out of range", "the span -3 to 3 is not in the text"),
        ([(99, 120, "PER", "Ann")], "span out of range", "99 to 120"),
        ([(7, 4, "PER")], "invalid span", "the span 7 to 4 ends before it begins"),
        ([(4, 4, "PER")], "invalid span", "the span 4 to 4 is empty"),
        ([(24, 26, "PER")], "invalid span", "the span 24 to 26 contains only white space"),
        ([(0, 3, "PER", "Bob")], "span text differs",
         "the text of the span 0 to 3 is 'Bob', but 'Ann' is there"),
    ],
)  # fmt: skip
def test_spans_that_are_not_whole_words(spans, reason, detail):
    error = refused(TEXT, *spans)
    assert error.reason == reason and detail in error.detail
    assert (error.hint is not None) == (reason == "span not at the borders of words")
