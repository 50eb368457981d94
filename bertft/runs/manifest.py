"""``manifest.json``: what the results of a run depend on, as typed entries.

``read_manifest`` validates every entry that bertft uses later. ``bertft.pipeline.manifest`` builds
the manifest of a new run.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, NotRequired, TypedDict, cast

from bertft.config.choices import FORMER_LAYOUTS, LAYOUTS, PRECISIONS
from bertft.errors import DataError
from bertft.runs.run_folder import RunFolder
from bertft.utils.messages import invalid_entry
from bertft.utils.safe_files import DAMAGED_FILE_HINT

__all__ = ["DataEntry", "Manifest", "SplitEntry", "TeacherEntry", "read_manifest"]


class SplitEntry(TypedDict):
    """The rows of a split: how many were used, and why the others were not."""

    rows: int
    source: str
    files: list[str]
    fingerprint: str
    skipped: dict[str, int]
    read: NotRequired[int]
    blank_lines: NotRequired[int]
    unused: NotRequired[dict[str, int]]
    dropped: NotRequired[dict[str, int]]
    other_lines: NotRequired[dict[str, int]]


class DataEntry(TypedDict):
    """The data of a run; it also has statistics that only reports show."""

    splits: dict[str, SplitEntry]


class OtherTeacherEntry(TypedDict):
    """A further teacher of a distillation: its folder or Hub id, and its sha256."""

    path: str
    digest: str


class TeacherEntry(OtherTeacherEntry):
    """The teacher of a distillation: its folder or Hub id, sha256, and rows and batches it ran.

    ``others``: the teachers after the first, whose passes ``forwards`` includes.
    """

    forwards: NotRequired[dict[str, int] | None]
    others: NotRequired[list[OtherTeacherEntry]]


class Manifest(TypedDict):
    """The content of manifest.json. Earlier versions did not record the optional entries."""

    format: NotRequired[int]
    bertft: str
    begun: str
    directory: NotRequired[str | None]
    python: NotRequired[str]
    packages: dict[str, str]
    hardware: dict[str, Any]
    base: dict[str, Any]
    base_head: NotRequired[str | None]
    model_type: NotRequired[str]
    task: str
    labels: list[str] | None
    metric: NotRequired[str]
    max_length: int
    precision: str
    layout: str
    cache_frozen: NotRequired[bool]
    seeds: dict[str, int]
    total_steps: NotRequired[int]
    data: DataEntry
    parameters: dict[str, Any]
    check_rows: NotRequired[str | None]
    tokenizer: NotRequired[str | None]
    teacher: NotRequired[TeacherEntry | None]
    retries: NotRequired[list[list[int]]]  # steps of a collapse and of the checkpoint returned to
    sealed: NotRequired[dict[str, str]]


def read_manifest(run: RunFolder) -> Manifest:
    """The manifest of ``run``. DataError if an entry that is used later is invalid."""
    content = run.read_manifest()
    if isinstance(content.get("layout"), str):
        content["layout"] = FORMER_LAYOUTS.get(content["layout"], content["layout"])
    for name, is_valid in _VALIDATORS.items():
        if not is_valid(content.get(name)):
            raise DataError(
                invalid_entry(name, content.get(name)),
                where=str(run.manifest_path),
                hint=DAMAGED_FILE_HINT,
            )
    return cast(Manifest, content)


def _is_data_entry(value: Any) -> bool:
    splits = value.get("splits") if isinstance(value, dict) else None
    return isinstance(splits, dict) and all(
        isinstance(split, dict)
        and isinstance(split.get("fingerprint"), str)
        and isinstance(split.get("files"), list)
        and all(isinstance(file, str) for file in split["files"])
        and _is_row_accounting(split)
        for split in splits.values()
    )


def _is_row_accounting(split: dict[str, Any]) -> bool:
    """Whether the row counts of a split are valid; earlier versions recorded fewer of them."""
    groups = ("unused", "dropped", "other_lines")
    return (
        type(split.get("rows")) is int
        and isinstance(split.get("source"), str)
        and all(type(split.get(name, 0)) is int for name in ("read", "blank_lines"))
        and all(_are_counts(split.get(name, {})) for name in groups)
        and _are_counts(split.get("skipped"))
    )


def _are_counts(value: Any) -> bool:
    return isinstance(value, dict) and all(type(count) is int for count in value.values())


def _has_values(value: Any, kind: type) -> bool:
    return isinstance(value, dict) and all(type(entry) is kind for entry in value.values())


def _is_time(value: Any) -> bool:
    try:
        datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return False
    return True


def _is_teacher(value: Any) -> bool:
    """Whether ``value`` is an entry as ``bertft.pipeline.distillation`` writes it."""
    if not isinstance(value, dict):
        return False
    others = value.get("others", [])
    return (
        isinstance(others, list)
        and all(
            isinstance(entry, dict)
            and isinstance(entry.get("path"), str)
            and isinstance(entry.get("digest"), str)
            for entry in [value, *others]
        )
        and (value.get("forwards") is None or _are_counts(value["forwards"]))
    )


_VALIDATORS: dict[str, Callable[[Any], bool]] = {
    "base": lambda value: isinstance(value, dict),
    "task": lambda value: isinstance(value, str),
    "labels": lambda value: (
        value is None or (isinstance(value, list) and all(isinstance(name, str) for name in value))
    ),
    "max_length": lambda value: type(value) is int and value > 0,
    "precision": lambda value: value in PRECISIONS,
    "layout": lambda value: value in LAYOUTS,
    "hardware": lambda value: isinstance(value, dict),
    "data": _is_data_entry,
    "begun": _is_time,
    "bertft": lambda value: isinstance(value, str),
    "packages": lambda value: _has_values(value, str),
    "seeds": lambda value: _has_values(value, int),
    "parameters": lambda value: isinstance(value, dict) and type(value.get("base")) is int,
    # Earlier versions did not record these.
    "check_rows": lambda value: value is None or isinstance(value, str),
    "teacher": lambda value: value is None or _is_teacher(value),
    "directory": lambda value: value is None or isinstance(value, str),
    "cache_frozen": lambda value: value is None or isinstance(value, bool),
    "tokenizer": lambda value: value is None or isinstance(value, str),
}
