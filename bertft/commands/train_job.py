"""One run from its first step, or from its newest checkpoint, to its last step."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from bertft.assembly import base, comparison, tokenizer_files
from bertft.assembly.adapted import fill
from bertft.assembly.check_rows import write_check_rows
from bertft.assembly.checkpoint import Facts, read_state, read_weights, writer
from bertft.assembly.manifest import changes, manifest
from bertft.assembly.prepare import Prepared
from bertft.assembly.state import put_back, take
from bertft.assembly.teaching import recorded_teacher
from bertft.assembly.warn import warn
from bertft.config.commands import TrainConfig
from bertft.config.yaml_text import yaml_text
from bertft.data import report
from bertft.errors import NonFiniteError, Stopped
from bertft.listeners.guarded import guarded
from bertft.listeners.log_file import LogFile
from bertft.listeners.metrics_file import MetricsFile
from bertft.listeners.progress import ProgressView
from bertft.listeners.trackers import trackers
from bertft.listeners.trackers.tracker import Tracker
from bertft.methods import trained_tensors
from bertft.models.finite import first_non_finite
from bertft.reports.tables import parameter_table
from bertft.runs.atomic import clean, environment, write_json, write_text
from bertft.runs.checkpoints import Checkpoints
from bertft.runs.folder import RunFolder
from bertft.runs.tensors import split_state
from bertft.training.events import Event, Interrupted, Listener
from bertft.training.loop import Loop, Progress
from bertft.training.ranks import Ranks
from bertft.training.signals import StopRequest

__all__ = ["TrainJob"]


class TrainJob:
    """A run in ``place``: ``begin`` or ``go_on``, then ``train``.

    Of several ranks the first writes and speaks, and the others take every step with it.
    """

    def __init__(
        self,
        config: TrainConfig,
        place: RunFolder,
        prepared: Prepared,
        ranks: Ranks,
        console: Console,
    ) -> None:
        self.config, self.place, self.prepared, self.ranks = config, place, prepared, ranks
        self.console = console
        self.adapted = prepared.adapted
        self.checkpoints = Checkpoints(place.checkpoints, config.trainer.keep_checkpoints)
        self.progress = Progress()
        self.outputs: np.ndarray | None = None  # of the best evaluation, for the report
        self._listeners: dict[str, Any] | None = None
        self._before: dict[str, Any] | None = None  # the manifest of a run that goes on

    def begin(self) -> None:
        """Show what will be trained on what, and open the run folder; its manifest comes last."""
        self.ranks.wait()  # the others have loaded the base from where it is moved away now
        if not self.ranks.first:
            return
        prepared, place = self.prepared, self.place
        self.show()
        if prepared.hired is not None and prepared.hired.scores is not None:
            validation = prepared.features["validation"]
            comparison.warn_if_below(prepared.hired, self.adapted, validation, warn)
        with environment(place.path):
            place.path.mkdir(parents=True, exist_ok=True)
        rows, digest = prepared.splits.validation, None
        if rows is not None:
            digest = write_check_rows(place.check_rows, rows)
        self.adapted.source = base.keep(self.adapted.source, place)
        facts = manifest(
            self.config, self.adapted, prepared.report, prepared.max_length, prepared.total,
            self.ranks.size,
        )  # fmt: skip
        told = {
            "check_rows": digest,
            "tokenizer": tokenizer_files.digest(prepared.tokenizer_files),
        } | recorded_teacher(prepared.hired)
        place.create(yaml_text(self.config), {**facts, **told})

    def show(self) -> None:
        """The data with the accounting of its rows, and the parameters."""
        self.console.print(report.table(self.prepared.report))
        for line in report.accounting_lines(self.prepared.report):
            self.console.print(line, highlight=False, markup=False, soft_wrap=True)
        self.console.print(parameter_table(_without(self.adapted.counts(), "head")))

    def go_on(self, newest: Path | None) -> bool:
        """Load the checkpoint ``newest``; False if there is nothing left to train."""
        place, total, ranks = self.place, self.prepared.total, self.ranks
        if newest is not None:  # else it was stopped before its first, and begins again
            fill(self.adapted.model, read_weights(newest))
            self.progress, self._listeners = put_back(
                read_state(newest), self.prepared.stepper, ranks
            )
            self._look_at_the_best()
            patience = self.config.trainer.patience
            spent = patience is not None and self.progress.stale >= patience
            if place.finished and (self.progress.step >= total or spent):
                return False
        ranks.wait()  # none reads any more
        if not ranks.first:
            return True
        if newest is not None:
            self.checkpoints.settle(self.progress.step, self.progress.best_step)
            for change in changes(place.read_manifest(), self.adapted.precision.device, ranks.size):
                warn(f"the {change}: the run goes on, but not to the same last bits")
        with environment(place.path):
            clean(place.path)
            place.metrics.unlink(missing_ok=True)  # it goes on: what it says is no longer so
            write_text(place.config, yaml_text(self.config))
            self._before = place.read_manifest()
            self.record({"total_steps": total})
        return True

    def _look_at_the_best(self) -> None:
        """Said before training rather than at its end: a best that is damaged is sought anew."""
        step = self.progress.best_step
        problem = self.ranks.told(lambda: None if step is None else self.checkpoints.problem(step))
        if problem is None:
            return
        if self.ranks.first:
            warn(f"{problem}: the best is sought anew among what follows")
        self.progress.best = self.progress.best_step = self.progress.best_metrics = None
        self.progress.stale = 0

    def record(self, facts: dict[str, Any]) -> None:
        """Put ``facts``, and how often the teacher was asked, into the manifest.

        The run has no result (any more), and so no seal of one.
        """
        told = recorded_teacher(self.prepared.hired, self._before)
        whole = {**self.place.read_manifest(), **told, **facts}
        whole.pop("sealed", None)
        write_json(self.place.manifest, whole)

    def train(self, stop: StopRequest) -> None:
        """Run the loop; every event is told to the files and to whoever watches."""
        if not self.ranks.first:
            for event in self.loop(stop, None).run():
                self._heed(event)
            return
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
            for tracker in trackers(trainer.trackers, place.path, self.config):
                listeners.append(guarded(tracker, _both(log.line, warn)))
                stack.callback(_closed, tracker, warn)
            loop = self.loop(stop, metrics)
            for event in loop.run():
                for listener in listeners:
                    listener(event)
                self._heed(event)
            self.outputs = loop.best_outputs
        for name in loop.unchanged:
            warn(
                f"{name}: no weight changed in {self.progress.step} steps: raise its learning rate"
            )

    def _check_finite(self, state: dict[str, Any]) -> None:
        """NonFiniteError where the weights or the training state must not be written.

        Gradients and losses were finite in every step that was applied: a step may still be too
        large, and a second moment overflow.
        """
        moments, _ = split_state({name: state[name] for name in ("optimizer", "parts")})
        name = first_non_finite({**trained_tensors(self.adapted.model), **moments})
        if name is not None:
            step = self.progress.step
            raise NonFiniteError(
                f"{name} is not finite after step {step}", where=f"step {step}",
                hint="No checkpoint of this step was written. Lower trainer.learning_rate or"
                " trainer.weight_decay, or raise trainer.warmup",
            )  # fmt: skip

    def _heed(self, event: Event) -> None:
        if isinstance(event, Interrupted):
            raise Stopped(
                event.signum, where=f"step {event.step}",
                hint=f"Go on with bertft train {shlex.quote(f'resume={self.place.path}')}",
            )  # fmt: skip

    def loop(self, stop: StopRequest, metrics: MetricsFile | None) -> Loop:
        prepared, task = self.prepared, self.adapted.task

        def save(progress: Progress, best: bool) -> Path:
            facts = Facts(task.name, task.labels, prepared.max_length, progress.step)
            others = {}
            if metrics is not None:
                others = {"metrics": metrics.state_dict(), "position": list(metrics.position())}
            state = take(prepared.stepper, progress, others, self.ranks)
            self._check_finite(state)
            if not self.ranks.first:
                return self.checkpoints.path(progress.step)
            return self.checkpoints.save(
                progress.step,
                writer(self.adapted, prepared.tokenizer_files, facts, state),
                best=best,
            )

        return Loop(
            stepper=prepared.stepper,
            table=prepared.table,
            validation=prepared.features.get("validation"),
            order=prepared.order,
            settings=self.config.trainer,
            total=prepared.total,
            warmup=prepared.warmup,
            save=save,
            stop=stop,
            progress=self.progress,
            ranks=self.ranks,
            keep_outputs=self.config.report and metrics is not None,
        )


def _both(*tells: Callable[[str], object]) -> Callable[[str], None]:
    def tell(text: str) -> None:
        for each in tells:
            each(text)

    return tell


def _closed(tracker: Tracker, warn: Callable[[str], object]) -> None:
    """What a tracker still has to say at the end is no reason to lose the run."""
    try:
        tracker.close()
    except Exception as error:
        warn(f"{tracker.__name__} could not be closed ({type(error).__name__}: {error})")


def _without(counts: dict[str, Any], name: str) -> dict[str, Any]:
    """The counts, with the part ``name`` left out of the parts: it has a line of its own."""
    parts = {part: each for part, each in counts["parts"].items() if part != name}
    return {**counts, "parts": parts}
