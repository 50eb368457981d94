"""Findings: facts about the rows or predictions of a run that a user should know and act on.

Findings on the data are in ``manifest.json`` under ``data.findings``, those on the predictions in
``metrics.json`` under ``findings``. The terminal and the report show both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

__all__ = ["COLLAPSE_KINDS", "Finding", "read_findings"]

# The predictions do not depend on the input.
COLLAPSE_KINDS = frozenset(
    {
        "constant_answer_position",
        "constant_output",
        "no_predicted_answer",
        "no_predicted_entity",
        "no_predicted_label",
        "one_predicted_class",
    }
)


@dataclass(frozen=True)
class Finding:
    """A fact and what to do about it.

    Attributes:
        kind: An identifier such as ``one_predicted_class``.
        message: The fact with its numbers, a sentence without a full stop.
        count: The affected rows (classes for ``missing_classes``).
        total: The rows or classes that were examined.
        example: One affected row or class; may be empty.
        advice: What to do, one or two sentences.
    """

    kind: str
    message: str
    count: int
    total: int
    example: str
    advice: str

    def format_line(self) -> str:
        """The finding in one line, for a terminal."""
        example = f" ({self.example})" if self.example else ""
        return f"{self.message}{example}. {self.advice}"


def read_findings(metrics: Mapping[str, Any], manifest: Mapping[str, Any]) -> list[Finding]:
    """The findings on predictions, then those on data.

    Runs of earlier versions have none. An invalid entry, which bertft did not write, is ignored.
    """
    data = manifest.get("data")
    entries = [metrics.get("findings"), data.get("findings") if isinstance(data, Mapping) else None]
    return [
        Finding(**entry)
        for group in entries
        if isinstance(group, list)
        for entry in group
        if _is_finding(entry)
    ]


def _is_finding(entry: Any) -> bool:
    type_names = {field.name: field.type for field in fields(Finding)}  # "str" or "int"
    return (
        isinstance(entry, dict)
        and entry.keys() == type_names.keys()
        and all(type(entry[name]).__name__ == type_names[name] for name in type_names)
    )
