"""The results of a run as tables, for every output that shows them.

    metrics_table        metric × split                     group_table       group × metric
    calibration_table    before and after calibration       teacher_table     teacher and student
    parameter_table      trainable, kept and exported parameters of each component

Each returns a ``TableItem`` with plain values and a note in plain text. ``format_cell`` writes one
value. The terminal (``report.tables``), report.html (``report.page``) and the model card
(``export.model_card``) render the same tables in their own markup.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from bertft.tasks.report_items import ByteCount, Percent, TableCell, TableItem
from bertft.utils.metric_names import distinct_metrics, order_metrics, split_metric_groups
from bertft.utils.numbers import format_bytes, format_count, format_number, format_score

__all__ = [
    "calibration_table",
    "describe_calibration",
    "format_cell",
    "format_interval",
    "group_table",
    "metrics_table",
    "parameter_table",
    "teacher_table",
]

_PARAMETER_KINDS = ("trainable", "kept", "exported")
_PARAMETER_TITLES = ("trainable", "kept after pruning", "exported")


def metrics_table(
    metrics_by_split: Mapping[str, Mapping[str, float] | None],
    selection_metric: str | None,
    *,
    title: str = "Metrics",
    note: str = "",
    intervals: Mapping[str, Mapping[str, tuple[float, float]]] | None = None,
) -> TableItem | None:
    """One row per metric and one column per split.

    A metric that always equals another one of the table is left out (see ``distinct_metrics``).

    Args:
        metrics_by_split: A split without metrics (None or empty) gets no column.
        selection_metric: The metric that selects the checkpoint. It comes first and is marked.
        intervals: Split → metric → ends of its 95 % confidence interval. A split with intervals
            has a second column.

    Returns:
        None if no split has metrics. Metrics of groups (``group/metric``) are in ``group_table``.
    """
    overall = {
        split: split_metric_groups(metrics)[0]
        for split, metrics in metrics_by_split.items()
        if metrics
    }
    names = distinct_metrics(
        order_metrics((name for values in overall.values() for name in values), selection_metric)
    )
    if not names:
        return None
    head = ["metric"]
    columns: list[list[TableCell]] = [[*names]]
    for split, values in overall.items():
        head.append(split)
        columns.append([values.get(name) for name in names])
        if split_intervals := (intervals or {}).get(split):
            head.append("95% interval")
            columns.append([format_interval(split_intervals.get(name)) for name in names])
    return TableItem(
        "metrics",
        title,
        note,
        head=tuple(head),
        rows=[list(cells) for cells in zip(*columns, strict=True)],
        strong=(0,) if names[0] == selection_metric else (),
        kinds=("word", *("number" for _ in head[1:])),
    )


def format_interval(ends: tuple[float, float] | None) -> str:
    """``0.8873–0.9266``; a dash for None."""
    return "–" if ends is None else f"{format_score(ends[0])}–{format_score(ends[1])}"


def group_table(metrics: Mapping[str, float], split: str) -> TableItem | None:
    """One row per group (a type of entity, for example) and one column per metric of groups.

    None if ``metrics`` has no metric of a group.
    """
    groups = split_metric_groups(metrics)[1]
    if not groups:
        return None
    names = list(dict.fromkeys(name for values in groups.values() for name in values))
    rows = [
        [group, *(_as_count(values.get(n)) if n == "support" else values.get(n) for n in names)]
        for group, values in groups.items()
    ]
    title = f"Groups, {split}"
    return TableItem(f"groups-{split}", title, head=(split, *names), rows=rows)


def calibration_table(
    calibration: Mapping[str, Any], positive_class: str | None = None
) -> TableItem:
    """Metrics on validation before and after calibration; ``calibration`` is from metrics.json."""
    rows: list[list[TableCell]] = [
        [title, calibration[name]["before"], calibration[name]["after"]]
        for name, title in (("ece", "expected calibration error"), ("loss", "loss"))
        if name in calibration
    ]
    if calibration.get("threshold") is not None:
        tuned = calibration["tuned"]
        rows.append([f"{tuned['metric']} with the threshold", tuned["before"], tuned["after"]])
    if "observed" in calibration:
        rows += [[name, None, value] for name, value in calibration["observed"].items()]
    note = " ".join(describe_calibration(calibration, positive_class))
    head = ("validation", "before", "after")
    return TableItem("calibration", "Calibration", note, head=head, rows=rows)


def describe_calibration(
    calibration: Mapping[str, Any], positive_class: str | None = None
) -> list[str]:
    """What was fitted on validation, in sentences.

    ``positive_class`` is the class that a single threshold decides on, in the markup of the output.
    """
    sentences = []
    temperature, threshold = calibration.get("temperature"), calibration.get("threshold")
    if temperature is not None:
        sentences.append(
            f"The logits are divided by a temperature of {format_number(temperature)}."
        )
    if isinstance(threshold, Mapping):
        sentences.append(f"Each of the {len(threshold)} labels has its own probability threshold.")
    elif threshold is not None:
        sentences.append(
            f"{positive_class or 'The second class'} is predicted if its probability is at least"
            f" {format_number(threshold)}."
        )
    if sentences:
        fitted = "This was" if temperature is None or threshold is None else "Both were"
        sentences.append(
            f"{fitted} fitted on the validation rows, so metrics on validation are optimistic;"
            " metrics on test are not."
        )
    if (sets := calibration.get("conformal")) is not None:
        sentences.append(
            "Prediction sets contain the true answer with a probability of at least"
            f" {sets['coverage']:.4g}. They were calibrated on {format_count(sets['rows'])} of the"
            f" {format_count(calibration['rows'])} validation rows; their coverage and size are for"
            " the other rows."
        )
    if "bins" in calibration:
        sentences.append(f"The calibration error uses {calibration['bins']} bins.")
    return sentences


def teacher_table(distillation: Mapping[str, Any]) -> TableItem:
    """Teacher and student on validation; ``distillation`` is from metrics.json."""
    rows: list[list[TableCell]] = []
    for side in ("teacher", "student"):
        facts = distillation[side]
        size = facts.get("bytes")
        rows.append(
            [
                side,
                facts["value"],
                facts.get("parameters"),
                None if size is None else ByteCount(size),
                _as_count(facts["rows_per_second"]),
            ]
        )
    return TableItem(
        "distillation",
        "Teacher and student",
        f"Teacher and student agree on {distillation['agreement']:.1%} of the validation rows.",
        head=("validation", distillation["metric"], "parameters", "size in fp32", "rows/s"),
        rows=rows,
    )


def parameter_table(counts: Mapping[str, Any]) -> TableItem:
    """One row per component, then the total and full fine-tuning for comparison.

    Args:
        counts: ``TaskModel.count_parameters()``, with "base", "head" and "parts": trainable, kept
            (after pruning) and exported parameters by component.
    """
    base, head = counts["base"], counts["head"]
    full = base + head
    rows = {"head and new modules": dict.fromkeys(_PARAMETER_KINDS, head)}
    rows |= {
        name.replace("_", " "): component_counts
        for name, component_counts in counts["parts"].items()
        if name != "head"
    }
    rows["total"] = {kind: sum(row[kind] for row in rows.values()) for kind in _PARAMETER_KINDS}
    total_row = len(rows) - 1
    rows["full fine-tuning"] = dict.fromkeys(_PARAMETER_KINDS, full)
    # Without pruning, and if everything trained is exported, a column would repeat the one before.
    kinds, previous = ["trainable"], "trainable"
    for kind in _PARAMETER_KINDS[1:]:
        if any(row[kind] != row[previous] for row in rows.values()):
            kinds.append(kind)
            previous = kind
    titles = dict(zip(_PARAMETER_KINDS, _PARAMETER_TITLES, strict=True))
    return TableItem(
        "parameters",
        "Parameters",
        f"The base model has {format_count(base)} parameters.",
        head=(
            "component",
            *(titles[kind] for kind in kinds),
            "% of full",
            "size in fp32",
        ),
        rows=[
            [
                name,
                *(row[kind] for kind in kinds),
                Percent(row["trainable"] / full) if full else None,
                ByteCount(4 * row["exported"]),
            ]
            for name, row in rows.items()
        ],
        strong=(total_row,),
    )


def format_cell(value: TableCell) -> str:
    """The text of one cell: a dash for None and NaN."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, str):
        return value
    if isinstance(value, Percent):
        return _format_percent(value)
    if isinstance(value, ByteCount):
        return format_bytes(value)
    return format_count(value) if isinstance(value, int) else format_score(value)


def _format_percent(value: float) -> str:
    """Small fractions keep digits: 0.0014 % is not shown as 0.0 %."""
    if 0 < value < 0.0001:
        return f"{value:.4%}"
    return f"{value:.2%}" if 0 < value < 0.01 else f"{value:.1%}"


def _as_count(value: float | None) -> int | None:
    return None if value is None else round(value)
