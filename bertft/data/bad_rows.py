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

from bertft.errors import DataError, limit_length

__all__ = [
    "UNDECODABLE", "BadRows", "RowError", "format_reasons", "check_skipped_share", "format_location", "raise_or_skip",
]  # fmt: skip

UNDECODABLE = "bytes outside the encoding"

_MAX_SHOWN = 5
_KEPT = {
    "counts": dict, "first": list, "hints": dict, "read": int, "blank": int, "other_lines": dict,
    "notes": list, "dropped": dict,
}  # fmt: skip
_ENCODING_HINT = (
    "If the file has another encoding, name it with data.encoding (gb18030, cp1252, …)"
)


class RowError(Exception):
    """What is wrong with one row: ``reason`` is counted, ``detail`` is shown.

    ``line_offset``: how many lines below the row's first. ``hint``: a setting that may be the remedy,
    given once for all rows with the reason.
    """

    def __init__(
        self, reason: str, detail: str | None = None, line_offset: int = 0, hint: str | None = None
    ) -> None:
        super().__init__(detail or reason)
        self.reason, self.detail, self.line_offset = reason, detail or reason, line_offset
        self.row_id: str | None = None  # the row's own id, where it is known
        self.hint = _ENCODING_HINT if reason == UNDECODABLE else hint


def format_location(source: str, line: int, unit: str = "") -> str:
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
    has one by its line, both kept with ``keep_all``.
    """

    def __init__(self, source: str, unit: str = "", keep_all: bool = False) -> None:
        self.source, self.unit = source, unit
        self.counts: Counter[str] = Counter()
        self.first: list[tuple[int, str]] = []
        self.hints: dict[str, str] = {}
        self.read = self.blank = 0
        self.other_lines: Counter[str] = Counter()
        self.notes: list[str] = []
        self.dropped: Counter[str] = Counter()
        self.all_errors: list[tuple[int, str]] | None = [] if keep_all else None
        self.ids: dict[int, str] = {}

    def add(self, line: int, error: RowError) -> None:
        self.counts[error.reason] += 1
        if error.hint is not None:
            self.hints.setdefault(error.reason, error.hint)
        if len(self.first) < _MAX_SHOWN or line < self.first[-1][0]:
            bisect.insort(self.first, (line, limit_length(error.detail)))
            del self.first[_MAX_SHOWN:]
        if self.all_errors is not None:
            self.all_errors.append((line, error.detail))
            if error.row_id is not None:
                self.ids[line] = error.row_id

    def check_row_counts(self, used: int) -> None:
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


def format_reasons(counts: Counter[str]) -> str:
    """``3 × empty text, 1 × missing label``, the most frequent first."""
    return ", ".join(f"{count:,} × {reason}" for reason, count in counts.most_common())


def raise_or_skip(bad_rows: Sequence[BadRows], policy: str, max_share: float | None = None) -> None:
    """Raise one DataError about all the bad rows, unless ``policy`` is ``skip``.

    ``max_share``: the share of a source's rows that may be skipped (data.max_skipped); None: any.
    """
    bad_rows = [bad for bad in bad_rows if len(bad)]
    if policy == "skip":
        for bad in bad_rows:
            if max_share is not None and len(bad) < bad.read:  # where nothing is left, that is the error
                check_skipped_share(bad, len(bad), bad.read, max_share)
        return
    if not bad_rows:
        return
    total = sum(len(bad) for bad in bad_rows)
    hint = "Fix them, or leave them out with data.on_bad_row=skip"
    shares = [len(bad) / bad.read for bad in bad_rows if bad.read]
    if max_share is not None and any(share > max_share for share in shares):
        hint += f" data.max_skipped={_round_up_to_percent(max(shares))}"
    rows = "1 bad row" if total == 1 else f"{total:,} bad rows"
    raise DataError("\n".join([rows, *_format_first_errors(bad_rows), _append_hints(hint, bad_rows)]))


def check_skipped_share(bad: BadRows, skipped: float, read: int, max_share: float) -> None:
    """DataError where ``skipped`` of ``read`` rows are more than the share ``max_share``."""
    if skipped <= max_share * read + 1e-9:
        return
    raise DataError(
        "\n".join(
            [
                f"{bad.source}: {len(bad):,} of {read:,} rows cannot be used"
                f" ({format_reasons(bad.counts)}), more than data.max_skipped={max_share:g} allows",
                *_format_first_errors([bad]),
                _append_hints(
                    "Fix them, or allow that share to be skipped with"
                    f" data.max_skipped={_round_up_to_percent(skipped / read)}",
                    [bad],
                ),
            ]
        )
    )


def _round_up_to_percent(share: float) -> str:
    """The smallest share in whole percent that allows ``share``."""
    return f"{min(1.0, math.ceil(share * 100 - 1e-9) / 100):g}"


def _format_first_errors(bad_rows: Iterable[BadRows]) -> list[str]:
    lines = []
    for bad in bad_rows:
        lines += [f"  {format_location(bad.source, line, bad.unit)}: {detail}" for line, detail in bad.first]
        if len(bad) > len(bad.first):
            lines.append(f"  … of {len(bad):,} in {bad.source} ({format_reasons(bad.counts)})")
        lines += [f"  {bad.source}: {note}" for note in bad.notes]
    return lines


def _append_hints(action: str, bad_rows: Iterable[BadRows]) -> str:
    """``action``, and what the reasons themselves suggest."""
    return ". ".join([action, *dict.fromkeys(hint for bad in bad_rows for hint in bad.hints.values())])
