"""What distillation adds to preparing a run: the teacher, the student cut from it, its answers.

Of a method without a teacher nothing is opened and nothing changes. A run that goes on must find
the teacher that it was begun with.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from bertft.data.features import FeatureTable
from bertft.data.splits import Splits
from bertft.distill.component import Distillation
from bertft.distill.layer_mapping import select_teacher_layers
from bertft.errors import UsageError
from bertft.methods.component import MethodComponent
from bertft.models.families import encoder_layers
from bertft.pipeline.loaded_model import LoadedModel
from bertft.pipeline.model import TaskModel
from bertft.pipeline.teacher import TeacherContext, open_teacher, prepare_teacher, teacher_digest
from bertft.tasks.task import BaseTask
from bertft.training.evaluate import evaluate, evaluation_outputs

__all__ = [
    "DistillationSetup",
    "compare_with_teacher",
    "extract_student",
    "teacher_entry",
    "warn_if_teacher_is_worse",
]


_WHERE = "method.distill.student_layers"


def extract_student(teacher: LoadedModel, requested_layers: Any, name: str) -> Any:
    """The teacher's own model, folded and cut in place. UsageError if that cannot be done.

    ``requested_layers``: how many layers, or which; ``name``: the teacher's, for messages.
    """
    model = teacher.task_model.model
    for part in teacher.task_model.components:
        if not part.foldable:
            raise UsageError(
                f"the teacher {name} has a {part.name}, which no weights can hold",
                where=_WHERE,
                hint="Leave student_layers out: the student is then model=",
            )
    teacher.task_model.fold()
    try:
        layers = encoder_layers(model)
    except UsageError as error:
        raise UsageError(
            f"a {model.config.model_type} model has one layer, run several times",
            where=_WHERE,
            hint="Leave it out, and choose a smaller model=",
        ) from error
    chosen = select_teacher_layers(requested_layers, len(layers))
    for position, number in enumerate(chosen):
        if _parameter_names(layers[number]) != _parameter_names(layers[position]):
            raise UsageError(
                f"layer {number} of a {model.config.model_type} model cannot stand at place"
                f" {position}",
                where=_WHERE,
                hint="Let the list begin with layer 0",
            )
    for number in reversed(range(len(layers))):
        if number not in chosen:
            del layers[number]
    model.config.num_hidden_layers = len(chosen)
    layer_types = getattr(model.config, "layer_types", None)  # ModernBERT's local and global ones
    if layer_types is not None:
        model.config.layer_types = [layer_types[number] for number in chosen]
    return model


def _parameter_names(layer: nn.Module) -> list[str]:
    """ModernBERT's first layer, say, has no norm before its attention."""
    return [name for name, _ in layer.named_parameters()]


def warn_if_teacher_is_worse(
    teacher: TeacherContext, student: TaskModel, table: FeatureTable, warn: Callable[[str], None]
) -> None:
    """Warn of a teacher that is worse than the student before its first step."""
    task = student.task
    assert teacher.metrics is not None
    student_value = evaluate(student.runner, task, table, student.precision)[task.metric]
    teacher_value = teacher.metrics[task.metric]
    if task.is_better(student_value, teacher_value):
        tuned = " (its tuned threshold is not used here)" if teacher.tuned else ""
        warn(
            f"the teacher {teacher.path} has {task.metric} {teacher_value:.4f} on"
            f" validation{tuned}, worse"
            f" than the student's {student_value:.4f} before its first step"
        )


def compare_with_teacher(
    teacher: TeacherContext, student: TaskModel, table: FeatureTable
) -> dict[str, Any]:
    """For metrics.json, over the validation ``table``; bytes are those of fp32 weights."""
    assert teacher.validation_outputs is not None and teacher.metrics is not None
    task, start = student.task, time.perf_counter()
    outputs = evaluation_outputs(student.runner, task, table, student.precision)
    speed = len(table) / max(time.perf_counter() - start, 1e-9)
    student_parameters = sum(each.numel() for each in student.model.parameters())
    sides = {
        "teacher": (teacher.metrics[task.metric], teacher.parameter_count, teacher.rows_per_second),
        "student": (
            task.compute_all_metrics(outputs, table)[task.metric],
            student_parameters,
            speed,
        ),
    }
    result: dict[str, Any] = {
        name: {
            "value": value,
            "parameters": parameters,
            "bytes": 4 * parameters,
            "rows_per_second": rate,
        }
        for name, (value, parameters, rate) in sides.items()
    }
    result["teacher"] |= {"path": teacher.path, "validation": teacher.metrics}
    return {
        "metric": task.metric,
        **result,
        "agreement": task.prediction_agreement(outputs, teacher.validation_outputs, table),
        "forwards": teacher.count_forwards(),
    }


