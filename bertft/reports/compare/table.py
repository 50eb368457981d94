"""A comparison as tables of words: for the terminal, and for the page to dress.

cells(comparison)      head and a row a line          settings(comparison)   setting × line
"""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bertft.formats.figures import count
from bertft.reports.compare.comparison import Compared, Comparison
from bertft.reports.console import plain_console
from bertft.reports.lines import FIGURES, figures

__all__ = ["cells", "sentences", "settings", "show"]

_FILE_WIDTH = 200  # where no terminal sets one


def cells(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Line, value, difference, p, then what it costs."""
    runs, parameters, *rest = FIGURES
    head = ["", comparison.metric, "difference", "p", runs, parameters, "kept", *rest]
    rows = []
    for each in comparison.lines:
        value, number, method, *costs = figures(each.line, comparison.metric)
        change, p = _difference(each)
        rows.append([each.name, value, change, p, number, method, count(each.kept), *costs])
    return head, rows


def _difference(each: Compared) -> tuple[str, str]:
    """``-0.0123 [-0.0300, 0.0050]`` and p; a dash where there is none."""
    gap = each.difference
    if gap is None:
        return ("best" if each.line.best else "–"), "–"
    words = f"{gap.value:+.4f} [{gap.low:+.4f}, {gap.high:+.4f}]"
    return words, "< 0.001" if gap.p < 0.001 else f"{gap.p:.3f}"


def settings(comparison: Comparison, whole: bool = True) -> tuple[list[str], list[list[str]]]:
    """What differs: a row a setting, a column a line; an empty cell where a line lacks it.

    Without ``whole`` only where lines that have the setting differ in it: what a part that one
    method has and the others lack is set to, the method's name stands for.
    """
    lines = comparison.lines
    names = dict.fromkeys(name for each in lines for name in each.line.settings)
    rows = []
    for name in names:
        if any(other.startswith(f"{name}.") for other in names):
            continue  # a part that is null in some: its settings are empty there
        values = [each.line.settings.get(name, "") for each in lines]
        if whole or len({value for value in values if value}) > 1:
            rows.append([name, *values])
    return ["setting", *(each.name for each in lines)], rows


def sentences(comparison: Comparison) -> list[str]:
    """What the numbers rest on, and why there are none."""
    others = list(dict.fromkeys(e.against for e in comparison.lines if e.difference is not None))
    said = []
    if others:
        said.append(
            f"difference to {', '.join(map(str, others))}: mean over the seeds, with its 95 %"
            f" interval from {comparison.draws:,} paired draws of the validation rows; p: how often"
            " the order would be the other one, twice"
        )
    said += [f"{e.name}: no difference: {e.why}" for e in comparison.lines if e.why]
    return [*said, *comparison.notes]


def show(comparison: Comparison, console: Console | None = None) -> None:
    """Print the table, what differs, and what there is to say of it."""
    console = console or plain_console()
    if not console.is_terminal and console.width < _FILE_WIDTH:
        console = plain_console(file=console.file, width=_FILE_WIDTH)
    head, rows = cells(comparison)
    table = Table(title="runs", title_justify="left")
    for place, name in enumerate(head):
        table.add_column(name, justify="left" if place == 0 else "right", overflow="fold")
    for row, each in zip(rows, comparison.lines, strict=True):
        table.add_row(*map(Text, row), style="bold" if each.line.best else None)
    console.print(table)
    head, rows = settings(comparison, whole=False)
    if rows:
        table = Table(title="what differs", title_justify="left")
        for name in head:
            table.add_column(Text(name), overflow="fold")
        for row in rows:
            table.add_row(*map(Text, row))
        console.print(table)
    for line in sentences(comparison):
        console.print(line, highlight=False, soft_wrap=True)
