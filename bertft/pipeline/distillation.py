"""Set up distillation for a run: open the teacher, build a student from it, compare the two.

A resumed run must use the teachers that it was started with.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from bertft.data.features import FeatureTable
from bertft.distill.component import Distillation, needs_teacher
from bertft.distill.layer_mapping import select_teacher_layers
from bertft.errors import UsageError
from bertft.models.families import encoder_layers
from bertft.pipeline.loaded_model import LoadedModel
from bertft.pipeline.run_context import RunContext
from bertft.pipeline.task_model import TaskModel
from bertft.pipeline.teacher import (
    TeacherContext,
    open_teacher,
    prepare_teachers,
    teacher_digest,
)
from bertft.pipeline.training_table import StudentData
from bertft.runs.manifest import Manifest, OtherTeacherEntry, TeacherEntry
from bertft.tasks.task import BaseTask
from bertft.training.evaluate import evaluate, evaluation_outputs
from bertft.utils.messages import expand_home, format_list

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = [
    "DistillationSetup",
    "compare_with_teacher",
    "extract_student",
    "teacher_entry",
    "warn_if_teacher_is_worse",
]

_TEACHER, _STUDENT_LAYERS = "method.distill.teacher", "method.distill.student_layers"


class DistillationSetup:
    """Opens the teachers of a run once and keeps them.

    ``teacher_paths``, ``load_teacher`` and ``build_student`` require a method with a teacher.
    ``check_teachers``, ``prepare`` and ``bind_teacher`` do nothing for methods without one.
    """

    def __init__(self, context: RunContext, task: BaseTask) -> None:
        self.settings = context.config.method.distill
        self.task = task
        self._context = context
        manifest = context.manifest
        self._recorded: TeacherEntry | None = manifest.get("teacher") if manifest else None
        self._teachers: dict[int, LoadedModel] = {}

    def check_teachers(self) -> None:
        """Open the teachers, so that an error in them is raised early.

        Raises:
            UsageError: a resumed run was started with another teacher, or the task does not support
                several teachers.
        """
        if not self._needs_teacher:
            return
        if len(self.teacher_paths) > 1 and not self.task.has_fixed_inputs:
            raise UsageError(
                f"{self.task.name} does not support several teachers",
                where=_TEACHER,
                hint=f"Choose one of them: {_TEACHER}={self.teacher_paths[0]}",
            )
        recorded = [] if self._recorded is None else _recorded_teachers(self._recorded)
        for number, path in enumerate(self.teacher_paths):
            teacher = self.load_teacher(number)
            if recorded and recorded[number]["digest"] != teacher_digest(teacher):
                raise UsageError(
                    "the teacher is not the one that the run was started with",
                    where=path,
                    hint="Restore it, or start a new run",
                )

    @property
    def _needs_teacher(self) -> bool:
        return self.settings is not None and needs_teacher(self.settings)

    @property
    def builds_student(self) -> bool:
        """Whether the student is built from layers of the teacher."""
        return self.settings is not None and self.settings.student_layers is not None

    @cached_property
    def teacher_paths(self) -> list[str]:
        """The folders or Hub ids of the teachers."""
        assert self.settings is not None and self.settings.teacher is not None
        setting = self.settings.teacher
        names: list[str] = setting if isinstance(setting, list) else [setting]
        if self._recorded is None:
            return names
        recorded = [str(entry["path"]) for entry in _recorded_teachers(self._recorded)]
        return [_find_teacher(*paths) for paths in zip(names, recorded, strict=True)]

    def load_teacher(self, number: int = 0) -> LoadedModel:
        """A teacher, on the device and in the precision of the run; opened by the first call."""
        if number not in self._teachers:
            context = self._context
            self._teachers[number] = open_teacher(
                self.teacher_paths[number],
                self.task,
                context.precision.name,
                str(context.device),
                context.config.model.trust_remote_code,
                cached_only=context.read_only,
            )
        return self._teachers[number]

    def build_student(self) -> tuple[str, PreTrainedModel]:
        """Name and model of the student, in fp32, built from a second copy of the first teacher."""
        assert self.settings is not None
        path = self.teacher_paths[0]
        trust_remote_code = self._context.config.model.trust_remote_code
        teacher = open_teacher(path, self.task, "fp32", "cpu", trust_remote_code)
        return path, extract_student(teacher, self.settings.student_layers, path)

    def prepare(self, student: StudentData, log: Callable[[str], None]) -> TeacherContext | None:
        """The teachers with their outputs (see ``prepare_teachers``); None without a teacher."""
        for number, teacher in self._teachers.items():
            if teacher.task_model.head_note:
                log(f"teacher {self.teacher_paths[number]}: {teacher.task_model.head_note}")
        if self.settings is None or not needs_teacher(self.settings):
            return None
        teachers = {path: self.load_teacher(n) for n, path in enumerate(self.teacher_paths)}
        return prepare_teachers(teachers, self.settings, student, log)

    def bind_teacher(self, task_model: TaskModel, teacher: TeacherContext | None) -> None:
        """Pass the teacher to the distillation component, which initializes its projections."""
        for component in task_model.components:
            if isinstance(component, Distillation) and teacher is not None:
                component.bind_teacher(teacher.teacher, task_model.model, teacher.model)


def _recorded_teachers(entry: TeacherEntry) -> list[OtherTeacherEntry]:
    return [entry, *entry.get("others", [])]


def _find_teacher(setting: str, recorded: str) -> str:
    """The teacher of a resumed run: a relative ``setting`` is relative to where it was started."""
    if Path(recorded).is_dir():
        return recorded
    return setting if expand_home(setting, _TEACHER).is_dir() else recorded


def extract_student(
    teacher: LoadedModel, requested_layers: int | list[int], name: str
) -> PreTrainedModel:
    """Fold the teacher and remove all but the requested layers of its model, in place.

    Args:
        requested_layers: number of layers, or a list of them.
        name: name of the teacher, for error messages.
    """
    model: Any = teacher.task_model.model
    if unfoldable := teacher.task_model.unfoldable_components:
        raise UsageError(
            f"the teacher {name} has a {unfoldable[0]}, which cannot be folded into weights",
            where=_STUDENT_LAYERS,
            hint=f"Leave out {_STUDENT_LAYERS}, and choose the student with model=<name>",
        )
    teacher.task_model.fold()
    try:
        layers: Any = encoder_layers(model)
    except UsageError as error:
        raise UsageError(
            f"the layers of a {model.config.model_type} model share weights, or are not one list of"
            " layers",
            where=_STUDENT_LAYERS,
            hint="Leave it out, and choose a smaller student with model=<name>",
        ) from error
    selected = select_teacher_layers(requested_layers, len(layers))
    for position, number in enumerate(selected):
        if _parameter_names(layers[number]) != _parameter_names(layers[position]):
            raise UsageError(
                f"layer {number} of a {model.config.model_type} model cannot replace layer"
                f" {position}: their parameters differ",
                where=_STUDENT_LAYERS,
                hint="Start the list with layer 0",
            )
    for number in reversed(range(len(layers))):
        if number not in selected:
            del layers[number]
    model.config.num_hidden_layers = len(selected)
    layer_types = getattr(model.config, "layer_types", None)  # ModernBERT: local or global
    if layer_types is not None:
        model.config.layer_types = [layer_types[number] for number in selected]
    return model


def _parameter_names(layer: nn.Module) -> list[str]:
    """Layers can differ: the first layer of ModernBERT has no norm before its attention."""
    return [name for name, _ in layer.named_parameters()]


def warn_if_teacher_is_worse(
    teacher: TeacherContext, student: TaskModel, table: FeatureTable, warn: Callable[[str], None]
) -> None:
    """Warn if the teacher is worse on ``table`` than the student before its first step."""
    task = student.task
    assert teacher.metrics is not None
    student_value = evaluate(student.runner, task, table, student.precision)[task.metric]
    teacher_value = teacher.metrics[task.metric]
    if task.is_better(student_value, teacher_value):
        warn(
            f"the teacher {format_list(teacher.paths)} has {task.metric} {teacher_value:.4f} on"
            f" validation, worse than the student's {student_value:.4f} before its first step."
            " Check that method.distill.teacher was trained for this task and these rows"
        )


def compare_with_teacher(
    teacher: TeacherContext, student: TaskModel, table: FeatureTable
) -> dict[str, Any]:
    """The entry of metrics.json: quality, size in fp32 and speed on the validation ``table``."""
    assert teacher.validation_outputs is not None and teacher.metrics is not None
    table = copy.copy(table)
    table.frozen_states = None  # the speed is that of all layers
    task, start = student.task, time.perf_counter()
    outputs = evaluation_outputs(student.runner, task, table, student.precision)
    rows_per_second = len(table) / max(time.perf_counter() - start, 1e-9)
    value = task.compute_all_metrics(outputs, table)[task.metric]
    parameters = sum(parameter.numel() for parameter in student.model.parameters())
    return {
        "metric": task.metric,
        "teacher": {
            "value": teacher.metrics[task.metric],
            "parameters": teacher.parameter_count,
            "bytes": 4 * teacher.parameter_count,
            "rows_per_second": teacher.rows_per_second,
            "path": teacher.path,
            **({"paths": teacher.paths} if len(teacher.paths) > 1 else {}),
            "validation": teacher.metrics,
        },
        "student": {
            "value": value,
            "parameters": parameters,
            "bytes": 4 * parameters,
            "rows_per_second": rows_per_second,
        },
        "agreement": task.prediction_agreement(outputs, teacher.validation_outputs, table),
        "forwards": teacher.count_forwards(),
    }


def teacher_entry(
    teacher: TeacherContext, earlier_manifest: Manifest | None = None
) -> TeacherEntry:
    """The manifest's entry for ``teacher``.

    ``earlier_manifest``: that of a resumed run, whose forward passes are added.
    """
    earlier = earlier_manifest.get("teacher") if earlier_manifest else None
    earlier_forwards = (earlier.get("forwards") if earlier else None) or {}
    forwards = {
        name: count + earlier_forwards.get(name, 0)
        for name, count in teacher.count_forwards().items()
    }
    first, *others = [
        OtherTeacherEntry(path=_absolute_path(path), digest=digest)
        for path, digest in zip(teacher.paths, teacher.digests, strict=True)
    ]
    entry = TeacherEntry(path=first["path"], digest=first["digest"], forwards=forwards)
    if others:
        entry["others"] = others
    return entry


def _absolute_path(path: str) -> str:
    folder = Path(path).expanduser()
    return str(folder.resolve()) if folder.is_dir() else path
