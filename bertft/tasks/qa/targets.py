"""Where an answer stands among the tokens of a window.

    start = the first token that ends after the answer's first character
    end   = the last token that begins at or before its last

so that an answer keeps to its own tokens where some of its characters have none (spaces, accents
that stand alone), and of a character of several tokens, as bytes are, it takes them all.

A window that does not hold all tokens of the answer points to its first token, [CLS], twice: here
is no answer. Of an answer whose place is not known both are −1: such a window has no target.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from bertft.tasks.qa.windows import Windows

__all__ = ["answer_positions"]

_INFINITY = np.iinfo(np.int32).max


def answer_positions(
    windows: Windows, answers: Sequence[Sequence[str]], offsets: Sequence[Sequence[int]]
) -> tuple[np.ndarray, np.ndarray]:
    """int64 [w] twice, of the first of each row's ``answers`` with their ``offsets``."""
    first = np.array([row_offsets[0] if row_offsets else -1 for row_offsets in offsets], np.int64)
    last = first + np.array([len(row_answers[0]) if row_answers else 0 for row_answers in answers], np.int64)
    start = np.zeros(len(windows.row), np.int64)
    end = np.zeros(len(windows.row), np.int64)
    has_unknown_offset = np.array([bool(each) for each in answers], bool) & (first < 0)
    start[has_unknown_offset[windows.row]] = end[has_unknown_offset[windows.row]] = -1
    # The characters that the answer's own tokens take, wherever the windows cut.
    begin, stop = np.full(len(first), _INFINITY, np.int64), np.full(len(first), -1, np.int64)
    contexts = list(_iter_contexts(windows))
    for _, row, _, begins, ends in contexts:
        if first[row] >= 0:
            begin[row] = min(begin[row], begins[ends > first[row]].min(initial=_INFINITY))
            stop[row] = max(stop[row], ends[begins < last[row]].max(initial=-1))
    for window, row, inside, begins, ends in contexts:
        if first[row] >= 0 and begins[0] <= begin[row] < stop[row] <= ends[-1]:
            start[window] = inside[np.searchsorted(ends, first[row], side="right")]
            end[window] = inside[np.searchsorted(begins, last[row], side="left") - 1]
    return start, end


_Context = tuple[int, int, np.ndarray, np.ndarray, np.ndarray]


def _iter_contexts(windows: Windows) -> Iterator[_Context]:
    """(window, row, places of the context's tokens, their first characters, their last + 1)."""
    stops = np.cumsum(windows.input_ids.sizes)
    for window, row in enumerate(windows.row):
        stop = stops[window]
        token_slice = slice(stop - windows.input_ids.sizes[window], stop)
        begins = windows.char_start.values[token_slice]
        context_tokens = np.flatnonzero(begins >= 0)
        if len(context_tokens):
            yield window, row, context_tokens, begins[context_tokens], windows.char_end.values[token_slice][context_tokens]
