"""The sections of a run's report in order, each with a function that returns its report items.

A section without items is left out of the page.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bertft.export.result_tables import (
    calibration_table,
    metrics_table,
    parameter_table,
    teacher_table,
)
from bertft.report.context import ReportContext, Series
from bertft.report.intervals import DRAWS
from bertft.tasks.report_items import LineChart, Percent, ReportItem, TableCell, TableItem
from bertft.utils.numbers import format_bytes, format_count, format_duration

__all__ = ["SECTIONS", "Section", "label_balance_table"]


_MAX_BALANCE_CLASSES = 40


@dataclass(frozen=True)
class Section:
    """``name`` is the anchor in the page."""

    name: str
    title: str


# The range of metrics, so that an axis does not show values that cannot occur.
_METRIC_BOUNDS: Mapping[str, tuple[float, float | None]] = {
    **dict.fromkeys(
        ("accuracy", "f1", "f1_macro", "f1_micro", "f1_samples", "precision", "recall"), (0.0, 1.0)
    ),
    **dict.fromkeys(("roc_auc", "roc_auc_macro"), (0.0, 1.0)),
    **dict.fromkeys(("average_precision", "average_precision_macro"), (0.0, 1.0)),
    **dict.fromkeys(("matthews", "pearson", "spearman"), (-1.0, 1.0)),
    **dict.fromkeys(("mse", "perplexity"), (0.0, None)),
}


def _result_items(context: ReportContext) -> Iterator[ReportItem]:
    metrics, task = context.metrics, context.task
    splits = {name: metrics.get(name) for name in ("validation", "test")}
    note = f"Metrics of the checkpoint with the best {task.metric} on validation."
    if metrics["best"]["step"] is None:
        note = "Metrics of the last checkpoint."
    if task.metric_note:
        note += f" {task.metric_note}."
    if any(context.intervals.values()):
        note += f" Intervals: bootstrap over the rows, {DRAWS:,} samples."
    overall = metrics_table(splits, task.metric, note=note, intervals=context.intervals)
    if overall is not None:
        yield overall
    calibration = metrics.get("calibration")
    if calibration is not None:
        classes = task.class_names or []
        yield calibration_table(calibration, classes[1] if len(classes) == 2 else None)


def _training_items(context: ReportContext) -> Iterator[ReportItem]:
    if not context.metrics["train"]["steps"]:  # trainer.max_steps=0
        return
    history, metric = context.history, context.task.metric
    best_step = context.metrics["best"]["step"]
    losses = {"validation": history.evaluations.get("loss"), "training": history.loss}
    curves = {name: series for name, series in losses.items() if series is not None and series[0]}
    if curves:
        note = "Training loss: mean over the steps between two points."
        if history.skipped_steps:
            note += f" {history.skipped_steps} steps were skipped."
        yield LineChart(
            "loss",
            "Loss",
            note,
            series=curves,
            marked_step=best_step if "validation" in curves else None,
            bounds=(0.0, None),
        )
    if metric != "loss" and len(history.evaluations[metric][0]) > 1:  # one point is no curve
        yield LineChart(
            "metric",
            metric,
            "On validation. The ring marks the best checkpoint.",
            series={metric: history.evaluations[metric]},
            marked_step=best_step,
            bounds=_METRIC_BOUNDS.get(metric.rpartition("/")[2]),
        )
    rates = _merge_equal_rates(history.learning_rates)
    if rates:
        yield LineChart("learning_rate", "Learning rate", "Per parameter group.", series=rates)


def _merge_equal_rates(rates: Mapping[str, Series]) -> dict[str, Series]:
    """Parameter groups with equal learning rates share one curve."""
    merged: dict[tuple[float, ...], tuple[list[str], Series]] = {}
    for name, series in rates.items():
        names, _ = merged.setdefault(tuple(series[1]), ([], series))
        names.append(name.partition("/")[0].replace("_", " "))
    return {", ".join(dict.fromkeys(names)): series for names, series in merged.values()}


def _prediction_items(context: ReportContext) -> Iterator[ReportItem]:
    if context.outputs is not None and context.validation is not None:
        yield from context.task.report_items(context.outputs, context.validation)


def _distillation_items(context: ReportContext) -> Iterator[ReportItem]:
    distillation = context.metrics.get("distillation")
    if distillation is not None:
        yield teacher_table(distillation)


def _method_items(context: ReportContext) -> Iterator[ReportItem]:
    for component in context.components:
        yield from component.report_items(context.model, context.history.component_metrics)


def _parameter_items(context: ReportContext) -> Iterator[ReportItem]:
    yield parameter_table(context.parameter_counts)


def _speed_items(context: ReportContext) -> Iterator[ReportItem]:
    history, train = context.history, context.metrics["train"]
    if not train["steps"]:
        return
    if len(history.tokens_per_second[0]) > 1:
        yield LineChart(
            "throughput",
            "Throughput",
            "Tokens per second, forward and backward pass.",
            series={"tokens/s": history.tokens_per_second},
        )
    manifest, padding = context.manifest, context.padding_fractions
    hardware, layout = manifest["hardware"], manifest["layout"]
    rows: list[list[TableCell]] = [
        ["steps", format_count(train["steps"])],
        ["training time", format_duration(train["seconds"])],
        ["rows per second", format_count(train["rows_per_second"])],
        ["tokens per second", format_count(train["tokens_per_second"])],
        ["peak memory", format_bytes(train["peak_memory_bytes"])],
        ["layout", layout],
        ["padding", f"{padding[layout]:.1%} of all token positions"],
    ]
    if layout != "padded":
        rows.append(
            ["padding with layout padded", f"{padding['padded']:.1%} of all token positions"]
        )
    rows += [
        ["device", hardware.get("gpu") or hardware["cpu"] or hardware["device"]],
        ["precision", manifest["precision"]],
    ]
    yield TableItem("speed", "Time and memory", head=("", ""), rows=rows)


def _data_items(context: ReportContext) -> Iterator[ReportItem]:
    splits = context.manifest["data"]["splits"]
    balance = label_balance_table(splits, context.task.class_names)
    if balance is not None:
        yield balance
    yield _splits_table(splits)
    yield TableItem("provenance", "Provenance", head=("", ""), rows=_provenance_rows(context))


def label_balance_table(
    splits: Mapping[str, Mapping[str, Any]], classes: Sequence[str] | None
) -> TableItem | None:
    """The labels of every split: rows and share per class, or minimum, mean and maximum.

    None if no split has label statistics. With more than 40 classes, those with the most training
    rows.
    """
    labelled = {name: split for name, split in splits.items() if split.get("labels")}
    if not labelled:
        return None
    if classes is None:
        names = list(next(iter(labelled.values()))["labels"])
        return TableItem(
            "labels",
            "Labels",
            head=("", *labelled),
            rows=[
                [name, *(_number_or_none(split["labels"].get(name)) for split in labelled.values())]
                for name in names
            ],
        )
    first = next(iter(labelled.values()))["labels"]
    shown = list(classes)
    note = "Rows that have the class, and their share of the split."
    if len(shown) > _MAX_BALANCE_CLASSES:
        shown = sorted(shown, key=lambda name: -first.get(name, 0.0))[:_MAX_BALANCE_CLASSES]
        note += f" The {len(shown)} most frequent of {len(classes)} classes."
    rows: list[list[TableCell]] = []
    for name in shown:
        row: list[TableCell] = [name]
        for split in labelled.values():
            share = split["labels"].get(name, 0.0)
            row += [round(share * split["rows"]), Percent(share)]
        rows.append(row)
    head = ["class"]
    for split_name in labelled:
        head += [split_name, "share"]
    return TableItem("labels", "Label balance", note, head=head, rows=rows)


def _number_or_none(value: Any) -> float | None:
    return None if value is None else float(value)


def _splits_table(splits: Mapping[str, Mapping[str, Any]]) -> TableItem:
    """One column per split, so that any number of facts fits the page."""
    columns = [_split_facts(split) for split in splits.values()]
    rows: list[list[TableCell]] = [
        [fact, *(column[fact] for column in columns)]
        for fact in columns[0]
        if any(column[fact] not in (None, "") for column in columns)
    ]
    return TableItem(
        "data",
        "Splits",
        "Lengths in tokens per sequence (a row, or a window of it), before truncation.",
        head=("", *splits),
        rows=rows,
        kinds=("word", *("text" for _ in columns)),
    )


def _split_facts(split: Mapping[str, Any]) -> dict[str, TableCell]:
    """Name → value; null or empty if the run or its task did not record it."""
    lengths, unknown = split.get("full_lengths") or split["lengths"], split.get("unknown")
    cut = split.get("cut_tokens")
    return {
        "rows read": split.get("read"),
        "used": split["rows"],
        "skipped": sum(split["skipped"].values()),
        "in other splits or not sampled": sum(split.get("unused", {}).values()),
        "median length": round(lengths["median"]),
        "90 % quantile": round(lengths["90 %"]),
        "maximum": round(lengths["max"]),
        "truncated": Percent(split["truncated"]),
        "tokens cut": None if cut is None else Percent(cut),
        "unknown tokens": None if unknown is None else Percent(unknown),
        "reasons": _unused_row_reasons(split),
    }


def _unused_row_reasons(split: Mapping[str, Any]) -> str:
    """Why rows of the split, or parts of them, are not used."""
    counts = {**split["skipped"], **split.get("unused", {}), **split.get("dropped", {})}
    return ", ".join(f"{number:,} × {reason}" for reason, number in counts.items() if number)


def _provenance_rows(context: ReportContext) -> list[list[TableCell]]:
    manifest = context.manifest
    base, packages, splits = manifest["base"], manifest["packages"], manifest["data"]["splits"]
    return [
        ["base model", base["name"]],
        ["revision", base.get("revision")],
        ["sha256 of the base weights", base.get("sha256")],
        *([f"sha256 of {name}", split["fingerprint"]] for name, split in splits.items()),
        ["seeds", ", ".join(f"{name} {seed}" for name, seed in manifest["seeds"].items())],
        ["bertft", manifest["bertft"]],
        *([name, packages[name]] for name in ("torch", "transformers") if name in packages),
    ]


SECTIONS: tuple[tuple[Section, Callable[[ReportContext], Iterator[ReportItem]]], ...] = (
    (Section("results", "Results"), _result_items),
    (Section("training", "Training"), _training_items),
    (Section("predictions", "Predictions"), _prediction_items),
    (Section("distillation", "Distillation"), _distillation_items),
    (Section("method", "Method"), _method_items),
    (Section("parameters", "Parameters"), _parameter_items),
    (Section("speed", "Speed"), _speed_items),
    (Section("data", "Data"), _data_items),
)
