"""What ``bertft train`` prints to stdout: the parameters before, the result after.

base        parameters of the pretrained model, new modules apart
trainable   what the optimizer moves         kept       of it, what is left after pruning
exported    what a folder of another library would hold (a prefix without its MLP)
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from bertft.utils.numbers import (
    format_bytes,
    format_count,
    format_duration,
    format_number,
    format_score,
    split_metric_groups,
)

if TYPE_CHECKING:
    from bertft.training.dry_run import DryRun

__all__ = [
    "dry_run_lines",
    "group_table",
    "parameter_table",
    "result_lines",
    "result_table",
    "score_table",
]

_COLUMNS = ("trainable", "kept", "exported")


def parameter_table(counts: Mapping[str, Any]) -> Table:
    """Lines: the head and other new modules, each part by name, the total; the base above.

    ``counts``: {"base": int, "head": int, "parts": {name: {"trainable", "kept", "exported"}}}.
    """
    base = counts["base"]
    counts_by_row: dict[str, Mapping[str, int]] = {
        "head and new modules": dict.fromkeys(_COLUMNS, counts["head"]),
        **{name.replace("_", " "): part for name, part in counts["parts"].items()},
    }
    total = {name: sum(line[name] for line in counts_by_row.values()) for name in _COLUMNS}
    title = f"parameters (the base has {format_count(base)})"
    table = Table(title=title, title_justify="left")
    table.add_column("", overflow="fold")
    for heading in ("trainable", "kept after\npruning", "exported", "% of base"):
        table.add_column(heading, justify="right", overflow="fold")  # never half a number
    for name, row_counts in counts_by_row.items():
        table.add_row(
            name, *(format_count(row_counts[each]) for each in _COLUMNS), _share(row_counts, base)
        )
    table.add_section()
    table.add_row(
        "total trainable", *(format_count(total[each]) for each in _COLUMNS), _share(total, base)
    )
    return table


def result_table(metrics: Mapping[str, Any], remark: str = "") -> Table:
    """The best checkpoint's metrics, the one that chose it first; ``metrics``: a train run's.

    ``remark`` stands below.
    """
    splits = [name for name in ("validation", "test") if metrics.get(name)]
    best = metrics["best"]
    step = f", best at step {format_count(best['step'])}" if best else ""
    table = Table("metric", title=f"result{step}", title_justify="left", caption=remark or None)
    for name in splits:
        table.add_column(name, justify="right", overflow="fold")
    chosen = best["metric"] if best else None
    names = dict.fromkeys(
        name for split in splits for name in split_metric_groups(metrics[split])[0]
    )
    for name in sorted(names, key=lambda each: each != chosen):
        cells = [format_score(metrics[split].get(name)) for split in splits]
        table.add_row(name, *cells, style="bold" if name == chosen else None)
    return table


def score_table(metrics: Mapping[str, float], chosen: str, split: str, rows: int) -> Table:
    """The metrics of one split; ``chosen``, the one that counts, first."""
    table = Table("metric", title=f"{split}, {format_count(rows)} rows", title_justify="left")
    table.add_column("value", justify="right", overflow="fold")
    for name in sorted(split_metric_groups(metrics)[0], key=lambda each: each != chosen):
        table.add_row(name, format_score(metrics[name]), style="bold" if name == chosen else None)
    return table


def group_table(metrics: Mapping[str, float], split: str) -> Table | None:
    """The metrics of groups (types of entities, say), a line each; None where there are none."""
    groups = split_metric_groups(metrics)[1]
    if not groups:
        return None
    names = list(dict.fromkeys(name for values in groups.values() for name in values))
    table = Table("", title=split, title_justify="left")
    for name in names:
        table.add_column(name, justify="right", overflow="fold")
    for group, values in groups.items():
        cells = (
            format_count(values.get(n)) if n == "support" else format_score(values.get(n))
            for n in names
        )
        table.add_row(group, *cells)
    return table


def result_lines(
    metrics: Mapping[str, Any],
    folder: str | Path,
    *,
    prefix: bool = False,
    report: Path | None = None,
    merged: str = "merged",
) -> list[str]:
    """The result in sentences, where it lies, and the commands that go on from there.

    ``prefix``: the run has one, which merge keeps beside the model. ``report``: its page, if any.
    ``merged``: where to merge to.
    """
    best, test, train = metrics["best"], metrics.get("test"), metrics["train"]
    lines = []
    if best:
        value = f"{best['metric']} {format_score(best['value'])} on validation"
        if test:
            value += f", {format_score(test.get(best['metric']))} on test"
        lines.append(
            f"{value} (step {format_count(best['step'])} of {format_count(train['steps'])})"
        )
    lines += _calibration_lines(metrics.get("calibration"))
    lines += _distillation_lines(metrics.get("distillation"))
    speed = (
        f"{format_count(train['rows_per_second'])} rows/s,"
        f" {format_count(train['tokens_per_second'])} tokens/s"
    )
    took = f"{format_count(train['steps'])} steps in {format_duration(train['seconds'])}"
    lines.append(f"{took}, {speed}, peak memory {format_bytes(train['peak_memory_bytes'])}")
    lines.append(f"run folder: {folder}")
    if report is not None:
        lines.append(f"report: {report}")
    lines.append("next:")
    run, out = shlex.quote(f"run={folder}"), shlex.quote(f"out={merged}")
    return [
        *lines,
        f"  bertft eval {run}",
        f"  bertft merge {run} {out}{' prefix=separate' if prefix else ''}",
        f"  bertft predict {run} input=new.jsonl output=answers.jsonl",
    ]


def dry_run_lines(trial: DryRun, steps: int, peak: int | None) -> list[str]:
    """What ``check=true`` found: the largest step, and a guess at the whole run."""
    micro_batch_text = f"{format_count(trial.micro_batch)} rows a pass"
    lines = [
        f"the largest step: {format_count(trial.rows_per_step)} rows of up to"
        f" {format_count(trial.max_length)} tokens,"
        f" {micro_batch_text}, peak memory {format_bytes(peak)}"
    ]
    if trial.micro_batch_reduced:
        lines.append(
            f"memory did not suffice for more: set trainer.micro_batch={trial.micro_batch}"
        )
    if not trial.finite:
        lines.append("a loss or gradient was not finite: lower trainer.learning_rate")
    times = "evaluation" if trial.evaluations == 1 else "evaluations"
    lines.append(
        f"the run: {format_count(steps)} steps and {format_count(trial.evaluations)} {times},"
        f" about {format_duration(trial.seconds)}"
    )
    return lines


def _calibration_lines(calibration: Mapping[str, Any] | None) -> list[str]:
    """What a temperature and a threshold brought on validation; none where none was asked for."""
    lines = []
    if calibration is not None and "ece" in calibration:
        changes = ", ".join(
            f"{words} {format_score(calibration[name]['before'])} →"
            f" {format_score(calibration[name]['after'])}"
            for name, words in (("ece", "ECE"), ("loss", "loss"))
        )
        lines.append(
            f"temperature {format_number(calibration['temperature'] or 1.0)}: {changes} on"
            " validation"
        )
    if calibration is not None and "tuned" in calibration:
        tuned, threshold = calibration["tuned"], calibration["threshold"]
        single_threshold = threshold if isinstance(threshold, float) else None
        words = (
            f"threshold {format_number(single_threshold)}"
            if single_threshold
            else f"thresholds of {len(threshold)} labels"
        )
        lines.append(
            f"{words}: {tuned['metric']} {format_score(tuned['before'])} →"
            f" {format_score(tuned['after'])} on the"
            " validation rows that it was tuned on"
        )
    return lines


def _distillation_lines(distillation: Mapping[str, Any] | None) -> list[str]:
    """Teacher and student, a line each; none where there was no teacher."""
    if distillation is None:
        return []
    lines = [
        f"{side}: {distillation['metric']} {format_score(distillation[side]['value'])},"
        f" {format_bytes(distillation[side]['bytes'])},"
        f" {format_count(distillation[side]['rows_per_second'])} rows/s in evaluation"
        for side in ("teacher", "student")
    ]
    return [*lines, f"they agree on {distillation['agreement']:.1%} of validation"]


def _share(line: Mapping[str, int], base: int) -> str:
    return f"{line['trainable'] / base:.3%}" if base else "–"
