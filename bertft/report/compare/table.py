"""A comparison as tables of text, for the terminal and for the page."""

from __future__ import annotations

from rich.console import Console

from bertft.report.compare.comparison import ComparedRow, Comparison
from bertft.report.console import wide_console
from bertft.report.html_table import html_table
from bertft.report.result_rows import COST_COLUMNS, PARAMETERS_NOTE, format_result_cells
from bertft.report.terminal_table import FittedTable, move_constant_columns
from bertft.tasks.report_items import TableItem
from bertft.utils.numbers import format_count

__all__ = [
    "DisplayedComparison",
    "comparison_cells",
    "comparison_notes",
    "differing_settings_table",
    "print_comparison",
    "results_table",
]

_LONG_NAME = 28  # a longer name wraps in the page
# Columns that a narrow terminal does not show, the least important one first.
_DROPPABLE = ("peak memory", "checkpoint", "seconds", "after pruning", "runs")


class DisplayedComparison(Comparison):
    """A comparison that Jupyter displays as its table of results."""

    def _repr_html_(self) -> str:
        return html_table(results_table(self), comparison_notes(self))


def print_comparison(comparison: Comparison, console: Console | None = None) -> None:
    """Print the results, the settings that differ, and the notes."""
    console = wide_console(console)
    console.print(FittedTable(results_table(comparison), droppable=_DROPPABLE))
    head, rows = differing_settings_table(comparison, all_settings=False)
    if rows:
        kinds = ["word"] * len(head)
        title = "Differences between runs"
        console.print(FittedTable(TableItem("settings", title, head=head, rows=rows, kinds=kinds)))
    for line in comparison_notes(comparison):
        console.print(line, highlight=False, soft_wrap=not console.is_terminal)


def results_table(comparison: Comparison) -> TableItem:
    """The results without columns that say nothing: one value in all rows, or a repetition."""
    head, rows = comparison_cells(comparison)
    trained, after_pruning = head.index("method parameters"), head.index("after pruning")
    if all(row[trained] == row[after_pruning] for row in rows):
        head = [*head[:after_pruning], *head[after_pruning + 1 :]]
        rows = [[*row[:after_pruning], *row[after_pruning + 1 :]] for row in rows]
    strong = [index for index, row in enumerate(comparison.rows) if row.result.best]
    has_long_name = any(len(row.name) > _LONG_NAME for row in comparison.rows)
    kinds = ["text" if has_long_name else "word", *["number"] * (len(head) - 1)]
    table = TableItem(
        "results", "Results", PARAMETERS_NOTE, head=head, rows=rows, strong=strong, kinds=kinds
    )
    return move_constant_columns(table, ("p", *COST_COLUMNS))


def comparison_cells(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Head and rows: name, metric, difference, p, then the costs."""
    runs, parameters, *costs = COST_COLUMNS
    head = ["name", comparison.metric, "difference", "p", runs, parameters, "after pruning", *costs]
    rows = []
    for row in comparison.rows:
        value, run_count, trained, *cost_cells = format_result_cells(row.result, comparison.metric)
        after_pruning = format_count(row.kept_parameters)
        rows.append(
            [
                row.name,
                value,
                *_difference_cells(row),
                run_count,
                trained,
                after_pruning,
                *cost_cells,
            ]
        )
    return head, rows


def _difference_cells(row: ComparedRow) -> tuple[str, str]:
    """``tie -0.0123 [-0.0300, +0.0050]`` and p; dashes if there is no difference."""
    difference = row.difference
    if difference is None:
        return ("best" if row.result.best else "–"), "–"
    text = f"{difference.value:+.4f} [{difference.low:+.4f}, {difference.high:+.4f}]"
    if row.is_tie:
        text = f"tie {text}"
    return text, "< 0.001" if difference.p < 0.001 else f"{difference.p:.3f}"


def differing_settings_table(
    comparison: Comparison, all_settings: bool = True
) -> tuple[list[str], list[list[str]]]:
    """Head and rows: one row per setting that differs, one column per row of the comparison.

    A cell is empty if a run does not have the setting. ``all_settings``: also settings of one
    method, which have the same value in all runs of that method.
    """
    compared_rows = comparison.rows
    names = dict.fromkeys(name for row in compared_rows for name in row.result.settings)
    rows = []
    for name in names:
        if any(other.startswith(f"{name}.") for other in names):
            continue  # a node that is null in some runs: its settings are listed
        values = [row.result.settings.get(name, "") for row in compared_rows]
        if all_settings or len(set(filter(None, values))) > 1:
            rows.append([name, *values])
    return ["setting", *(row.name for row in compared_rows)], rows


def comparison_notes(comparison: Comparison) -> list[str]:
    """How the numbers were computed, and why some are missing."""
    rows, notes = comparison.rows, []
    baselines = dict.fromkeys(row.baseline for row in rows if row.difference is not None)
    if baselines:
        notes.append(
            f"difference to {', '.join(map(str, baselines))}: mean over the seeds, with a 95 %"
            f" confidence interval from a paired bootstrap of the validation rows"
            f" ({comparison.draws:,} bootstrap samples); p: two-sided p value; tie: the interval"
            " contains 0"
        )
    for row in rows:
        if row.reason:
            difference = f"difference to {row.baseline}" if row.baseline else "difference"
            notes.append(f"{row.name}: {difference} not computed: {row.reason}")
    return [*notes, *comparison.notes]
