"""The accounting of rows in one line for people: rows read = rows used + rows left out, by reason.

train.csv: 1,000 rows read = 890 used + 10 skipped (10 × empty text) + 100 held out for validation
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["format_accounting"]


def format_accounting(source: str, counts: Mapping[str, Any]) -> str:
    """``counts`` as ``Rows.accounting`` gives them; reasons with the most rows first."""
    parts = [f"{counts['used']:,} used"]
    skipped = _most_frequent_first(counts["skipped"])
    if skipped:
        reasons = ", ".join(f"{count:,} × {reason}" for reason, count in skipped)
        parts.append(f"{sum(counts['skipped'].values()):,} skipped ({reasons})")
    parts += [f"{count:,} {reason}" for reason, count in _most_frequent_first(counts["unused"])]
    line = f"{source}: {counts['read']:,} {_pluralize('row', counts['read'])} read = "
    line += " + ".join(parts)
    if counts["blank_lines"]:
        line += f"; {counts['blank_lines']:,} blank {_pluralize('line', counts['blank_lines'])}"
    for reason, count in _most_frequent_first(counts["dropped"]):
        line += f"; {count:,} × {reason}"
    return line


def _most_frequent_first(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    nonzero = [(reason, count) for reason, count in counts.items() if count]
    return sorted(nonzero, key=lambda each: -each[1])


def _pluralize(word: str, count: int) -> str:
    return word if count == 1 else f"{word}s"
