"""Spans of entities in the notations of annotation tools.

    [[0, 2, "ORG"], …]                                     doccano, spaCy
    [{"start_offset": 0, "end_offset": 2, "label": "ORG"}, …]    doccano with relations
    [{"start": 0, "end": 2, "label": "ORG"}, …]            Prodigy, predictions of bertft
    [{"start": 0, "end": 2, "labels": ["ORG"], "text": "EU"}, …]    Label Studio
    {"start": [0], "end": [2], "label": ["ORG"]}           columns of ``datasets``
    {"ORG": {"EU": [[0, 1]]}}                              CLUENER, with the last character

Offsets count characters (Unicode code points) from 0; the end is the character after the span.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bertft.data.labels import to_class_name
from bertft.data.rows import RowError
from bertft.data.schema import check_characters
from bertft.utils.messages import describe_value, quote_value

__all__ = ["INVALID_SPAN", "Span", "is_spans", "parse_offset", "parse_spans", "parse_token_bounds"]

INVALID_SPAN = "invalid span"
_START_KEYS, _END_KEYS = ("start", "start_offset"), ("end", "end_offset")
_LABEL_KEYS = ("label", "labels")
_COLUMN_KEYS = {"start", "end", "label"}
_OPENING = ("[[", "[(", "[{", "{")  # how the text of spans begins, without white space


@dataclass(frozen=True)
class Span:
    """Characters [start, end) of a text and their label; ``text``: what the file has there."""

    start: int
    end: int
    label: str
    text: str | None = None


def parse_spans(value: object) -> list[Span] | None:
    """The spans in ``value``, which may be the JSON or Python text of them.

    None if the value is something else, such as a list of tags. Raises RowError for a span without
    a whole start and end and one label.
    """
    if isinstance(value, str):
        value = _parse_text(value)
    if isinstance(value, Mapping):
        is_columns = value.keys() >= _COLUMN_KEYS and all(
            isinstance(value[key], list) for key in _COLUMN_KEYS
        )
        return list(_spans_of_columns(value) if is_columns else _spans_by_label(value))
    if not isinstance(value, (list, tuple)) or not all(
        isinstance(item, (list, tuple, Mapping)) for item in value
    ):
        return None
    return [_parse_span(item, number) for number, item in enumerate(value, start=1)]


def is_spans(value: object) -> bool:
    """Whether ``value`` is at least one span in one of the notations."""
    try:
        return bool(parse_spans(value))
    except RowError:
        return False


def parse_token_bounds(value: object, text: str) -> list[tuple[int, int]] | None:
    """Start and end of each word of ``text`` in the ``tokens`` of Prodigy, without blank ones.

    None if the value is something else, such as a list of words. Raises RowError for tokens that
    are not in ``text`` one after another.
    """
    if not isinstance(value, list) or not value:
        return None
    if not all(isinstance(token, Mapping) and "start" in token for token in value):
        return None
    bounds: list[tuple[int, int]] = []
    position = 0
    for number, token in enumerate(value, start=1):
        start = parse_offset(token["start"], f"the start of token {number}")
        end = parse_offset(token.get("end"), f"the end of token {number}")
        if not position <= start <= end <= len(text):
            detail = (
                f"token {number} ({start} to {end}) overlaps the token before it, ends before it"
                f" starts, or is outside of the text of {len(text):,} characters"
            )
            raise RowError("invalid token", detail)
        position = end
        if text[start:end].strip():
            bounds.append((start, end))
    return bounds


def parse_offset(value: object, name: str) -> int:
    """``value`` as a number of characters; ``name`` is for messages. Raises RowError."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        shown = quote_value(value) if isinstance(value, str) else describe_value(value)
        raise RowError(INVALID_SPAN, f"{name} is {shown}, not a whole number")
    return value


def _parse_text(text: str) -> Any:
    """The list or object that ``text`` contains in JSON or Python notation; None for other text."""
    compact = "".join(text[:16].split())
    if not compact.startswith(_OPENING) and compact != "[]":
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None


def _parse_span(item: Sequence[Any] | Mapping[str, Any], number: int) -> Span:
    if isinstance(item, Mapping):
        start, end, label = (
            next((item[key] for key in keys if item.get(key) is not None), None)
            for keys in (_START_KEYS, _END_KEYS, _LABEL_KEYS)
        )
        surface = item.get("text")
    elif len(item) == 3:
        start, end, label = item
        surface = None
    else:
        raise RowError(
            INVALID_SPAN, f"span {number} has {len(item)} values, not [start, end, label]"
        )
    return Span(
        parse_offset(start, f"the start of span {number}"),
        parse_offset(end, f"the end of span {number}"),
        _parse_label(label, number),
        surface if isinstance(surface, str) else None,
    )


def _parse_label(value: Any, number: int) -> str:
    if isinstance(value, (list, tuple)) and len(value) > 1:
        raise RowError(
            INVALID_SPAN,
            f"span {number} has several labels ({quote_value(value)}): a word has one tag",
        )
    if isinstance(value, (list, tuple)):
        value = value[0] if value else None
    name = to_class_name(value)
    if name is None:
        raise RowError(INVALID_SPAN, f"span {number} has no label")
    return check_characters(name, "label")


def _spans_of_columns(value: Mapping[str, Any]) -> Iterator[Span]:
    starts, ends, labels = value["start"], value["end"], value["label"]
    if not len(starts) == len(ends) == len(labels):
        sizes = f"{len(starts)} starts, {len(ends)} ends and {len(labels)} labels"
        raise RowError(INVALID_SPAN, f"the spans have {sizes}")
    for number, item in enumerate(zip(starts, ends, labels, strict=True), start=1):
        yield _parse_span(item, number)


def _spans_by_label(value: Mapping[str, Any]) -> Iterator[Span]:
    """The spans of ``{label: {text: [[first, last], …]}}``; null stands for an absent key."""
    number = 0
    for label, surfaces in value.items():
        if surfaces is not None and not isinstance(surfaces, Mapping):
            raise RowError(
                INVALID_SPAN,
                f"the key {quote_value(label)} has {describe_value(surfaces)}, but an object of"
                " entities is {label: {text: [[first, last]]}}, as in CLUENER",
            )
        for surface, bounds in (surfaces or {}).items():
            if bounds is not None and not isinstance(bounds, list):
                detail = f"the offsets of {quote_value(surface)} are {describe_value(bounds)}"
                raise RowError(INVALID_SPAN, f"{detail}, not a list of [first, last]")
            for bound in bounds or ():
                number += 1
                if not isinstance(bound, list) or len(bound) != 2:
                    detail = f"the offsets of span {number} are not [first, last]"
                    raise RowError(INVALID_SPAN, detail)
                start, last = (
                    parse_offset(offset, f"the {name} of span {number}")
                    for offset, name in zip(bound, ("start", "end"), strict=True)
                )
                yield Span(start, last + 1, _parse_label(label, number), surface)
