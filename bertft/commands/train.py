"""``bertft train``: fine-tune an encoder and leave a run folder."""

from __future__ import annotations

import shlex
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rich.console import Console

from bertft.assembly import base
from bertft.assembly.adapted import fill
from bertft.assembly.check_rows import write_check_rows
from bertft.assembly.checkpoint import Facts, read_state, read_weights, writer
from bertft.assembly.manifest import manifest
from bertft.assembly.prepare import Prepared, prepare
from bertft.assembly.state import put_back, take
from bertft.assembly.warn import warn
from bertft.config.commands import TrainConfig
from bertft.config.resumed import config_of_run
from bertft.config.trainer import TrainerConfig
from bertft.config.yaml_text import yaml_text
from bertft.data import report
from bertft.errors import Stopped
from bertft.listeners.guarded import guarded
from bertft.listeners.log_file import LogFile
from bertft.listeners.metrics_file import MetricsFile
from bertft.listeners.progress import ProgressView
from bertft.reports.tables import group_table, parameter_table, result_lines, result_table
from bertft.runs.atomic import environment, write_json, write_text
from bertft.runs.checkpoints import Checkpoints
from bertft.runs.folder import RunFolder
from bertft.runs.json_file import read_object
from bertft.training.evaluate import evaluate
from bertft.training.events import Interrupted, Listener
from bertft.training.loop import Loop, Progress
from bertft.training.memory import PeakMemory
from bertft.training.signals import StopRequest

__all__ = ["run"]

_COUNTS = ("total", "trainable", "head", "method", "kept", "exported")


def run(config: TrainConfig, folder: Path) -> None:
    """Train as ``config`` says in ``folder``, or go on with the run there.

    Raises Stopped after a signal, the checkpoint saved; NonFiniteError; whatever input calls for.
    """
    place, console = RunFolder(folder), Console(quiet=config.quiet)
    going_on = config.resume is not None and place.begun
    if not going_on:
        place.refuse_a_run()
        base.check_place(config.model, place)
    elif place.finished and not _longer(config.trainer, place):
        _say_finished(place)
        return
    with StopRequest() as stop, PeakMemory() as memory:
        try:
            prepared = prepare(config, place, place.read_manifest() if going_on else None)
            job = _Job(config, place, prepared, console)
            if not going_on:
                job.begin()
            elif not job.go_on():
                _say_finished(place)
                return
        finally:
            base.discard(place)
        job.train(stop)
        job.finish(memory)


def _longer(trainer: TrainerConfig, place: RunFolder) -> bool:
    """Whether more is asked for than the run in ``place`` was last told."""
    told = config_of_run(place.path).trainer
    return (trainer.epochs, trainer.steps) != (told.epochs, told.steps)


def _say_finished(place: RunFolder) -> None:
    steps = read_object(place.metrics)["train"]["steps"]
    print(f"{place.path} is finished, after {steps} steps; metrics.json has its result")


