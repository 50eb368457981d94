"""Rows that cannot be used: where they stand, what is wrong with them, how many there are.

And the accounting of a source: rows read = rows used + rows skipped, by reason. A reader counts a
row when it meets it (``count_row``), before anything is made of it, so that a row lost on its way
is found out (``check_conserved``).
"""

from __future__ import annotations

import bisect
import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence

from bertft.errors import DataError, bounded

__all__ = [
    "UNDECODABLE", "BadRows", "Fault", "by_reason", "check_share", "place", "settle",
]  # fmt: skip

UNDECODABLE = "bytes outside the encoding"

_SHOWN = 5
_KEPT = {
    "counts": dict, "first": list, "hints": dict, "read": int, "blank": int, "other_lines": dict,
    "notes": list, "dropped": dict,
}  # fmt: skip
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
        self.row_id: str | None = None  # the row's own id, where it is known
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
    should know. ``dropped``: parts of rows that were ignored while the row itself is used, by
    reason. ``every``: (line, what is wrong) of every bad row, and ``ids`` the own id of each that
    has one by its line, both kept with ``keep_every``.
    """

    def __init__(self, source: str, unit: str = "", keep_every: bool = False) -> None:
        self.source, self.unit = source, unit
        self.counts: Counter[str] = Counter()
        self.first: list[tuple[int, str]] = []
        self.hints: dict[str, str] = {}
        self.read = self.blank = 0
        self.other_lines: Counter[str] = Counter()
        self.notes: list[str] = []
        self.dropped: Counter[str] = Counter()
        self.every: list[tuple[int, str]] | None = [] if keep_every else None
        self.ids: dict[int, str] = {}

    def add(self, line: int, fault: Fault) -> None:
        self.counts[fault.reason] += 1
        if fault.hint is not None:
            self.hints.setdefault(fault.reason, fault.hint)
        if len(self.first) < _SHOWN or line < self.first[-1][0]:
            bisect.insort(self.first, (line, bounded(fault.detail)))
            del self.first[_SHOWN:]
        if self.every is not None:
            self.every.append((line, fault.detail))
            if fault.row_id is not None:
                self.ids[line] = fault.row_id

    def check_conserved(self, used: int) -> None:
        """Hold the rows read to those used and skipped; a reader that does not count is believed.

        Raises RuntimeError, a bug, where a row was lost or made up.
        """
        if not self.read:
            self.read = used + len(self)
        if self.read != used + len(self):
            raise RuntimeError(
                f"{self.source}: {self.read:,} rows read, but {used:,} used and {len(self):,}"
                " skipped: rows are not conserved"
            )

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
        return json.dumps({name: getattr(self, name) for name in _KEPT})

    @classmethod
    def from_json(cls, content: str | bytes, source: str, unit: str = "") -> BadRows:
        """What ``to_json`` wrote, of rows that now are at ``source``.

        TypeError, ValueError or LookupError where it did not write it.
        """
        bad, kept = cls(source, unit), json.loads(content)
        for name, kind in _KEPT.items():
            if not isinstance(kept[name], kind):
                raise TypeError(f"{name} is no {kind.__name__}")
            setattr(bad, name, kept[name])
        for name in ("counts", "other_lines", "dropped"):
            setattr(bad, name, Counter(getattr(bad, name)))
        bad.first = [(line, detail) for line, detail in bad.first]
        return bad


def by_reason(counts: Counter[str]) -> str:
    """``3 × empty text, 1 × missing label``, the most frequent first."""
    return ", ".join(f"{count:,} × {reason}" for reason, count in counts.most_common())


def settle(found: Sequence[BadRows], policy: str, most: float | None = None) -> None:
    """Raise one DataError about all the bad rows, unless ``policy`` is ``skip``.

    ``most``: the share of a source's rows that may be skipped (data.max_skipped); None: any.
    """
    found = [bad for bad in found if len(bad)]
    if policy == "skip":
        for bad in found:
            if most is not None and len(bad) < bad.read:  # where nothing is left, that is the error
                check_share(bad, len(bad), bad.read, most)
        return
    if not found:
        return
    total = sum(len(bad) for bad in found)
    hint = "Fix them, or leave them out with data.on_bad_row=skip"
    shares = [len(bad) / bad.read for bad in found if bad.read]
    if most is not None and any(share > most for share in shares):
        hint += f" data.max_skipped={_rounded_up(max(shares))}"
    rows = "1 bad row" if total == 1 else f"{total:,} bad rows"
    raise DataError("\n".join([rows, *_first_lines(found), _with_hints(hint, found)]))


def check_share(bad: BadRows, skipped: float, read: int, most: float) -> None:
    """DataError where ``skipped`` of ``read`` rows are more than the share ``most``."""
    if skipped <= most * read + 1e-9:
        return
    raise DataError(
        "\n".join(
            [
                f"{bad.source}: {len(bad):,} of {read:,} rows cannot be used"
                f" ({by_reason(bad.counts)}), more than data.max_skipped={most:g} allows",
                *_first_lines([bad]),
                _with_hints(
                    "Fix them, or allow that share to be skipped with"
                    f" data.max_skipped={_rounded_up(skipped / read)}",
                    [bad],
                ),
            ]
        )
    )


def _rounded_up(share: float) -> str:
    """The smallest share in whole percent that allows ``share``."""
    return f"{min(1.0, math.ceil(share * 100 - 1e-9) / 100):g}"


def _first_lines(found: Iterable[BadRows]) -> list[str]:
    lines = []
    for bad in found:
        lines += [f"  {place(bad.source, line, bad.unit)}: {detail}" for line, detail in bad.first]
        if len(bad) > len(bad.first):
            lines.append(f"  … of {len(bad):,} in {bad.source} ({by_reason(bad.counts)})")
        lines += [f"  {bad.source}: {note}" for note in bad.notes]
    return lines


def _with_hints(action: str, found: Iterable[BadRows]) -> str:
    """``action``, and what the reasons themselves suggest."""
    return ". ".join([action, *dict.fromkeys(hint for bad in found for hint in bad.hints.values())])
