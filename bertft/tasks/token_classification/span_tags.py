"""Spans of characters → tags of words.

    text     Ann Lee sang        words  (0, 3), (4, 7), (8, 12)
    span     0 to 7, PER         tags   B-PER I-PER O

A span must begin and end at the borders of words, after white space at its ends is left out. No
word may be in two spans.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Sequence
from dataclasses import replace

from bertft.data.annotated_spans import INVALID_SPAN, Span
from bertft.data.rows import RowError
from bertft.tasks.shared.word_splitting import WordBounds
from bertft.tasks.token_classification.tag_schemes import Entity, entities_to_tags
from bertft.utils.messages import quote_value

__all__ = ["spans_to_tags"]

_TRIMMED = "white space at the ends of a span ignored"
_UTF16 = "offsets of a span converted from UTF-16 code units"
_REPEATED = "repeated span ignored"
_BORDER_HINT = "Move the ends of these spans to the borders of words"


def spans_to_tags(
    text: str, words: WordBounds, spans: Iterable[Span], scheme: str, ignored: list[str]
) -> list[str]:
    """The tags of ``words`` in ``scheme`` (any except io and iob1).

    Corrections of spans that are certain are added to ``ignored``. Raises RowError for a span that
    is not in ``text``, is not a sequence of whole words, or overlaps another one.
    """
    located: list[Span] = []
    for span in sorted(
        (_locate(span, text, ignored) for span in spans), key=lambda span: (span.start, span.end)
    ):
        if located and span == located[-1]:
            ignored.append(_REPEATED)
            continue
        if located and span.start < located[-1].end:
            raise RowError(
                "overlapping spans",
                f"the spans {_describe(located[-1], text)} and {_describe(span, text)} overlap: a"
                " word has one tag",
            )
        located.append(span)
    first_words = {start: index for index, (start, _) in enumerate(words)}
    last_words = {stop: index for index, (_, stop) in enumerate(words)}
    entities: list[Entity] = []
    for span in located:
        first, last = first_words.get(span.start), last_words.get(span.end)
        if first is None or last is None:
            raise _border_error(span, text, words, begins_inside=first is None)
        entities.append((span.label, first, last))
    return entities_to_tags(entities, len(words), scheme)


def _locate(span: Span, text: str, ignored: list[str]) -> Span:
    """The span without white space at its ends and without ``text``. Raises RowError."""
    if span.end <= span.start:
        problem = "is empty" if span.end == span.start else "ends before it begins"
        raise RowError(INVALID_SPAN, f"the span {_offsets(span)} {problem}")
    if span.text is not None and not _is_same_text(text[max(0, span.start) : span.end], span.text):
        converted = _convert_from_utf16(span, text)
        if converted is None and 0 <= span.start and span.end <= len(text):
            raise RowError(
                "span text differs",
                f"the text of the span {_offsets(span)} is {quote_value(span.text)}, but"
                f" {quote_value(text[span.start : span.end])} is there",
            )
        if converted is not None:
            span = converted
            ignored.append(_UTF16)
    if span.start < 0 or span.end > len(text):
        raise RowError(
            "span out of range",
            f"the span {_offsets(span)} is not in the text, which has {len(text):,} characters",
        )
    content = text[span.start : span.end]
    start = span.start + len(content) - len(content.lstrip())
    end = span.end - len(content) + len(content.rstrip())
    if start >= end:
        raise RowError(INVALID_SPAN, f"the span {_offsets(span)} contains only white space")
    if (start, end) != (span.start, span.end):
        ignored.append(_TRIMMED)
    return replace(span, start=start, end=end, text=None)


def _convert_from_utf16(span: Span, text: str) -> Span | None:
    """The span whose offsets count UTF-16 code units, as in JavaScript, in code points.

    None if its text is not there either.
    """
    units = text.encode("utf-16-le")
    start, end = 2 * max(0, span.start), 2 * max(0, span.end)
    before, content = (
        part.decode("utf-16-le", "replace") for part in (units[:start], units[start:end])
    )
    if len(units) == 2 * len(text) or not _is_same_text(content, span.text or ""):
        return None
    return replace(span, start=len(before), end=len(before) + len(content))


def _is_same_text(actual: str, expected: str) -> bool:
    """Whether two texts are equal without white space, also if a line break is written as \\n."""
    texts = (text.replace("\\n", " ").split() for text in (actual, expected))
    actual_text, expected_text = ("".join(pieces) for pieces in texts)
    return actual_text == expected_text


def _border_error(
    span: Span, text: str, words: Sequence[tuple[int, int]], begins_inside: bool
) -> RowError:
    offset = span.start if begins_inside else span.end - 1
    index = bisect.bisect_right([start for start, _ in words], offset) - 1
    side = "begins" if begins_inside else "ends"
    place = "outside of all words"
    if index >= 0 and words[index][1] > offset:
        place = f"inside the word {quote_value(text[slice(*words[index])])}"
    return RowError(
        "span not at the borders of words",
        f"the span {_describe(span, text)} {side} {place}",
        hint=_BORDER_HINT,
    )


def _describe(span: Span, text: str) -> str:
    return f"{quote_value(text[span.start : span.end])} ({span.label}, {_offsets(span)})"


def _offsets(span: Span) -> str:
    return f"{span.start} to {span.end}"
