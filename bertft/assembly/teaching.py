"""What distillation adds to preparing a run: the teacher, the student cut from it, its answers.

Of a method without a teacher nothing is opened and nothing changes. A run that goes on must find
the teacher that it was begun with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bertft.assembly.adapted import Adapted
from bertft.assembly.saved import Saved
from bertft.assembly.student import cut_student
from bertft.assembly.teacher import Hired, digest_of, hire, open_teacher
from bertft.data.sources import Splits
from bertft.data.table import FeatureTable
from bertft.errors import UsageError
from bertft.methods.distill.part import Distill
from bertft.methods.part import Part
from bertft.tasks.task import BaseTask

__all__ = ["Teaching", "recorded_teacher"]


class Teaching:
    """Of the parts of a method; ``manifest`` is that of a run that goes on.

    ``cached_only``: the teacher's name comes from a folder, not from the user; nothing is fetched.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        task: BaseTask,
        precision: str,
        device: str,
        manifest: Mapping[str, Any] | None,
        trust: bool = False,
        cached_only: bool = False,
    ) -> None:
        self.part = next((each for each in parts if isinstance(each, Distill)), None)
        self.task, self.precision, self.device = task, precision, device
        self._trust, self._cached_only = trust, cached_only
        self.begun: Mapping[str, Any] | None = (manifest or {}).get("teacher")
        self._saved: Saved | None = None

    def check(self) -> None:
        """Open a teacher that will be asked: what is wrong with it is told before any work.

        UsageError if a run that goes on was begun with another one.
        """
        if self.part is None or not self.part.asks:
            return
        saved = self.open()
        if self.begun is not None and self.begun["digest"] != digest_of(saved):
            raise UsageError(
                "the teacher is not the one that the run was begun with", where=self.path,
                hint="Put it back as it was, or start another run",
            )  # fmt: skip

    @property
    def cuts(self) -> bool:
        """Whether the student is cut from the teacher."""
        return self.part is not None and self.part.settings.student_layers is not None

    @property
    def path(self) -> str:
        assert self.part is not None and self.part.settings.teacher is not None
        given = self.part.settings.teacher
        if self.begun is None:
            return given
        # A relative path was meant from the folder in which the run was begun.
        known = str(self.begun["path"])
        return known if Path(known).is_dir() or not Path(given).expanduser().is_dir() else given

    def open(self) -> Saved:
        """The teacher, in the run's precision."""
        if self._saved is None:
            self._saved = open_teacher(
                self.path, self.task, self.precision, self.device, self._trust, self._cached_only
            )
        return self._saved

    def student(self) -> tuple[str, Any]:
        """Name and model of the student, in fp32, cut from a teacher opened for that alone."""
        assert self.part is not None
        saved = open_teacher(self.path, self.task, "fp32", "cpu", self._trust)
        return self.path, cut_student(saved, self.part.settings.student_layers, self.path)

    def hire(
        self,
        tokenizer: Any,
        max_length: int,
        splits: Splits,
        features: Mapping[str, FeatureTable],
        cache: Path,
        say: Callable[[str], None],
    ) -> Hired | None:
        """The teacher with its answers; None where none is asked (see ``teacher.hire``)."""
        if self._saved is not None and self._saved.adapted.head_note:
            say(f"the teacher {self.path}: {self._saved.adapted.head_note}")
        if self.part is None or not self.part.asks:
            return None
        return hire(
            self.path, self.open(), self.part, self.task, tokenizer, max_length, splits, features,
            cache, say,
        )  # fmt: skip

    def bind(self, adapted: Adapted, hired: Hired | None) -> None:
        """Tell the part of ``adapted`` whom to ask; projections are drawn."""
        for part in adapted.parts:
            if isinstance(part, Distill) and hired is not None:
                part.bind(hired.teacher, adapted.model, hired.model)


def recorded_teacher(
    hired: Hired | None, before: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """What a manifest says of the teacher: {"teacher": {...}}, {} where there is none.

    ``before``: the manifest of a run that went on. Forward passes of all its processes add up.
    """
    if hired is None:
        return {}
    folder = Path(hired.path).expanduser()
    told = ((before or {}).get("teacher") or {}).get("forwards") or {}
    forwards = {name: count + told.get(name, 0) for name, count in hired.forwards().items()}
    path = str(folder.resolve()) if folder.is_dir() else hired.path
    return {"teacher": {"path": path, "digest": hired.digest, "forwards": forwards}}
