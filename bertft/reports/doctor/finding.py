"""One thing that was looked at: how it is, what was found, what to do about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

__all__ = ["FAILED", "OK", "WARNING", "Finding", "findings_table"]

OK, WARNING, FAILED = "ok", "note", "FAILED"
_STYLES = {OK: "green", WARNING: "yellow", FAILED: "bold red"}


@dataclass(frozen=True)
class Finding:
    """``state`` is OK, WARNING (training works all the same) or FAILED."""

    name: str
    state: str
    found: str
    advice: str = ""


def findings_table(findings: Sequence[Finding]) -> Table:
    """A line each, the advice below what was found."""
    table = Table(show_header=False, title="doctor", title_justify="left")
    for _ in range(3):
        table.add_column(overflow="fold")
    for each in findings:
        text = Text(each.found)
        if each.advice:
            text.append(f"\n→ {each.advice}", _STYLES[each.state] if each.state != OK else "dim")
        table.add_row(Text(each.state, _STYLES[each.state]), Text(each.name), text)
    return table
