"""Tasks that Label Studio exports as JSON: texts with the annotations of one or more annotators.

    [{"id": 1, "data": {"text": "EU rejects"}, "annotations": [{"was_cancelled": false, "result": [
        {"from_name": "label", "type": "labels", "value": {"start": 0, "end": 2, "labels": ["ORG"]}}
    ]}]}]

A task is a row with the keys of ``data``, the ``id`` of the task and its annotation: for token
classification its spans, and for other tasks the choices, ratings and numbers of the annotator, in
a column per labelling control (``from_name``). The annotation is the one that is marked as the
ground truth, otherwise the first. The exports JSON-MIN and CSV have one annotation per row and are
read by the readers of these formats.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from bertft.config.data import DataConfig
from bertft.config.registry import TASKS
from bertft.data.readers.json_documents import read_json_document
from bertft.data.readers.json_lines import KEY_SAMPLE_OBJECTS, NumberedObject
from bertft.data.rows import BadRows, RowError
from bertft.data.schema import ColumnSpec, Record
from bertft.errors import DataError
from bertft.utils.messages import format_list

__all__ = ["is_label_studio", "list_controls", "read_label_studio"]

_ANNOTATION_KEYS = ("annotations", "completions")  # completions: before version 1.0
_LABELS = "labels"
_VALUES = ("choices", "rating", "number")  # the kinds of labels of a whole text
_OTHER_LABELS = ("hypertextlabels", "paragraphlabels", "timelinelabels")  # offsets not in a text
_FURTHER = "further annotation of a text ignored"
_CUT_TASK = re.compile(
    rf'\{{\s*"(?:id|data)"\s*:.*?"(?:{"|".join(_ANNOTATION_KEYS)})"\s*:\s*\[.*?"result"\s*:\s*\[',
    re.DOTALL,
)


def is_label_studio(head: str) -> bool:
    """Whether a JSON text that begins with ``head`` has tasks of Label Studio."""
    text = head.lstrip().removeprefix("[").lstrip()
    try:
        task, _ = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):  # a long task ends after the head
        return _CUT_TASK.match(text) is not None
    return (
        isinstance(task, dict)
        and isinstance(task.get("data"), dict)
        and any(isinstance(task.get(key), list) for key in _ANNOTATION_KEYS)
    )


def read_label_studio(
    path: Path, columns: ColumnSpec, config: DataConfig, bad: BadRows
) -> Iterator[Record]:
    """The requested values of each task; data.label selects the values of one labelling control.

    If a label is requested, tasks without an annotation, and tasks that the annotator skipped, are
    excluded. Raises DataError as ``read_json_chunks``, and for a control that does not exist.
    """
    if config.task == "token_classification":
        yield from _read_spans(path, columns, config, bad)
    else:
        yield from _read_values(path, columns, config, bad)


def list_controls(path: Path, config: DataConfig) -> list[str]:
    """The names of the controls with labels of whole texts, in the first tasks of a file.

    Raises DataError as ``read_json_chunks``.
    """
    names: dict[str, None] = {}

    def convert(objects: Iterator[NumberedObject]) -> Iterator[NumberedObject]:
        for number, task in islice(objects, KEY_SAMPLE_OBJECTS):
            if not isinstance(task, RowError):
                names.update(dict.fromkeys(_control_values(_select_annotation(task)[0] or {})))
            yield number, {"id": number}

    for _ in read_json_document(path, ColumnSpec(("id",), ()), config, BadRows(""), convert):
        pass
    return list(names)


def _read_values(
    path: Path, columns: ColumnSpec, config: DataConfig, bad: BadRows
) -> Iterator[Record]:
    """The rows with choices, ratings and numbers: several of one text are a list.

    The label is never a key of ``data``, because it may be what another model predicted.
    """
    label_names = set(map(str, columns.label))
    has_lists = TASKS[config.task].label == "classes"

    def add_values(data: dict[str, Any], used: Mapping[str, Any] | None) -> dict[str, Any]:
        row = {name: value for name, value in data.items() if name not in label_names}
        for name, values in _control_values(used or {}).items():
            row[name] = values if has_lists or len(values) > 1 else values[0]
        return row

    convert = partial(_convert_tasks, is_labelled=bool(label_names), bad=bad, make_row=add_values)
    position = len(columns.text)
    for number, fields in read_json_document(path, columns, config, bad, convert):
        if len(columns.label) == 1 and fields[position] is None:
            if not has_lists:
                bad.exclude("annotated without this label")
                continue
            fields[position] = []
        yield number, fields


def _read_spans(
    path: Path, columns: ColumnSpec, config: DataConfig, bad: BadRows
) -> Iterator[Record]:
    """The rows with spans."""
    is_labelled = bool(columns.label)
    key = str(columns.label[0]) if is_labelled else "label"
    control = key if is_labelled and config.label is not None else None
    controls: set[str] = set()

    def add_spans(data: dict[str, Any], used: Mapping[str, Any] | None) -> dict[str, Any]:
        regions = list(_label_regions(used or {}, is_strict=is_labelled))
        controls.update(name for name, _ in regions)
        spans = [region for name, region in regions if control in (None, name)]
        return {**data, key: None if used is None else spans}

    convert = partial(_convert_tasks, is_labelled=is_labelled, bad=bad, make_row=add_spans)
    yield from read_json_document(path, columns, config, bad, convert)
    if control is not None and controls and control not in controls:
        raise DataError(
            f"data.label: no span has the from_name {control!r}",
            where=bad.source,
            hint=f"Set data.label to one of {format_list(sorted(controls))}, or leave it out",
        )


def _convert_tasks(
    objects: Iterator[NumberedObject],
    is_labelled: bool,
    bad: BadRows,
    make_row: Callable[[dict[str, Any], Mapping[str, Any] | None], dict[str, Any]],
) -> Iterator[NumberedObject]:
    """``make_row`` of each task's data and the annotation that is used, None without one.

    If ``is_labelled``, tasks without an annotation are excluded, and further ones are counted.
    """
    for number, task in objects:
        if isinstance(task, RowError):
            yield number, task
            continue
        used, further, reason = _select_annotation(task)
        if is_labelled and used is None:
            bad.exclude(reason)
            continue
        if is_labelled and further:
            bad.dropped[_FURTHER] += further
        try:
            yield number, make_row(_task_row(task), used)
        except RowError as error:
            yield number, error


def _task_row(task: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of a task's data and its id. Raises RowError."""
    data = task.get("data")
    if not isinstance(data, dict):
        raise RowError("no data", "the task has no object 'data'")
    return {"id": task.get("id"), **data}


