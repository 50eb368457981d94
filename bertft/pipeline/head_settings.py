"""Settings of the user for a trained head that its folder does not describe: task and classes.

They are data.task and data.labels in eval, task and labels in other commands.
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
from bertft.tasks.token_classification.tag_schemes import parse_class_tags
from bertft.utils.messages import format_list

__all__ = ["PROBLEM_TYPES", "HeadSettings"]

_REMOVE_LABELS = "Remove it: it is only for folders that do not name their outputs"

# Tasks that share a head class; transformers' config distinguishes them by its problem_type.
PROBLEM_TYPES = {
    name: task.problem_type for name, task in TASKS.specs().items() if task.problem_type is not None
}


@dataclass(frozen=True)
class HeadSettings:
    """Task and classes as the user configured them; None: not configured.

    Attributes:
        labels: a list of class names, or a mapping from label to class.
        prefix: of the names of these settings in messages: ``data.`` or empty.
        strict: whether a difference from the model is an error; otherwise, the caller compares
            task and classes.
    """

    task: str | None = None
    labels: Any = None
    prefix: str = ""
    strict: bool = True

    @classmethod
    def from_settings(cls, data: DataConfig | None, command: object = None) -> HeadSettings:
        """Read them from ``data`` of eval, or else from ``task`` and ``labels`` of ``command``."""
        if data is not None:
            return cls(data.task, data.labels, "data.")
        return cls(getattr(command, "task", None), getattr(command, "labels", None))

    def problem_type(self, recorded: str | None, outputs: int) -> str | None:
        """The problem_type of a sequence-level head: ``recorded``, else that of the user's task.

        None if neither is known. A head with one output is a regression by default.
        """
        if recorded is not None or outputs == 1:
            return recorded
        return PROBLEM_TYPES.get(self.task or "")

    def check_task(self, task: str) -> None:
        """Raise UsageError if the head was trained for another task than the configured one."""
        if self.strict and self.task not in (None, task):
            raise UsageError(
                f"the head of the model was trained for {task}, not {self.task}",
                where=f"{self.prefix}task",
                hint=f"Set {self.prefix}task={task}",
            )

    def class_names(self, model_labels: list[str] | None, rename: bool = True) -> list[str] | None:
        """The classes in the order of the outputs; the user's names replace LABEL_0, LABEL_1, …

        Args:
            model_labels: the class names of the model.
            rename: whether placeholder names may be replaced.

        Raises:
            UsageError: the user configured classes that the model does not have.
        """
        if model_labels is None or self.labels is None:
            return model_labels
        names, where = configured_class_names(self.labels), f"{self.prefix}labels"
        if rename and are_placeholder_names(model_labels) and not are_placeholder_names(names):
            if isinstance(self.labels, Mapping):
                names = self._names_by_position(len(model_labels))
            if len(names) != len(model_labels):
                raise UsageError(
                    f"has {len(names)} names, but the model has {len(model_labels)} outputs",
                    where=where,
                    hint="List one name per output, in the order of the outputs",
                )
            return names
        if not self.strict:
            return model_labels
        numbers = {class_name_as_number(name) for name in model_labels} - {None}
        known = {*model_labels, *self._entity_types(model_labels)}
        unknown = [
            name
            for name in names
            if name not in known and class_name_as_number(name) not in numbers
        ]
        if not self.prefix:
            self._check_order(model_labels, names)
        if unknown:
            raise UsageError(
                f"the model has no class {format_list(unknown, 4)} (classes:"
                f" {format_list(model_labels, 8)})",
                where=where,
                hint="List the model's own names in the order of the numbers in the files, or map"
                f" labels to them: '{where}={{<label>: {model_labels[0]}, ...}}'"
                if self.prefix
                else _REMOVE_LABELS,
            )
        return model_labels

    def _entity_types(self, model_labels: list[str]) -> set[str]:
        """The types in the tags of the model: data.labels names the types of rows with spans."""
        if self.task != "token_classification" or not self.prefix:
            return set()
        return {entity_type for _, entity_type in parse_class_tags(model_labels)[1]}

    def _check_order(self, model_labels: list[str], names: list[str]) -> None:
        """Raise UsageError if ``names`` are the model's names in another order.

        It does not apply to ``data.labels``, which is in the order of the numbers in files.
        """
        configured, recorded = (
            [name if (number := class_name_as_number(name)) is None else number for name in labels]
            for labels in (names, model_labels)
        )
        if configured != recorded and set(configured) <= set(recorded):
            raise UsageError(
                f"is {format_list(names, 8)}, but the outputs of the model are named"
                f" {format_list(model_labels, 8)}",
                where="labels",
                hint=_REMOVE_LABELS,
            )

    def _names_by_position(self, outputs: int) -> list[str]:
        """The names in a mapping whose keys are the indices of the outputs."""
        name_of_output = {
            class_name_as_number(to_class_name(key) or ""): name
            for key, name in self.labels.items()
        }
        if set(name_of_output) != set(range(outputs)):
            raise UsageError(
                f"must name each of the outputs 0 to {outputs - 1}",
                where=f"{self.prefix}labels",
                hint="List the names in the order of the outputs",
            )
        return [to_class_name(name_of_output[number]) or "" for number in range(outputs)]  # type: ignore[index]
