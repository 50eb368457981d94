"""What the user says of a trained head that its folder does not describe: its task, its classes.

eval says it as data.task and data.labels, other commands as task and labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bertft.config.data import DataConfig
from bertft.config.registry import TASKS
from bertft.data.labels import (
    are_placeholder_names,
    class_name_as_number,
    configured_class_names,
    to_class_name,
)
from bertft.errors import UsageError
from bertft.utils.messages import format_list

__all__ = ["PROBLEM_TYPES", "HeadSettings"]

# Tasks of one head, which transformers' config distinguishes by its problem_type.
PROBLEM_TYPES = {
    name: task.problem_type for name, task in TASKS.specs().items() if task.problem_type is not None
}


@dataclass(frozen=True)
class HeadSettings:
    """``prefix`` is that of the settings, for messages: ``data.`` or nothing.

    ``strict`` False: the caller compares task and classes itself.
    """

    task: str | None = None
    labels: Any = None
    prefix: str = ""
    strict: bool = True

    @classmethod
    def from_settings(cls, data: DataConfig | None, command: object = None) -> HeadSettings:
        """Those of eval's ``data``, else of a ``command`` that has ``task`` and ``labels``."""
        if data is not None:
            return cls(data.task, data.labels, "data.")
        return cls(getattr(command, "task", None), getattr(command, "labels", None))

    def problem_type(self, stated: str | None, outputs: int) -> str | None:
        """transformers' word for a sequence-level head: the folder's, else the user's, else None.

        A head with one output is a regression unless the folder says otherwise.
        """
        return stated if stated is not None or outputs == 1 else PROBLEM_TYPES.get(self.task or "")

    def check_task(self, task: str) -> None:
        """UsageError where the head was trained for another task than the user says."""
        if self.strict and self.task not in (None, task):
            raise UsageError(
                f"the model's head is for {task}, not {self.task}",
                where=f"{self.prefix}task",
                hint=f"Set {self.prefix}task={task}",
            )

    def class_names(self, model_labels: list[str] | None, rename: bool = True) -> list[str] | None:
        """The classes in the order of the outputs: the user's names in place of LABEL_0, LABEL_1, …

        UsageError where the user names classes that the model does not have. ``rename`` False: the
        model's ``model_labels`` names stay.
        """
        if model_labels is None or self.labels is None:
            return model_labels
        names, where = configured_class_names(self.labels), f"{self.prefix}labels"
        if rename and are_placeholder_names(model_labels) and not are_placeholder_names(names):
            if isinstance(self.labels, Mapping):
                names = self._names_by_position(len(model_labels))
            if len(names) != len(model_labels):
                raise UsageError(
                    f"names {len(names)} classes, the model has {len(model_labels)} outputs",
                    where=where,
                    hint="Name each output once, in their order",
                )
            return names
        if not self.strict:
            return model_labels
        numbers = {class_name_as_number(name) for name in model_labels} - {None}
        unknown = [
            name
            for name in names
            if name not in model_labels and class_name_as_number(name) not in numbers
        ]
        if not self.prefix:
            self._check_order(model_labels, names)
        if unknown:
            raise UsageError(
                f"{format_list(unknown, 4)} is no class of the model, which has"
                f" {format_list(model_labels, 8)}",
                where=where,
                hint="List the model's own names in the order of the numbers in the files, or map"
                f" labels to them: {where}={{<label>: {model_labels[0]}, ...}}",
            )
        return model_labels

    def _check_order(self, own: list[str], names: list[str]) -> None:
        """UsageError where the names that a command gives the outputs are the folder's in another
        order; those of ``data.labels`` are in the order of the numbers in files."""
        mine, theirs = (
            [name if (number := class_name_as_number(name)) is None else number for name in each]
            for each in (names, own)
        )
        if mine != theirs and set(mine) <= set(theirs):
            raise UsageError(
                f"names the outputs {format_list(names, 8)}, but the folder calls them"
                f" {format_list(own, 8)}",
                where="labels",
                hint="Leave it out: it is for folders that do not name their outputs",
            )

    def _names_by_position(self, outputs: int) -> list[str]:
        """The names of a mapping whose keys count the outputs from 0."""
        name_of_output = {
            class_name_as_number(to_class_name(key) or ""): name
            for key, name in self.labels.items()
        }
        if set(name_of_output) != set(range(outputs)):
            raise UsageError(
                f"does not name the outputs 0 to {outputs - 1}",
                where=f"{self.prefix}labels",
                hint="List the names in the order of the outputs",
            )
        return [to_class_name(name_of_output[number]) or "" for number in range(outputs)]  # type: ignore[index]
