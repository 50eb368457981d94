"""A comparison as tables of words: for the terminal, and for the page to dress.

cells(comparison)      head and a row a line          settings(comparison)   setting × line
"""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bertft.report.compare.comparison import ComparedRow, Comparison
from bertft.report.console import plain_console
from bertft.report.result_rows import COST_COLUMNS, format_result_cells
from bertft.utils.numbers import format_count

__all__ = ["comparison_cells", "comparison_notes", "differing_settings_table", "print_comparison"]

_FILE_WIDTH = 200  # where no terminal sets one


def comparison_cells(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Line, value, difference, p, then what it costs."""
    runs, parameters, *rest = COST_COLUMNS
    head = ["", comparison.metric, "difference", "p", runs, parameters, "kept", *rest]
    rows = []
    for row in comparison.rows:
        value, number, method, *costs = format_result_cells(row.result, comparison.metric)
        change, p = _difference_cells(row)
        rows.append(
            [row.name, value, change, p, number, method, format_count(row.kept_parameters), *costs]
        )
    return head, rows


def _difference_cells(row: ComparedRow) -> tuple[str, str]:
    """``-0.0123 [-0.0300, 0.0050]`` and p; a dash where there is none."""
    gap = row.difference
    if gap is None:
        return ("best" if row.result.best else "–"), "–"
    words = f"{gap.value:+.4f} [{gap.low:+.4f}, {gap.high:+.4f}]"
    return words, "< 0.001" if gap.p < 0.001 else f"{gap.p:.3f}"


def differing_settings_table(
    comparison: Comparison, all_settings: bool = True
) -> tuple[list[str], list[list[str]]]:
    """What differs: a row a setting, a column a line; an empty cell where a line lacks it.

    Without ``all_settings`` only where lines that have the setting differ in it: what a part that
    one method has and the others lack is set to, the method's name stands for.
    """
    compared_rows = comparison.rows
    names = dict.fromkeys(name for each in compared_rows for name in each.result.settings)
    rows = []
    for name in names:
        if any(other.startswith(f"{name}.") for other in names):
            continue  # a part that is null in some: its settings are empty there
        values = [each.result.settings.get(name, "") for each in compared_rows]
        if all_settings or len({value for value in values if value}) > 1:
            rows.append([name, *values])
    return ["setting", *(each.name for each in compared_rows)], rows


def comparison_notes(comparison: Comparison) -> list[str]:
    """What the numbers rest on, and why there are none."""
    baselines = list(dict.fromkeys(e.baseline for e in comparison.rows if e.difference is not None))
    notes = []
    if baselines:
        notes.append(
            f"difference to {', '.join(map(str, baselines))}: mean over the seeds, with its 95 %"
            f" interval from {comparison.draws:,} paired draws of the validation rows; p: how often"
            " the order would be the other one, twice"
        )
    notes += [f"{e.name}: no difference: {e.reason}" for e in comparison.rows if e.reason]
    return [*notes, *comparison.notes]


def print_comparison(comparison: Comparison, console: Console | None = None) -> None:
    """Print the table, what differs, and what there is to say of it."""
    console = console or plain_console()
    if not console.is_terminal and console.width < _FILE_WIDTH:
        console = plain_console(file=console.file, width=_FILE_WIDTH)
    head, rows = comparison_cells(comparison)
    table = Table(title="runs", title_justify="left")
    for index, name in enumerate(head):
        table.add_column(name, justify="left" if index == 0 else "right", overflow="fold")
    for row, compared_row in zip(rows, comparison.rows, strict=True):
        table.add_row(*map(Text, row), style="bold" if compared_row.result.best else None)
    console.print(table)
    head, rows = differing_settings_table(comparison, all_settings=False)
    if rows:
        table = Table(title="what differs", title_justify="left")
        for name in head:
            table.add_column(Text(name), overflow="fold")
        for row in rows:
            table.add_row(*map(Text, row))
        console.print(table)
    for line in comparison_notes(comparison):
        console.print(line, highlight=False, soft_wrap=True)
