"""Spans in the notations of annotation tools, and values that are not spans."""

from __future__ import annotations

import json

import pytest

from bertft.data.annotated_spans import Span, is_spans, parse_spans, parse_token_bounds
from bertft.data.rows import RowError

PLAIN = [Span(0, 2, "ORG"), Span(11, 17, "MISC")]
NOTATIONS = {
    "lists": [[0, 2, "ORG"], [11, 17, "MISC"]],
    "tuples": [(0, 2, "ORG"), (11, 17, "MISC")],
    "start and end": [
        {"start": 0, "end": 2, "label": "ORG"}, {"start": 11, "end": 17, "label": "MISC"}
    ],
    "start_offset": [
        {"id": 4, "label": "ORG", "start_offset": 0, "end_offset": 2},
        {"id": 5, "label": "MISC", "start_offset": 11, "end_offset": 17},
    ],
    "a list of one label": [
        {"start": 0, "end": 2, "labels": ["ORG"]}, {"start": 11, "end": 17, "labels": ["MISC"]}
    ],
    "columns": {"start": [0, 11], "end": [2, 17], "label": ["ORG", "MISC"]},
    "numbers of pandas": [[0.0, 2.0, " ORG "], [11, 17.0, "MISC"]],
}  # fmt: skip


@pytest.mark.parametrize("notation", NOTATIONS)
def test_notations(notation):
    value = NOTATIONS[notation]
    assert parse_spans(value) == PLAIN and is_spans(value)
    # As a field of a table: JSON or what Python prints.
    assert parse_spans(json.dumps(value)) == parse_spans(f" {value!r} ") == PLAIN


def test_the_text_of_a_span_is_kept():
    cluener = {"name": {"叶老桂": [[9, 11]], "桂": [[1, 1], [4, 4]]}, "company": {}}
    assert parse_spans(cluener) == [
        Span(9, 12, "name", "叶老桂"), Span(1, 2, "name", "桂"), Span(4, 5, "name", "桂")
    ]  # fmt: skip
    assert parse_spans([{"start": 0, "end": 2, "text": "EU", "labels": ["ORG"]}]) == [
        Span(0, 2, "ORG", "EU")
    ]
    # Arrow fills the keys that other rows have.
    assert parse_spans({"name": {"桂": [[1, 1]], "叶": None}, "company": None}) == [
        Span(1, 2, "name", "桂")
    ]


@pytest.mark.parametrize("value", [[], (), {}, "[]", {"start": [], "end": [], "label": []}])
def test_no_spans(value):
    assert parse_spans(value) == [] and not is_spans(value)


@pytest.mark.parametrize(
    "value",
    [None, "", "B-O O", ["B-O", "O"], [0, 1], "[0, 1]", '["O"]', "[[laughs", "{a}", 7, ["a", []]],
)
def test_other_values(value):
    assert parse_spans(value) is None and not is_spans(value)


@pytest.mark.parametrize(
    ("value", "detail"),
    [
        ([[0, 2]], "span 1 has 2 values, not [start, end, label]"),
        ([[0, 2, "A"], ["A", 3, 4]], "the start of span 2 is 'A', not a whole number"),
        ([[0, 2.5, "A"]], "the end of span 1 is the number 2.5, not a whole number"),
        ([[True, 2, "A"]], "the start of span 1 is true, not a whole number"),
        ([{"end": 2, "label": "A"}], "the start of span 1 is null, not a whole number"),
        ([[0, 2, None]], "span 1 has no label"),
        ([{"start": 0, "end": 2, "labels": []}], "span 1 has no label"),
        ([{"start": 0, "end": 2, "labels": ["A", "B"]}], "span 1 has several labels (['A', 'B'])"),
        ([[0, 2, ["A", "B"]]], "span 1 has several labels"),
        ([[0, 2, "a\0b"]], "the label contains a NUL byte"),
        ({"a": 1}, "the key 'a' has the number 1, but an object of entities is"),
        ({"a": {"b": 1}}, "the offsets of 'b' are the number 1, not a list"),
        ({"a": {"b": [[1, 2, 3]]}}, "the offsets of span 1 are not [first, last]"),
        ({"a": {"b": [[1, "2"]]}}, "the end of span 1 is '2', not a whole number"),
        ({"start": [0], "end": [], "label": ["A"]}, "1 starts, 0 ends and 1 labels"),
    ],
)
def test_invalid_spans(value, detail):
    with pytest.raises(RowError) as raised:
        parse_spans(value)
    assert detail in raised.value.detail and not is_spans(value)


def test_words_that_a_file_states():
    text = "Don't \n go"
    tokens = [
        {"text": "Do", "start": 0, "end": 2, "id": 0, "ws": False},
        {"text": "n't", "start": 2, "end": 5, "id": 1, "ws": True},
        {"text": "\n ", "start": 6, "end": 8, "id": 2, "ws": False},
        {"text": "go", "start": 8, "end": 10, "id": 3, "ws": False},
    ]
    assert parse_token_bounds(tokens, text) == [(0, 2), (2, 5), (8, 10)]
    for other in (None, [], ["Do", "n't"], "Do", [{"text": "Do"}]):
        assert parse_token_bounds(other, text) is None
    for bad in ([{"start": 0, "end": 11}], [{"start": 3, "end": 2}], [*tokens, tokens[0]]):
        with pytest.raises(RowError, match="overlaps the token before it"):
            parse_token_bounds(bad, text)