class DistillationSetup:
    """Of the parts of a method; ``manifest`` is that of a run that goes on.

    ``cached_only``: the teacher's name comes from a folder, not from the user; nothing is fetched.
    """

    def __init__(
        self,
        components: Sequence[MethodComponent],
        task: BaseTask,
        precision: str,
        device: str,
        manifest: Mapping[str, Any] | None,
        trust_remote_code: bool = False,
        cached_only: bool = False,
    ) -> None:
        self.component = next((each for each in components if isinstance(each, Distillation)), None)
        self.task, self.precision, self.device = task, precision, device
        self._trust_remote_code, self._cached_only = trust_remote_code, cached_only
        self.recorded: Mapping[str, Any] | None = (manifest or {}).get("teacher")
        self._teacher: LoadedModel | None = None

    def check_teacher(self) -> None:
        """Open a teacher that will be asked: what is wrong with it is told before any work.

        UsageError if a run that goes on was begun with another one.
        """
        if self.component is None or not self.component.needs_teacher:
            return
        teacher = self.load_teacher()
        if self.recorded is not None and self.recorded["digest"] != teacher_digest(teacher):
            raise UsageError(
                "the teacher is not the one that the run was begun with",
                where=self.teacher_path,
                hint="Put it back as it was, or start another run",
            )

    @property
    def builds_student(self) -> bool:
        """Whether the student is cut from the teacher."""
        return self.component is not None and self.component.settings.student_layers is not None

    @property
    def teacher_path(self) -> str:
        assert self.component is not None and self.component.settings.teacher is not None
        setting = self.component.settings.teacher
        if self.recorded is None:
            return setting
        # A relative path was meant from the folder in which the run was begun.
        recorded_path = str(self.recorded["path"])
        return (
            recorded_path
            if Path(recorded_path).is_dir() or not Path(setting).expanduser().is_dir()
            else setting
        )

    def load_teacher(self) -> LoadedModel:
        """The teacher, in the run's precision."""
        if self._teacher is None:
            self._teacher = open_teacher(
                self.teacher_path,
                self.task,
                self.precision,
                self.device,
                self._trust_remote_code,
                self._cached_only,
            )
        return self._teacher

    def build_student(self) -> tuple[str, Any]:
        """Name and model of the student, in fp32, cut from a teacher opened for that alone."""
        assert self.component is not None
        teacher = open_teacher(self.teacher_path, self.task, "fp32", "cpu", self._trust_remote_code)
        return self.teacher_path, extract_student(
            teacher, self.component.settings.student_layers, self.teacher_path
        )

    def prepare(
        self,
        tokenizer: Any,
        max_length: int,
        splits: Splits,
        features: Mapping[str, FeatureTable],
        cache: Path,
        log: Callable[[str], None],
    ) -> TeacherContext | None:
        """The teacher with its answers; None where none is asked (see ``teacher.prepare``)."""
        if self._teacher is not None and self._teacher.task_model.head_note:
            log(f"the teacher {self.teacher_path}: {self._teacher.task_model.head_note}")
        if self.component is None or not self.component.needs_teacher:
            return None
        return prepare_teacher(
            self.teacher_path,
            self.load_teacher(),
            self.component,
            self.task,
            tokenizer,
            max_length,
            splits,
            features,
            cache,
            log,
        )

    def bind_teacher(self, task_model: TaskModel, teacher: TeacherContext | None) -> None:
        """Tell the part of ``task_model`` whom to ask; projections are drawn."""
        for component in task_model.components:
            if isinstance(component, Distillation) and teacher is not None:
                component.bind_teacher(teacher.teacher, task_model.model, teacher.model)


def teacher_entry(
    teacher: TeacherContext | None, earlier_manifest: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """What a manifest says of the teacher: {"teacher": {...}}, {} where there is none.

    ``earlier_manifest``: the manifest of a run that went on. Forward passes of all its processes
    add up.
    """
    if teacher is None:
        return {}
    folder = Path(teacher.path).expanduser()
    earlier_forwards = ((earlier_manifest or {}).get("teacher") or {}).get("forwards") or {}
    forwards = {
        name: count + earlier_forwards.get(name, 0)
        for name, count in teacher.count_forwards().items()
    }
    path = str(folder.resolve()) if folder.is_dir() else teacher.path
    return {"teacher": {"path": path, "digest": teacher.digest, "forwards": forwards}}
