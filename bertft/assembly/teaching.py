"""What distillation adds to preparing a run: the teacher, the student cut from it, its answers.

Of a method without a teacher nothing is opened and nothing changes. A run that goes on must find
the teacher that it was begun with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bertft.assembly.adapted import TaskModel
from bertft.assembly.saved import LoadedModel
from bertft.assembly.student import extract_student
from bertft.assembly.teacher import TeacherContext, teacher_digest, prepare_teacher, open_teacher
from bertft.data.sources import Splits
from bertft.data.table import FeatureTable
from bertft.errors import UsageError
from bertft.methods.distill.part import Distillation
from bertft.methods.part import MethodComponent
from bertft.tasks.task import BaseTask

__all__ = ["DistillationSetup", "teacher_entry"]


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
                "the teacher is not the one that the run was begun with", where=self.teacher_path,
                hint="Put it back as it was, or start another run",
            )  # fmt: skip

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
        return recorded_path if Path(recorded_path).is_dir() or not Path(setting).expanduser().is_dir() else setting

    def load_teacher(self) -> LoadedModel:
        """The teacher, in the run's precision."""
        if self._teacher is None:
            self._teacher = open_teacher(
                self.teacher_path, self.task, self.precision, self.device, self._trust_remote_code, self._cached_only
            )
        return self._teacher

    def build_student(self) -> tuple[str, Any]:
        """Name and model of the student, in fp32, cut from a teacher opened for that alone."""
        assert self.component is not None
        teacher = open_teacher(self.teacher_path, self.task, "fp32", "cpu", self._trust_remote_code)
        return self.teacher_path, extract_student(teacher, self.component.settings.student_layers, self.teacher_path)

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
            self.teacher_path, self.load_teacher(), self.component, self.task, tokenizer, max_length, splits, features,
            cache, log,
        )  # fmt: skip

    def bind_teacher(self, task_model: TaskModel, teacher: TeacherContext | None) -> None:
        """Tell the part of ``task_model`` whom to ask; projections are drawn."""
        for component in task_model.components:
            if isinstance(component, Distillation) and teacher is not None:
                component.bind_teacher(teacher.teacher, task_model.model, teacher.model)


def teacher_entry(
    teacher: TeacherContext | None, earlier_manifest: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """What a manifest says of the teacher: {"teacher": {...}}, {} where there is none.

    ``earlier_manifest``: the manifest of a run that went on. Forward passes of all its processes add up.
    """
    if teacher is None:
        return {}
    folder = Path(teacher.path).expanduser()
    earlier_forwards = ((earlier_manifest or {}).get("teacher") or {}).get("forwards") or {}
    forwards = {name: count + earlier_forwards.get(name, 0) for name, count in teacher.count_forwards().items()}
    path = str(folder.resolve()) if folder.is_dir() else teacher.path
    return {"teacher": {"path": path, "digest": teacher.digest, "forwards": forwards}}
