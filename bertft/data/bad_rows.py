"""Rows that cannot be used: where they stand, what is wrong with them, how many there are."""

from __future__ import annotations

import bisect
from collections import Counter
from collections.abc import Sequence

from bertft.errors import DataError

__all__ = ["UNDECODABLE", "BadRows", "Fault", "place", "settle"]

UNDECODABLE = "bytes outside the encoding"

_SHOWN = 5


class Fault(Exception):
    """What is wrong with one row: ``reason`` is counted, ``detail`` is shown.

    ``after``: how many lines below the row's first.
    """

    def __init__(self, reason: str, detail: str | None = None, after: int = 0) -> None:
        super().__init__(detail or reason)
        self.reason, self.detail, self.after = reason, detail or reason, after


def place(source: str, line: int, unit: str = "") -> str:
    """``source:line``; of rows that are not told apart by lines, "source, ``unit`` line"."""
    return f"{source}, {unit} {line}" if unit else f"{source}:{line}"


class BadRows:
    """The bad rows of one source: all counted by reason, the first five kept to be shown.

    ``unit``: what their numbers count where it is not lines.
    """

    def __init__(self, source: str, unit: str = "") -> None:
        self.source, self.unit = source, unit
        self.counts: Counter[str] = Counter()
        self.first: list[tuple[int, str]] = []

    def add(self, line: int, fault: Fault) -> None:
        self.counts[fault.reason] += 1
        if len(self.first) < _SHOWN or line < self.first[-1][0]:
            bisect.insort(self.first, (line, fault.detail))
            del self.first[_SHOWN:]

    def __len__(self) -> int:
        return self.counts.total()


def settle(found: Sequence[BadRows], policy: str) -> None:
    """Raise one DataError about all the bad rows, unless ``policy`` is ``skip``."""
    found = [bad for bad in found if len(bad)]
    if policy == "skip" or not found:
        return
    total = sum(len(bad) for bad in found)
    lines = []
    for bad in found:
        lines += [f"  {place(bad.source, line, bad.unit)}: {detail}" for line, detail in bad.first]
        if len(bad) > len(bad.first):
            rest = ", ".join(f"{count:,} × {reason}" for reason, count in bad.counts.most_common())
            lines.append(f"  … of {len(bad):,} in {bad.source} ({rest})")
    rows = "1 bad row" if total == 1 else f"{total:,} bad rows"
    hint = "Mend them, or leave them out with data.on_bad_row=skip"
    if any(UNDECODABLE in bad.counts for bad in found):
        hint += (
            "; if the file has another encoding, name it with data.encoding (gb18030, cp1252, …)"
        )
    raise DataError("\n".join([rows, *lines, hint]))