def _select_annotation(task: Mapping[str, Any]) -> tuple[Mapping[str, Any] | None, int, str]:
    """The annotation that is used, the number of others, and the reason if none can be used."""
    items: list[object] = next(
        (task[key] for key in _ANNOTATION_KEYS if isinstance(task.get(key), list)), []
    )
    annotations = [item for item in items if isinstance(item, dict)]
    valid = [item for item in annotations if not item.get("was_cancelled")]
    if not valid:
        return None, 0, "skipped by the annotator" if annotations else "not annotated"
    used = next((item for item in valid if item.get("ground_truth")), valid[0])
    return used, len(valid) - 1, ""


def _label_regions(
    annotation: Mapping[str, Any], is_strict: bool
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(name of the control, span) of each labelled region.

    If ``is_strict``, raises RowError for a region whose offsets are not positions in a text.
    """
    for item in annotation.get("result") or ():
        value = item.get("value") if isinstance(item, dict) else None
        if not isinstance(value, dict):
            continue
        kind = str(item.get("type"))
        if is_strict and kind in _OTHER_LABELS:
            raise RowError(
                f"{kind} are not supported",
                f"the task has {kind} of Label Studio, whose offsets are not positions in a text",
            )
        if kind == _LABELS or _LABELS in value:
            yield str(item.get("from_name")), value


def _control_values(annotation: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Control → its choices, rating or number for the whole text; not those for a part of it."""
    values: dict[str, list[Any]] = {}
    for item in annotation.get("result") or ():
        value = item.get("value") if isinstance(item, dict) else None
        if not isinstance(value, dict) or "start" in value:
            continue
        for kind in _VALUES:
            chosen = value.get(kind)
            chosen = chosen if isinstance(chosen, list) else [chosen]
            if chosen and None not in chosen:
                values.setdefault(str(item.get("from_name")), []).extend(chosen)
    return values
