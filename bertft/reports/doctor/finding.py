"""One thing that was looked at: how it is, what was found, what to do about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

__all__ = ["FAILED", "OK", "WARNING", "CheckResult", "checks_table"]

OK, WARNING, FAILED = "ok", "note", "FAILED"
_STYLES = {OK: "green", WARNING: "yellow", FAILED: "bold red"}


@dataclass(frozen=True)
class CheckResult:
    """``status`` is OK, WARNING (training works all the same) or FAILED."""

    name: str
    status: str
    detail: str
    advice: str = ""


def checks_table(results: Sequence[CheckResult]) -> Table:
    """A line each, the advice below what was found."""
    table = Table(show_header=False, title="doctor", title_justify="left")
    for _ in range(3):
        table.add_column(overflow="fold")
    for result in results:
        text = Text(result.detail)
        if result.advice:
            text.append(f"\n→ {result.advice}", _STYLES[result.status] if result.status != OK else "dim")
        table.add_row(Text(result.status, _STYLES[result.status]), Text(result.name), text)
    return table
