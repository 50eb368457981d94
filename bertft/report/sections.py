"""The sections of a run's report, in order, each a function from ``Material`` to exhibits.

A section that has nothing to show yields nothing and is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bertft.report.context import ReportContext, Series
from bertft.tasks.report_items import (
    ByteCount,
    LineChart,
    Percent,
    ReportItem,
    TableCell,
    TableItem,
)
from bertft.utils.numbers import format_bytes, format_count, format_duration, split_metric_groups

__all__ = ["SECTIONS", "Section"]

_COLUMNS = ("trainable", "kept", "exported")


@dataclass(frozen=True)
class Section:
    """``name`` is its anchor in the page."""

    name: str
    title: str
    build_items: Callable[[ReportContext], Iterator[ReportItem]]


def _metrics_items(context: ReportContext) -> Iterator[ReportItem]:
    """Every metric of the best checkpoint, the one that chose it first."""
    metrics_by_split = {name: context.metrics.get(name) for name in ("validation", "test")}
    splits = {
        name: split_metric_groups(values)[0] for name, values in metrics_by_split.items() if values
    }
    if not splits:
        return
    chosen = context.task.metric
    names = dict.fromkeys(name for values in splits.values() for name in values)
    ordered = sorted(names, key=lambda each: each != chosen)
    rows: list[list[TableCell]] = [
        [name, *(values.get(name) for values in splits.values())] for name in ordered
    ]
    note = f"{chosen} chose the checkpoint."
    yield TableItem("scores", "All metrics", note, head=("metric", *splits), rows=rows, strong=(0,))
    calibration = context.metrics.get("calibration")
    if calibration is not None:
        yield _calibration_table(calibration)


def _calibration_table(calibration: Mapping[str, Any]) -> TableItem:
    """What a temperature and thresholds, fitted after training, changed on validation."""
    notes, rows = [], list[list[TableCell]]()
    if "ece" in calibration:
        notes.append(
            f"Logits are divided by a temperature of {calibration['temperature'] or 1.0:.4g}."
        )
        names = {"ece": "expected calibration error", "loss": "loss"}
        rows += [
            [text, calibration[key]["before"], calibration[key]["after"]]
            for key, text in names.items()
        ]
    if "tuned" in calibration:
        tuned, threshold = calibration["tuned"], calibration["threshold"]
        notes.append(
            f"The second class is given from a probability of {threshold:.4g}."
            if isinstance(threshold, float)
            else "Each label is given from a probability of its own."
        )
        rows.append([f"{tuned['metric']}, by threshold", tuned["before"], tuned["after"]])
    notes.append("Fitted to these very rows: the test split tells what it is worth.")
    head = ("on validation", "before", "after")
    return TableItem("calibration", "Fitted after training", " ".join(notes), head=head, rows=rows)


def _training_items(context: ReportContext) -> Iterator[ReportItem]:
    history, metric = context.history, context.task.metric
    best = context.metrics["best"]["step"]
    loss = {"validation": history.evaluations.get("loss"), "training": history.loss}
    curves = {name: each for name, each in loss.items() if each is not None and each[0]}
    if curves:
        skipped = (
            f" {history.skipped_steps} steps were not applied." if history.skipped_steps else ""
        )
        yield LineChart(
            "loss",
            "Loss",
            f"Mean of the steps between two points.{skipped}",
            series=curves,
            marked_step=best if "validation" in curves else None,
        )
    if metric != "loss" and len(history.evaluations[metric][0]) > 1:  # one is no curve
        yield LineChart(
            "metric",
            metric,
            "On validation; the ring is the checkpoint that was kept.",
            series={metric: history.evaluations[metric]},
            marked_step=best,
        )
    rates = _merge_equal_rates(history.learning_rates)
    if rates:
        yield LineChart("learning_rate", "Learning rate", "By group of parameters.", series=rates)


def _merge_equal_rates(rates: Mapping[str, Series]) -> dict[str, Series]:
    """Groups of one rate share a curve."""
    merged: dict[tuple[float, ...], tuple[list[str], Series]] = {}
    for name, series in rates.items():
        names, _ = merged.setdefault(tuple(series[1]), ([], series))
        names.append(name.partition("/")[0].replace("_", " "))
    return {", ".join(dict.fromkeys(names)): series for names, series in merged.values()}


def _prediction_items(context: ReportContext) -> Iterator[ReportItem]:
    if context.outputs is not None:
        yield from context.task.report_items(context.outputs, context.validation)
    elif context.missing_outputs_reason:
        yield TableItem("answers", "Answers", context.missing_outputs_reason, head=(), rows=())


def _method_items(context: ReportContext) -> Iterator[ReportItem]:
    for component in context.components:
        yield from component.report_items(context.model, context.history.component_metrics)


def _distillation_items(context: ReportContext) -> Iterator[ReportItem]:
    distillation = context.metrics.get("distillation")
    if distillation is None:
        return
    rows: list[list[TableCell]] = [
        [
            side,
            distillation[side]["value"],
            distillation[side]["parameters"],
            ByteCount(distillation[side]["bytes"]),
            round(distillation[side]["rows_per_second"])
            if distillation[side]["rows_per_second"]
            else None,
        ]
        for side in ("teacher", "student")
    ]
    yield TableItem(
        "distillation_sides",
        "Teacher and student",
        f"They give the same answer to {distillation['agreement']:.1%} of validation.",
        head=("", distillation["metric"], "parameters", "fp32 weights", "rows/s in evaluation"),
        rows=rows,
        strong=(1,),
    )


def _parameter_items(context: ReportContext) -> Iterator[ReportItem]:
    """As the terminal has them, and what fine-tuning everything would train and store."""
    counts = context.parameter_counts
    base, head = counts["base"], counts["head"]
    lines: dict[str, Mapping[str, int]] = {"head and new modules": dict.fromkeys(_COLUMNS, head)}
    lines |= {
        name.replace("_", " "): part for name, part in counts["parts"].items() if name != "head"
    }
    total = {name: sum(line[name] for line in lines.values()) for name in _COLUMNS}
    everything = dict.fromkeys(_COLUMNS, base + head)
    lines |= {"this run": total, "full fine-tuning": everything}
    yield TableItem(
        "parameters",
        "Parameters",
        f"The base has {format_count(base)}; weights in fp32.",
        head=("", "trainable", "kept after pruning", "exported", "of full", "to store"),
        rows=[
            [
                name,
                *(line[each] for each in _COLUMNS),
                Percent(line["trainable"] / (base + head)),
                ByteCount(4 * line["exported"]),
            ]
            for name, line in lines.items()
        ],
        strong=(len(lines) - 2,),
    )


def _speed_items(context: ReportContext) -> Iterator[ReportItem]:
    history, train = context.history, context.metrics["train"]
    if len(history.tokens_per_second[0]) > 1:
        yield LineChart(
            "throughput",
            "Throughput",
            "Tokens a second, forward and backward.",
            series={"tokens/s": history.tokens_per_second},
        )
    manifest, padding_fractions = context.manifest, context.padding_fractions
    hardware = manifest["hardware"]
    rows: list[list[TableCell]] = [
        ["steps", format_count(train["steps"])],
        ["time in steps", format_duration(train["seconds"])],
        ["rows a second", format_count(train["rows_per_second"])],
        ["tokens a second", format_count(train["tokens_per_second"])],
        ["peak memory", format_bytes(train["peak_memory_bytes"])],
        ["layout", manifest["layout"]],
        ["cells that hold no token", f"{padding_fractions[manifest['layout']]:.1%}"],
        ["the same if padded", f"{padding_fractions['padded']:.1%}"],
        ["device", hardware.get("gpu") or hardware["cpu"] or hardware["device"]],
        ["precision", manifest["precision"]],
    ]
    yield TableItem("speed", "Time and memory", head=("", ""), rows=rows)


def _unused_row_reasons(split: Mapping[str, Any]) -> str:
    """Why rows of the split, or parts of them, are not used."""
    counts = {**split["skipped"], **split.get("unused", {}), **split.get("dropped", {})}
    return ", ".join(f"{number:,} × {reason}" for reason, number in counts.items() if number)


def _optional_share(value: float | None) -> TableCell:
    """A run of an earlier version, or a vocabulary without an unknown token, has none."""
    return "" if value is None else Percent(value)


def _data_items(context: ReportContext) -> Iterator[ReportItem]:
    splits = context.manifest["data"]["splits"]
    yield TableItem(
        "data",
        "Rows",
        "Lengths in tokens a feature.",
        head=(
            "split",
            "rows read",
            "used",
            "skipped",
            "other splits or not drawn",
            "median",
            "90 %",
            "longest",
            "truncated",
            "unknown",
            "reasons",
        ),
        rows=[
            [
                name,
                each.get("read"),
                each["rows"],
                sum(each["skipped"].values()),
                sum(each.get("unused", {}).values()),
                *(round(each["lengths"][q]) for q in ("median", "90 %", "max")),
                Percent(each["truncated"]),
                _optional_share(each.get("unknown")),
                _unused_row_reasons(each),
            ]
            for name, each in splits.items()
        ],
    )
    base, packages = context.manifest["base"], context.manifest["packages"]
    rows: list[list[TableCell]] = [
        ["base", base["name"]],
        ["revision", base.get("revision")],
        ["sha256 of its weights", base.get("sha256")],
        *([f"sha256 of {name}", each["fingerprint"]] for name, each in splits.items()),
        ["seeds", ", ".join(f"{k} {v}" for k, v in context.manifest["seeds"].items())],
        ["bertft", context.manifest["bertft"]],
        *([name, packages[name]] for name in ("torch", "transformers") if name in packages),
    ]
    yield TableItem("provenance", "Where it came from", head=("", ""), rows=rows)


SECTIONS = (
    Section("scores", "Result", _metrics_items),
    Section("training", "Training", _training_items),
    Section("answers", "Answers", _prediction_items),
    Section("teacher", "Teacher", _distillation_items),
    Section("method", "Method", _method_items),
    Section("parameters", "Parameters", _parameter_items),
    Section("speed", "Speed", _speed_items),
    Section("data", "Data", _data_items),
)
