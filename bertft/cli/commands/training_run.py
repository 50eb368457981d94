"""One run from its first step, or from its newest checkpoint, to its last step."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from bertft.config.command_configs import TrainConfig
from bertft.config.serialize import to_yaml
from bertft.data import statistics
from bertft.errors import NonFiniteError, StoppedBySignal
from bertft.export.result_tables import parameter_table
from bertft.methods import trained_tensors
from bertft.models.check_weights import first_non_finite
from bertft.pipeline import base_model, distillation, tokenizer_files
from bertft.pipeline.build import PreparedRun
from bertft.pipeline.check_rows import write_check_rows
from bertft.pipeline.checkpoint import (
    CheckpointInfo,
    capture_state,
    checkpoint_writer,
    read_trained_weights,
    read_training_state,
    restore_state,
)
from bertft.pipeline.distillation import teacher_entry
from bertft.pipeline.manifest import build_manifest, hardware_changes
from bertft.pipeline.model import load_trained_weights
from bertft.report.tables import render_item
from bertft.runs.checkpoints import CheckpointStore
from bertft.runs.run_folder import RunFolder
from bertft.runs.tensor_files import flatten_state
from bertft.training.callbacks import suppress_errors
from bertft.training.callbacks.log_file import LogFile
from bertft.training.callbacks.metrics_file import MetricsFile
from bertft.training.callbacks.progress import ProgressView
from bertft.training.callbacks.trackers import Tracker, build_trackers
from bertft.training.distributed import DistributedContext
from bertft.training.events import Callback, Event, Interrupted
from bertft.training.signals import StopRequest
from bertft.training.trainer import Trainer, TrainerState
from bertft.utils.atomic_io import (
    atomic_write_json,
    atomic_write_text,
    convert_write_errors,
    remove_stale_temporaries,
)
from bertft.utils.terminal import print_warning

__all__ = ["TrainingRun"]


class TrainingRun:
    """A run in ``run_folder``: ``start`` or ``resume``, then ``train``.

    Of several ranks the first writes and speaks, and the others take every step with it.
    """

    def __init__(
        self,
        config: TrainConfig,
        run_folder: RunFolder,
        prepared: PreparedRun,
        ranks: DistributedContext,
        console: Console,
    ) -> None:
        self.config, self.run_folder, self.prepared, self.ranks = (
            config,
            run_folder,
            prepared,
            ranks,
        )
        self.console = console
        self.adapted = prepared.task_model
        self.checkpoints = CheckpointStore(
            run_folder.checkpoints_dir, config.trainer.keep_checkpoints
        )
        self.progress = TrainerState()
        self.best_outputs: np.ndarray | None = None  # of the best evaluation, for the report
        self._callback_state: dict[str, Any] | None = None
        self._previous_manifest: dict[str, Any] | None = None  # the manifest of a run that goes on

    def start(self) -> None:
        """Show what will be trained on what, and open the run folder; its manifest comes last."""
        self.ranks.barrier()  # the others have loaded the base from where it is moved away now
        if not self.ranks.is_main_process:
            return
        prepared, run_folder = self.prepared, self.run_folder
        self.print_summary()
        if prepared.teacher is not None and prepared.teacher.metrics is not None:
            validation = prepared.features["validation"]
            distillation.warn_if_teacher_is_worse(
                prepared.teacher, self.adapted, validation, print_warning
            )
        with convert_write_errors(run_folder.path):
            run_folder.path.mkdir(parents=True, exist_ok=True)
        rows, digest = prepared.splits.validation, None
        if rows is not None:
            digest = write_check_rows(run_folder.check_rows_path, rows)
        self.adapted.source = base_model.commit_base(self.adapted.source, run_folder)
        facts = build_manifest(
            self.config,
            self.adapted,
            prepared.data_report,
            prepared.max_length,
            prepared.total_steps,
            self.ranks.world_size,
        )
        extra_facts = {
            "check_rows": digest,
            "tokenizer": tokenizer_files.tokenizer_digest(prepared.tokenizer_files),
        } | teacher_entry(prepared.teacher)
        run_folder.create(to_yaml(self.config), {**facts, **extra_facts})

    def print_summary(self) -> None:
        """The data with the accounting of its rows, and the parameters."""
        self.console.print(statistics.make_data_table(self.prepared.data_report))
        for line in statistics.format_split_accounting(self.prepared.data_report):
            self.console.print(line, highlight=False, markup=False, soft_wrap=True)
        self.console.print(render_item(parameter_table(self.adapted.count_parameters())))

    def resume(self, checkpoint: Path | None) -> bool:
        """Load the checkpoint ``checkpoint``; False if there is nothing left to train."""
        run_folder, total, ranks = self.run_folder, self.prepared.total_steps, self.ranks
        if checkpoint is not None:  # else it was stopped before its first, and begins again
            load_trained_weights(self.adapted.model, read_trained_weights(checkpoint))
            self.progress, self._callback_state = restore_state(
                read_training_state(checkpoint), self.prepared.stepper, ranks
            )
            self._check_best_checkpoint()
            patience = self.config.trainer.patience
            out_of_patience = patience is not None and self.progress.stale >= patience
            if run_folder.is_finished and (self.progress.step >= total or out_of_patience):
                return False
        ranks.barrier()  # none reads any more
        if not ranks.is_main_process:
            return True
        if checkpoint is not None:
            self.checkpoints.reset_pointers(self.progress.step, self.progress.best_step)
            for difference in hardware_changes(
                run_folder.read_manifest(), self.adapted.precision.device, ranks.world_size
            ):
                print_warning(f"the {difference}: the run goes on, but not to the same last bits")
        with convert_write_errors(run_folder.path):
            remove_stale_temporaries(run_folder.path)
            run_folder.metrics_path.unlink(
                missing_ok=True
            )  # it goes on: what it says is no longer so
            atomic_write_text(run_folder.config_path, to_yaml(self.config))
            self._previous_manifest = run_folder.read_manifest()
            self.update_manifest({"total_steps": total})
        return True

    def _check_best_checkpoint(self) -> None:
        """Said before training rather than at its end: a best that is damaged is sought anew."""
        step = self.progress.best_step
        problem = self.ranks.broadcast_object(
            lambda: None if step is None else self.checkpoints.describe_damage(step)
        )
        if problem is None:
            return
        if self.ranks.is_main_process:
            print_warning(f"{problem}: the best is sought anew among what follows")
        self.progress.best = self.progress.best_step = self.progress.best_metrics = None
        self.progress.stale = 0

    def update_manifest(self, facts: dict[str, Any]) -> None:
        """Put ``facts``, and how often the teacher was asked, into the manifest.

        The run has no result (any more), and so no seal of one.
        """
        teacher_facts = teacher_entry(self.prepared.teacher, self._previous_manifest)
        updated = {**self.run_folder.read_manifest(), **teacher_facts, **facts}
        updated.pop("sealed", None)
        atomic_write_json(self.run_folder.manifest_path, updated)

    def train(self, stop: StopRequest) -> None:
        """Run the loop; every event is told to the files and to whoever watches."""
        if not self.ranks.is_main_process:
            for event in self.build_loop(stop, None).run():
                self._raise_if_stopped(event)
            return
        trainer, run_folder = self.config.trainer, self.run_folder
        lengths = self._callback_state["position"] if self._callback_state else [0, 0]
        for path, length in zip(
            (run_folder.metrics_log_path, run_folder.timings_log_path), lengths, strict=True
        ):
            MetricsFile.truncate(path, length)
        with ExitStack() as stack:
            metrics = stack.enter_context(
                MetricsFile(
                    run_folder.metrics_log_path, run_folder.timings_log_path, trainer.log_every
                )
            )
            if self._callback_state:
                metrics.load_state_dict(self._callback_state["metrics"])
            log = stack.enter_context(LogFile(run_folder.log_path))
            progress_view = stack.enter_context(
                ProgressView(quiet=self.config.quiet, best=self.progress.best)
            )
            listeners: list[Callback] = [
                metrics,
                suppress_errors(log, print_warning),
                suppress_errors(progress_view, log.write_line),
            ]
            for tracker in build_trackers(trainer.trackers, run_folder.path, self.config):
                listeners.append(suppress_errors(tracker, _call_all(log.write_line, print_warning)))
                stack.callback(_close_tracker, tracker, print_warning)
            loop = self.build_loop(stop, metrics)
            for event in loop.run():
                for listener in listeners:
                    listener(event)
                self._raise_if_stopped(event)
            self.best_outputs = loop.best_outputs
        for name in loop.unchanged:
            print_warning(
                f"{name}: no weight changed in {self.progress.step} steps: raise its learning rate"
            )

    def _check_finite(self, state: dict[str, Any]) -> None:
        """NonFiniteError where the weights or the training state must not be written.

        Gradients and losses were finite in every step that was applied: a step may still be too
        large, and a second moment overflow.
        """
        optimizer_state, _ = flatten_state({name: state[name] for name in ("optimizer", "parts")})
        name = first_non_finite({**trained_tensors(self.adapted.model), **optimizer_state})
        if name is not None:
            step = self.progress.step
            raise NonFiniteError(
                f"{name} is not finite after step {step}",
                where=f"step {step}",
                hint="No checkpoint of this step was written. Lower trainer.learning_rate or"
                " trainer.weight_decay, or raise trainer.warmup",
            )

    def _raise_if_stopped(self, event: Event) -> None:
        if isinstance(event, Interrupted):
            raise StoppedBySignal(
                event.signum,
                where=f"step {event.step}",
                hint=f"Go on with bertft train {shlex.quote(f'resume={self.run_folder.path}')}",
            )

    def build_loop(self, stop: StopRequest, metrics: MetricsFile | None) -> Trainer:
        prepared, task = self.prepared, self.adapted.task

        def save(progress: TrainerState, best: bool) -> Path:
            facts = CheckpointInfo(task.name, task.class_names, prepared.max_length, progress.step)
            callback_state = {}
            if metrics is not None:
                callback_state = {
                    "metrics": metrics.state_dict(),
                    "position": list(metrics.position()),
                }
            state = capture_state(prepared.stepper, progress, callback_state, self.ranks)
            self._check_finite(state)
            if not self.ranks.is_main_process:
                return self.checkpoints.checkpoint_path(progress.step)
            return self.checkpoints.save(
                progress.step,
                checkpoint_writer(self.adapted, prepared.tokenizer_files, facts, state),
                best=best,
            )

        return Trainer(
            train_step=prepared.stepper,
            train_features=prepared.train_table,
            validation_features=prepared.features.get("validation"),
            sampler=prepared.sampler,
            settings=self.config.trainer,
            total_steps=prepared.total_steps,
            warmup_fraction=prepared.warmup_fraction,
            save_checkpoint=save,
            stop_request=stop,
            state=self.progress,
            distributed=self.ranks,
            keep_outputs=self.config.report and metrics is not None,
        )


def _call_all(*functions: Callable[[str], object]) -> Callable[[str], None]:
    def call_all(text: str) -> None:
        for function in functions:
            function(text)

    return call_all


def _close_tracker(tracker: Tracker, warn: Callable[[str], object]) -> None:
    """What a tracker still has to say at the end is no reason to lose the run."""
    try:
        tracker.close()
    except Exception as error:
        warn(f"{tracker.__name__} could not be closed ({type(error).__name__}: {error})")
