"""The end of a run: its best checkpoint scored and calibrated, metrics.json, the report."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from bertft.assembly import comparison
from bertft.assembly.adapted import fill
from bertft.assembly.calibrate import asked, calibrate
from bertft.assembly.checkpoint import read_weights
from bertft.assembly.warn import warn
from bertft.commands.run_report import report_on
from bertft.commands.train_job import TrainJob
from bertft.config.printed import say
from bertft.listeners.log_file import LogFile
from bertft.reports.tables import group_table, result_lines, result_table
from bertft.runs.atomic import environment
from bertft.training.evaluate import evaluate
from bertft.training.memory import PeakMemory

__all__ = ["finish"]

_COUNTS = ("total", "trainable", "head", "method", "kept", "exported")


def finish(job: TrainJob, memory: PeakMemory) -> None:
    """Calibrate the best checkpoint if asked, score it on test, write metrics.json, tell it."""
    progress, prepared, adapted, ranks = job.progress, job.prepared, job.adapted, job.ranks
    test = prepared.features.get("test")
    scores = fitted = None
    best, validation = progress.best, progress.best_metrics
    if progress.best_step is not None:
        fill(adapted.model, read_weights(ranks.told(lambda: job.checkpoints.find("best"))))
        if asked(job.config):
            table = prepared.features["validation"]
            fitted, validation, job.outputs = calibrate(
                job.config, adapted, table, progress.best_step, ranks, warn
            )
            best = validation[adapted.task.metric]
    elif asked(job.config) and ranks.first:
        warn("no checkpoint was chosen on validation: there is nothing to calibrate or tune")
    if test is not None:
        scores = evaluate(adapted.runner, adapted.task, test, adapted.precision, ranks)
    [peak] = ranks.most(memory.peak(adapted.precision.device) or 0)
    if not ranks.first:
        return
    seconds = max(progress.seconds, 1e-9)
    applied = progress.step - progress.skipped - progress.rescaled
    counts = adapted.counts()
    metrics = {
        "best": {
            "metric": adapted.task.metric,
            "value": best,
            "step": progress.best_step,
        },
        "validation": validation,
        "test": scores,
        "train": {
            "seconds": progress.seconds,
            "rows_per_second": progress.rows / seconds,
            "tokens_per_second": progress.tokens / seconds,
            "peak_memory_bytes": peak or None,
            "steps": progress.step,
            "loss": progress.loss_sum / max(1, applied),
        },
        "parameters": {name: counts[name] for name in _COUNTS},
    }
    if fitted is not None:
        metrics["calibration"] = fitted
    if prepared.hired is not None:
        if prepared.hired.scores is not None:
            metrics["distillation"] = comparison.compare(
                prepared.hired, adapted, prepared.features["validation"]
            )
        with environment(job.place.manifest):
            job.record({})
    job.place.finish(metrics)
    job.console.print(result_table(metrics, adapted.task.remark))
    for split, values in (("validation", validation), ("test", scores)):
        details = group_table(values or {}, split)
        if details is not None:
            job.console.print(details)
    beside = any(not part.foldable for part in adapted.parts)
    report = _report(job, metrics)
    merged = next(name for name in _names("merged") if not Path(name).exists())
    told = result_lines(metrics, job.place.path, prefix=beside, report=report, merged=merged)
    for line in told:
        say(line)


def _names(name: str) -> Iterator[str]:
    yield name
    yield from (f"{name}-{number}" for number in itertools.count(2))


def _report(job: TrainJob, metrics: dict[str, Any]) -> Path | None:
    """Leave pictures and report.html; what went wrong with them stands in log.txt too."""
    if not job.config.report:
        return None
    wrong: list[str] = []
    rows = job.config.trainer.micro_batch or job.config.trainer.batch_size
    made = report_on(job.place, job.config, job.prepared, metrics, job.outputs, rows, wrong.append)
    for line in wrong:
        warn(line)
    with suppress(OSError), LogFile(job.place.log) as log:
        for line in wrong:
            log.line(f"warning: {line}")
    return made