class _Job:
    """One run from its first step, or from its newest checkpoint, to its metrics.json."""

    def __init__(
        self, config: TrainConfig, place: RunFolder, prepared: Prepared, console: Console
    ) -> None:
        self.config, self.place, self.prepared, self.console = config, place, prepared, console
        self.adapted = prepared.adapted
        self.checkpoints = Checkpoints(place.checkpoints, config.trainer.keep_checkpoints)
        self.progress = Progress()
        self._listeners: dict[str, Any] | None = None

    def begin(self) -> None:
        """Show what will be trained on what, and open the run folder; its manifest comes last."""
        prepared, place = self.prepared, self.place
        self.console.print(report.table(prepared.report))
        self.console.print(parameter_table(_without(self.adapted.counts(), "head")))
        with environment(place.path):
            place.path.mkdir(parents=True, exist_ok=True)
        if prepared.splits.validation is not None:
            write_check_rows(place.check_rows, prepared.splits.validation)
        self.adapted.source = base.keep(self.adapted.source, place)
        facts = manifest(
            self.config, self.adapted, prepared.report, prepared.max_length, prepared.total
        )
        place.create(yaml_text(self.config), facts)

    def go_on(self) -> bool:
        """Load the newest whole checkpoint; False if there is nothing left to train."""
        place, total = self.place, self.prepared.total
        if self.checkpoints.steps():  # else it was stopped before its first, and begins again
            newest = self.checkpoints.find("last", with_state=True, warn=warn)
            fill(self.adapted.model, read_weights(newest))
            self.progress, self._listeners = put_back(read_state(newest), self.prepared.stepper)
            patience = self.config.trainer.patience
            spent = patience is not None and self.progress.stale >= patience
            if place.finished and (self.progress.step >= total or spent):
                return False
            self.checkpoints.settle(self.progress.step, self.progress.best_step)
        with environment(place.path):
            place.metrics.unlink(missing_ok=True)  # it goes on: what it says is no longer so
            write_text(place.config, yaml_text(self.config))
            write_json(place.manifest, {**place.read_manifest(), "total_steps": total})
        return True

    def train(self, stop: StopRequest) -> None:
        """Run the loop; every event is told to the files and to whoever watches."""
        trainer, place = self.config.trainer, self.place
        lengths = self._listeners["position"] if self._listeners else [0, 0]
        for path, length in zip((place.metrics_log, place.timings_log), lengths, strict=True):
            MetricsFile.truncate(path, length)
        with ExitStack() as stack:
            metrics = stack.enter_context(
                MetricsFile(place.metrics_log, place.timings_log, trainer.log_every)
            )
            if self._listeners:
                metrics.load_state_dict(self._listeners["metrics"])
            log = stack.enter_context(LogFile(place.log))
            view = stack.enter_context(
                ProgressView(quiet=self.config.quiet, best=self.progress.best)
            )
            listeners: list[Listener] = [metrics, guarded(log, warn), guarded(view, log.line)]
            loop = self._loop(stop, metrics)
            for event in loop.run():
                for listener in listeners:
                    listener(event)
                if isinstance(event, Interrupted):
                    raise Stopped(
                        event.signum, where=f"step {event.step}",
                        hint=f"Go on with bertft train {shlex.quote(f'resume={place.path}')}",
                    )  # fmt: skip

    def _loop(self, stop: StopRequest, metrics: MetricsFile) -> Loop:
        prepared, task = self.prepared, self.adapted.task

        def save(progress: Progress, best: bool) -> Path:
            facts = Facts(task.name, task.labels, prepared.max_length, progress.step)
            others = {"metrics": metrics.state_dict(), "position": list(metrics.position())}
            state = take(prepared.stepper, progress, others)
            return self.checkpoints.save(
                progress.step, writer(self.adapted, facts, state), best=best
            )

        return Loop(
            stepper=prepared.stepper,
            table=prepared.features["train"],
            validation=prepared.features.get("validation"),
            order=prepared.order,
            settings=self.config.trainer,
            total=prepared.total,
            warmup=prepared.warmup,
            save=save,
            stop=stop,
            progress=self.progress,
        )

    def finish(self, memory: PeakMemory) -> None:
        """Score the best checkpoint on the test split, write metrics.json, say what came out."""
        progress, prepared, adapted = self.progress, self.prepared, self.adapted
        test = prepared.features.get("test")
        scores = None
        best = self.checkpoints.find("best") if progress.best_step is not None else None
        if best is not None:
            fill(adapted.model, read_weights(best))
        if test is not None:
            scores = evaluate(adapted.runner, adapted.task, test, adapted.precision)
        seconds = max(progress.seconds, 1e-9)
        counts = adapted.counts()
        metrics = {
            "best": {
                "metric": adapted.task.metric,
                "value": progress.best,
                "step": progress.best_step,
            },
            "validation": progress.best_metrics,
            "test": scores,
            "train": {
                "seconds": progress.seconds,
                "rows_per_second": progress.rows / seconds,
                "tokens_per_second": progress.tokens / seconds,
                "peak_memory_bytes": memory.peak(adapted.precision.device),
                "steps": progress.step,
                "loss": progress.loss_sum / max(1, progress.step - progress.skipped),
            },
            "parameters": {name: counts[name] for name in _COUNTS},
        }
        self.place.write_metrics(metrics)
        self.console.print(result_table(metrics))
        for split, values in (("validation", progress.best_metrics), ("test", scores)):
            details = group_table(values or {}, split)
            if details is not None:
                self.console.print(details)
        beside = any(not part.foldable for part in adapted.parts)
        for line in result_lines(metrics, self.place.path, prefix=beside):
            print(line)


def _without(counts: dict[str, Any], name: str) -> dict[str, Any]:
    """The counts, with the part ``name`` left out of the parts: it has a line of its own."""
    parts = {part: each for part, each in counts["parts"].items() if part != name}
    return {**counts, "parts": parts}
