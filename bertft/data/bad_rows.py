"""Rows that cannot be used: where they stand, what is wrong with them, how many there are."""

from __future__ import annotations

import bisect
import json
from collections import Counter
from collections.abc import Sequence

from bertft.errors import DataError, bounded

__all__ = ["UNDECODABLE", "BadRows", "Fault", "place", "settle"]

UNDECODABLE = "bytes outside the encoding"

_SHOWN = 5
_OTHER_ENCODING = (
    "If the file has another encoding, name it with data.encoding (gb18030, cp1252, …)"
)


class Fault(Exception):
    """What is wrong with one row: ``reason`` is counted, ``detail`` is shown.

    ``after``: how many lines below the row's first. ``hint``: a setting that may be the remedy,
    given once for all rows with the reason.
    """

    def __init__(
        self, reason: str, detail: str | None = None, after: int = 0, hint: str | None = None
    ) -> None:
        super().__init__(detail or reason)
        self.reason, self.detail, self.after = reason, detail or reason, after
        self.hint = _OTHER_ENCODING if reason == UNDECODABLE else hint


def place(source: str, line: int, unit: str = "") -> str:
    """``source:line``; of rows that are not told apart by lines, "source, ``unit`` line"."""
    return f"{source}, {unit} {line}" if unit else f"{source}:{line}"


class BadRows:
    """The bad rows of one source: all counted by reason, the first five kept to be shown.

    ``unit``: what their numbers count where it is not lines. ``read``: rows met by the reader,
    usable or not. ``blank``: blank lines, which are not rows. ``other_lines``: further lines that
    begin no row, by kind (header, continued: inside a quoted field, ...), so that of a text file
    lines = ``read`` + ``blank`` + ``other_lines``. ``notes``: what a reader noticed and the user
    should know.
    """

    def __init__(self, source: str, unit: str = "") -> None:
        self.source, self.unit = source, unit
        self.counts: Counter[str] = Counter()
        self.first: list[tuple[int, str]] = []
        self.hints: dict[str, str] = {}
        self.read = self.blank = 0
        self.other_lines: Counter[str] = Counter()
        self.notes: list[str] = []

    def add(self, line: int, fault: Fault) -> None:
        self.counts[fault.reason] += 1
        if fault.hint is not None:
            self.hints.setdefault(fault.reason, fault.hint)
        if len(self.first) < _SHOWN or line < self.first[-1][0]:
            bisect.insort(self.first, (line, bounded(fault.detail)))
            del self.first[_SHOWN:]

    def count_row(self, rows: int = 1) -> None:
        """The reader met ``rows`` rows."""
        self.read += rows

    def count_blank(self) -> None:
        """The reader met a blank line that is not a row."""
        self.blank += 1

    def __len__(self) -> int:
        return self.counts.total()

    def to_json(self) -> str:
        """All of it but where it is from."""
        kept = ("counts", "first", "hints", "read", "blank", "other_lines", "notes")
        return json.dumps({name: getattr(self, name) for name in kept})

    @classmethod
    def from_json(cls, content: str | bytes, source: str, unit: str = "") -> BadRows:
        """What ``to_json`` wrote, of rows that now are at ``source``."""
        bad = cls(source, unit)
        for name, value in json.loads(content).items():
            setattr(bad, name, value)
        bad.counts, bad.other_lines = Counter(bad.counts), Counter(bad.other_lines)
        bad.first = [(line, detail) for line, detail in bad.first]
        return bad


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
        lines += [f"  {bad.source}: {note}" for note in bad.notes]
    rows = "1 bad row" if total == 1 else f"{total:,} bad rows"
    hints = dict.fromkeys(hint for bad in found for hint in bad.hints.values())
    action = "Fix them, or leave them out with data.on_bad_row=skip"
    raise DataError("\n".join([rows, *lines, ". ".join([action, *hints])]))
