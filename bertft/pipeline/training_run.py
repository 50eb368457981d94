"""A training run in its folder: start or resume it, train, evaluate the best model."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from bertft.config.serialize import to_yaml
from bertft.data.findings import Finding
from bertft.errors import NonFiniteError, StoppedBySignal
from bertft.methods import trained_tensors
from bertft.models.check_weights import first_non_finite
from bertft.pipeline import base_model, distillation
from bertft.pipeline.build import PreparedRun
from bertft.pipeline.calibration import calibrate, is_calibration_requested
from bertft.pipeline.check_rows import write_check_rows
from bertft.pipeline.checkpoint import (
    CheckpointInfo,
    checkpoint_writer,
    read_trained_weights,
    read_training_state,
)
from bertft.pipeline.conformal import observed_sets
from bertft.pipeline.frozen_states import use_frozen_states
from bertft.pipeline.manifest import build_manifest, hardware_changes
from bertft.pipeline.optimization import group_component
from bertft.pipeline.run_context import RunContext
from bertft.pipeline.task_model import TaskModel, load_trained_weights
from bertft.runs.checkpoints import CheckpointStore
from bertft.runs.manifest import Manifest, read_manifest
from bertft.runs.metrics_json import ParameterCounts, RunMetrics, TrainingResult
from bertft.runs.tensor_files import flatten_state
from bertft.training.callbacks import RunCallbacks
from bertft.training.checkpoint_state import capture_state, restore_state
from bertft.training.evaluate import evaluate, evaluation_outputs
from bertft.training.events import Event, Interrupted, Retried, Stopped
from bertft.training.memory import PeakMemory
from bertft.training.signals import StopRequest
from bertft.training.trainer import Trainer
from bertft.training.trainer_state import TrainerState
from bertft.utils.atomic_io import (
    atomic_write_json,
    atomic_write_text,
    convert_write_errors,
    remove_stale_temporaries,
)
from bertft.utils.messages import add_location, display_path
from bertft.utils.status import show_status
from bertft.utils.terminal import print_warning

__all__ = ["TrainingRun"]


class TrainingRun:
    """``start`` or ``resume`` a prepared run, then ``train`` and ``finish`` it.

    In a distributed run all processes call the same methods; only the main process writes.

    Attributes:
        state: progress of the training.
        best_outputs: outputs of the best model on the validation rows, for the report; None
            without validation rows, and in all processes but the main one.
        test_outputs: outputs of the best model on the test rows, if there are any.
    """

    def __init__(self, context: RunContext, prepared: PreparedRun) -> None:
        self._context, self._prepared = context, prepared
        self.config, self.run_folder = context.config, context.run_folder
        self.distributed = context.distributed
        self.data, self.optimization = prepared.data, prepared.optimization
        self.task_model, self.teacher = prepared.model.task_model, prepared.model.teacher
        self.checkpoints = CheckpointStore(
            self.run_folder.checkpoints_dir, self.config.trainer.keep_checkpoints
        )
        self.state = TrainerState()
        self.best_outputs: np.ndarray | None = None
        self.test_outputs: np.ndarray | None = None
        self._collapse_findings: list[Finding] = []
        self._callback_state: dict[str, Any] | None = None  # of the checkpoint of a resumed run
        self._earlier_manifest: Manifest | None = None  # of a resumed run

    def start(self) -> None:
        """Create the run folder; its manifest is written last.

        UsageError or SystemResourceError as of ``use_frozen_states``.
        """
        cache_frozen = use_frozen_states(self._context, self._prepared)
        self.distributed.barrier()  # all processes have loaded the base, which is moved now
        if not self.distributed.is_main_process:
            return
        run_folder, data = self.run_folder, self.data
        if self.teacher is not None and self.teacher.metrics is not None:
            distillation.warn_if_teacher_is_worse(
                self.teacher, self.task_model, data.features["validation"], print_warning
            )
        with convert_write_errors(run_folder.path):
            run_folder.path.mkdir(parents=True, exist_ok=True)
        check_rows_digest = None
        if data.splits.validation is not None:
            check_rows_digest = write_check_rows(run_folder.check_rows_path, data.splits.validation)
        self.task_model.source = base_model.commit_base(self.task_model.source, run_folder)
        manifest = build_manifest(
            self.config,
            self.task_model,
            data.report,
            data.max_length,
            self.optimization.schedule.total_steps,
            self.distributed.world_size,
        )
        manifest["cache_frozen"] = cache_frozen
        manifest["check_rows"] = check_rows_digest
        manifest["tokenizer"] = base_model.tokenizer_digest(data.base.tokenizer_files)
        if self.teacher is not None:
            manifest["teacher"] = distillation.teacher_entry(self.teacher)
        run_folder.create(to_yaml(self.config), manifest)

    def resume(self, checkpoint: Path | None) -> bool:
        """Load ``checkpoint``; None: the run was stopped before its first one.

        Returns:
            False if there is nothing left to train.
        """
        run_folder, distributed = self.run_folder, self.distributed
        total_steps = self.optimization.schedule.total_steps
        if checkpoint is not None:
            self.state, self._callback_state = self._load_checkpoint(checkpoint)
            self._check_best_checkpoint()
            patience = self.config.trainer.patience
            out_of_patience = patience is not None and self.state.stale >= patience
            if run_folder.is_finished and (self.state.step >= total_steps or out_of_patience):
                return False
        use_frozen_states(self._context, self._prepared)
        distributed.barrier()  # no process reads the folder any more
        if not distributed.is_main_process:
            return True
        if checkpoint is not None:
            if self.config.trainer.on_collapse == "retry":
                # Later checkpoints may belong to a part that a retry abandons.
                self.checkpoints.return_to(self.state.step, self.state.best_step)
            else:
                self.checkpoints.reset_pointers(self.state.step, self.state.best_step)
            for change in hardware_changes(
                read_manifest(run_folder), self.task_model.precision.device, distributed.world_size
            ):
                print_warning(f"the {change}: the results will differ in the last bits")
        with convert_write_errors(run_folder.path):
            remove_stale_temporaries(run_folder.path)
            run_folder.metrics_path.unlink(missing_ok=True)  # it would be out of date
            atomic_write_text(run_folder.config_path, to_yaml(self.config))
            self._earlier_manifest = read_manifest(run_folder)
            self._update_manifest({"total_steps": total_steps})
        return True

    def train(self, stop_request: StopRequest) -> Stopped | None:
        """Run the training loop. Raises StoppedBySignal after a signal, with a checkpoint saved.

        Returns:
            The event if training stopped at ``trainer.stop_at``; None if it is finished.
        """
        event: Event | None = None
        if not self.distributed.is_main_process:
            for event in self.build_trainer(stop_request).run():
                self._raise_if_interrupted(event)
            return event if isinstance(event, Stopped) else None
        callbacks = RunCallbacks(
            self.run_folder, self.config, self._callback_state, self.state.best, print_warning
        )
        with callbacks:
            trainer = self.build_trainer(stop_request, callbacks)
            for event in trainer.run():
                callbacks(event)
                if isinstance(event, Retried):
                    with convert_write_errors(self.run_folder.manifest_path):
                        self._update_manifest({"retries": trainer.collapse.retries})
                self._raise_if_interrupted(event)
        if isinstance(event, Stopped):
            return event
        self.best_outputs = trainer.best_outputs
        self._collapse_findings = list(trainer.collapse.findings(self.state.step))
        for name in trainer.unchanged_groups:
            setting, learning_rate = _learning_rate_setting(name, self.config.trainer.learning_rate)
            print_warning(
                f"{setting}: no weight changed by more than rounding errors in {self.state.step}"
                f" steps. Raise {learning_rate}"
            )
        return None

    def build_trainer(
        self, stop_request: StopRequest, callbacks: RunCallbacks | None = None
    ) -> Trainer:
        """The trainer of the run; ``callbacks``: those whose state goes into the checkpoints."""
        task, train_step = self.data.task, self.optimization.train_step

        def save_checkpoint(state: TrainerState, is_best: bool) -> Path:
            callback_state = {} if callbacks is None else callbacks.state_dict()
            training_state = capture_state(train_step, state, callback_state, self.distributed)
            self._check_finite(training_state)
            if not self.distributed.is_main_process:
                return self.checkpoints.checkpoint_path(state.step)
            info = CheckpointInfo(task.name, task.class_names, self.data.max_length, state.step)
            write = checkpoint_writer(
                self.task_model, self.data.base.tokenizer_files, info, training_state
            )
            protected = trainer.collapse.protected_steps
            return self.checkpoints.save(state.step, write, best=is_best, protected=protected)

        trainer = Trainer(
            train_step,
            self.data.training,
            self.optimization.schedule,
            self.config.trainer,
            save_checkpoint,
            stop_request,
            self.state,
            keep_outputs=callbacks is not None,
            return_to=self._return_to,
            rates=self.optimization.rates,
        )
        return trainer

    def _return_to(self, step: int) -> TrainerState:
        """Load the checkpoint of ``step`` again, remove the later ones, and return its state."""
        checkpoint = self.distributed.broadcast_object(
            lambda: self.checkpoints.find_checkpoint(str(step), with_state=True)
        )
        state, _ = self._load_checkpoint(checkpoint)
        self.distributed.barrier()  # no process reads the folder any more
        if self.distributed.is_main_process:
            self.checkpoints.return_to(step, state.best_step)
        return state

    def _load_checkpoint(self, checkpoint: Path) -> tuple[TrainerState, dict[str, Any]]:
        """Load weights and training state; return the states of the trainer and the callbacks."""
        with add_location(checkpoint):
            load_trained_weights(self.task_model.model, read_trained_weights(checkpoint))
            return restore_state(
                read_training_state(checkpoint), self.optimization.train_step, self.distributed
            )

    def finish(self, memory: PeakMemory) -> RunMetrics | None:
        """Calibrate and test the best model; write and return metrics.json.

        The model has the best weights afterwards. Returns None in all processes but the main one.
        """
        state, features, task_model = self.state, self.data.features, self.task_model
        test_metrics = calibration = None
        best, validation_metrics = state.best, state.best_metrics
        average = self.optimization.train_step.average
        if average is not None:
            average.use()  # without a best checkpoint, the last one is the result
        if state.best_step is not None:
            checkpoint = self.distributed.broadcast_object(
                lambda: self.checkpoints.find_checkpoint("best")
            )
            with add_location(checkpoint):
                load_trained_weights(task_model.model, read_trained_weights(checkpoint))
            if is_calibration_requested(self.config):
                calibration, validation_metrics, self.best_outputs = calibrate(
                    self.config,
                    task_model,
                    features["validation"],
                    state.best_step,
                    self.distributed,
                    print_warning,
                )
                best = validation_metrics[task_model.task.metric]
            elif self.distributed.broadcast_object(lambda: self.best_outputs is None):
                # The best evaluation was before the run was interrupted.
                rows = len(features["validation"])
                show_status("evaluating the best checkpoint", brief=True, total=rows)
                self.best_outputs = evaluation_outputs(
                    task_model.runner,
                    task_model.task,
                    features["validation"],
                    task_model.precision,
                    self.distributed,
                )
        elif is_calibration_requested(self.config) and self.distributed.is_main_process:
            print_warning(
                "there is no best checkpoint on validation: calibrate and tune_threshold"
                " have no effect"
            )
        if "test" in features:
            show_status("evaluating the test rows", total=len(features["test"]))
            test_metrics = evaluate(
                task_model.runner,
                task_model.task,
                features["test"],
                task_model.precision,
                self.distributed,
                on_outputs=self._keep_test_outputs,
            )
            if self.test_outputs is not None:
                test_metrics |= observed_sets(task_model.task, self.test_outputs, features["test"])
        peak_bytes = memory.peak(task_model.precision.device) or 0
        [peak_bytes] = self.distributed.all_reduce_max(peak_bytes)
        if not self.distributed.is_main_process:
            return None
        metrics: RunMetrics = {
            "best": {"metric": task_model.task.metric, "value": best, "step": state.best_step},
            "validation": validation_metrics,
            "test": test_metrics,
            "train": _training_result(state, peak_bytes),
            "parameters": _parameter_counts(task_model),
        }
        module_values = {
            component.name: values
            for component in task_model.components
            if (values := component.module_values(task_model.model))
        }
        if module_values:
            metrics["module_values"] = module_values
        if (
            task_model.task.metric_function is not None
        ):  # its direction does not follow from its name
            metrics["best"]["higher_is_better"] = task_model.task.higher_is_better
        findings = list(self._collapse_findings)
        # Without training, "raise the learning rate" and similar advice would make no sense.
        if self.best_outputs is not None and state.step > 0:
            findings += task_model.task.prediction_findings(
                self.best_outputs, features["validation"]
            )
        if findings or (self.best_outputs is not None and state.step > 0):
            metrics["findings"] = [asdict(finding) for finding in findings]
        if calibration is not None:
            metrics["calibration"] = calibration
        if self.teacher is not None:
            if self.teacher.metrics is not None:
                metrics["distillation"] = distillation.compare_with_teacher(
                    self.teacher, task_model, features["validation"]
                )
            with convert_write_errors(self.run_folder.manifest_path):
                self._update_manifest({})
        self.run_folder.write_result(metrics)
        return metrics

    @property
    def outputs(self) -> dict[str, np.ndarray]:
        """Outputs of the best model by split, after ``finish``."""
        outputs = {"validation": self.best_outputs, "test": self.test_outputs}
        return {name: values for name, values in outputs.items() if values is not None}

    def _keep_test_outputs(self, outputs: np.ndarray) -> None:
        self.test_outputs = outputs

    def _check_best_checkpoint(self) -> None:
        """If the best checkpoint is damaged, warn and choose the best from later evaluations."""
        state = self.state
        problem = self.distributed.broadcast_object(
            lambda: (
                None
                if state.best_step is None
                else self.checkpoints.describe_damage(state.best_step)
            )
        )
        if problem is None:
            return
        if self.distributed.is_main_process:
            print_warning(f"{problem}: the best model is chosen again from later evaluations")
        state.best = state.best_step = state.best_metrics = None
        state.stale = 0

    def _update_manifest(self, entries: Mapping[str, Any]) -> None:
        """Write ``entries`` and the teacher's forward passes; remove the seal of the result."""
        manifest = {**self.run_folder.read_manifest(), **entries}
        if self.teacher is not None:
            manifest["teacher"] = distillation.teacher_entry(self.teacher, self._earlier_manifest)
        manifest.pop("sealed", None)
        atomic_write_json(self.run_folder.manifest_path, manifest)

    def _check_finite(self, training_state: Mapping[str, Any]) -> None:
        """Raise NonFiniteError if the weights or the training state are not finite.

        Losses and gradients of all applied steps were finite, but a step may have been too large,
        or a second moment may have overflowed.
        """
        state, _ = flatten_state({name: training_state[name] for name in ("optimizer", "parts")})
        name = first_non_finite({**trained_tensors(self.task_model.model), **state})
        if name is not None:
            raise NonFiniteError(
                f"{name} is not finite after step {self.state.step}",
                where=f"step {self.state.step}",
                hint="Lower trainer.learning_rate or trainer.weight_decay, or raise trainer.warmup."
                " No checkpoint of this step was written",
            )

    def _raise_if_interrupted(self, event: Event) -> None:
        if isinstance(event, Interrupted):
            folder = display_path(self.run_folder.path)
            raise StoppedBySignal(
                event.signum,
                where=f"step {event.step}",
                hint=f"Resume with bertft train {shlex.quote(f'resume={folder}')}",
            )


def _training_result(state: TrainerState, peak_bytes: int) -> TrainingResult:
    seconds = max(state.seconds, 1e-9)
    return {
        "seconds": state.seconds,
        "rows_per_second": state.rows / seconds,
        "tokens_per_second": state.tokens / seconds,
        "peak_memory_bytes": peak_bytes or None,
        "steps": state.step,
        "loss": state.loss_sum / max(1, state.applied_steps),
    }


def _learning_rate_setting(group: str, learning_rate: float | None) -> tuple[str, str]:
    """The part of the method that a parameter group belongs to, and the setting of its rate.

    ``learning_rate``: trainer.learning_rate, which replaces those of the components.
    """
    component = group_component(group)
    place = "task head" if component is None else f"method.{component}"
    setting = "method.head_learning_rate" if component is None else f"{place}.learning_rate"
    return place, setting if learning_rate is None else "trainer.learning_rate"


def _parameter_counts(task_model: TaskModel) -> ParameterCounts:
    counts = task_model.count_parameters()
    return {
        "total": counts["total"],
        "trainable": counts["trainable"],
        "head": counts["head"],
        "method": counts["method"],
        "kept": counts["kept"],
        "exported": counts["exported"],
    }
