"""Where an answer stands among the tokens of a window.

    start = the last token that begins at or before the answer's first character
    end   = the first token that ends at or after its last

A window that does not hold the whole answer points to its first token, [CLS], twice: here is no
answer.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bertft.tasks.qa.windows import Windows

__all__ = ["positions"]


def positions(
    windows: Windows, answers: Sequence[Sequence[str]], offsets: Sequence[Sequence[int]]
) -> tuple[np.ndarray, np.ndarray]:
    """int64 [w] twice, of the first of each row's ``answers`` with their ``offsets``."""
    first = np.array([at[0] if at else -1 for at in offsets], np.int64)
    last = first + np.array([len(each[0]) if each else 0 for each in answers], np.int64)
    start = np.zeros(len(windows.row), np.int64)
    end = np.zeros(len(windows.row), np.int64)
    stops = np.cumsum(windows.input_ids.sizes)
    for window, row in enumerate(windows.row):
        stop = stops[window]
        place = slice(stop - windows.input_ids.sizes[window], stop)
        begins = windows.char_start.values[place]
        inside = np.flatnonzero(begins >= 0)
        if first[row] < 0 or not len(inside):
            continue
        begins = begins[inside]
        ends = windows.char_end.values[place][inside]
        if begins[0] <= first[row] and last[row] <= ends[-1]:
            start[window] = inside[np.searchsorted(begins, first[row], side="right") - 1]
            end[window] = inside[np.searchsorted(ends, last[row], side="left")]
    return start, end
