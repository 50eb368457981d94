"""Values per module of several runs next to each other, such as the ranks after pruning."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from statistics import fmean

from bertft.methods.layer_grid import grid_of_names
from bertft.report.compare.comparison import ComparedRow, Comparison
from bertft.tasks.report_items import HeatMap

__all__ = ["module_heat_maps"]

_MAX_ROWS = 6  # rows of a comparison with heat maps, the best ones


def module_heat_maps(comparison: Comparison) -> Iterator[HeatMap]:
    """A heat map per value and row of the comparison, the mean over the row's seeds.

    The heat maps of one value have the same scale, so that their colours can be compared.
    """
    rows_by_value: dict[tuple[str, str], list[tuple[ComparedRow, dict[str, float], int]]]
    rows_by_value = defaultdict(list)
    for row in comparison.rows:
        for value, (means, runs) in _means(row).items():
            rows_by_value[value].append((row, means, runs))
    for (component, name), rows in rows_by_value.items():
        largest = max((max(means.values()) for _, means, _ in rows), default=0.0)
        for number, (row, means, runs) in enumerate(rows[:_MAX_ROWS], start=1):
            note = f"Mean of {runs} runs." if runs > 1 else ""
            title, digits = f"{name}: {row.name}", int(runs > 1)
            item = f"module-{component}-{name}-{number}"
            yield grid_of_names(item, title, note, means, digits, largest)


def _means(row: ComparedRow) -> dict[tuple[str, str], tuple[dict[str, float], int]]:
    """(component, value) → the means per module over the runs of ``row``, and their number."""
    runs: dict[tuple[str, str], list[dict[str, float]]] = defaultdict(list)
    for job in row.result.jobs:
        recorded = job.metrics.get("module_values", {}) if job.metrics is not None else {}
        for component, values in recorded.items():
            for name, modules in values.items():
                runs[component, name].append(modules)
    return {
        value: (
            {name: fmean(run[name] for run in of_runs if name in run) for name in of_runs[0]},
            len(of_runs),
        )
        for value, of_runs in runs.items()
        if of_runs[0]
    }
