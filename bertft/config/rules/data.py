"""Rows from nowhere or from two places; columns that are none."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from bertft.config.choices import SPLITS
from bertft.config.messages import Problem
from bertft.config.paths import missing_file
from bertft.config.registry import TASKS
from bertft.config.rules.get import Get, default
from bertft.config.tasks import TASKS_OF_SETTINGS, in_words
from bertft.config.values import NUMERIC

__all__ = ["RULES", "class_list", "files_there", "text_of_predict", "training_file"]

_NEEDED = {"hub": "a Hub id", "sample": "the name of an embedded sample"}


def _source(get: Get) -> Iterator[Problem]:
    source = get("data.source")
    if source in _NEEDED and get(f"data.{source}") is None:
        yield Problem(
            f"data.{source}", f"is missing: source={source} needs it", f"Give {_NEEDED[source]}"
        )
    elsewhere = [name for name in ("hub", "subset", "sample") if get(f"data.{name}") is not None]
    for name in elsewhere:
        if source not in (None, name) and not (name == "subset" and source == "hub"):
            yield Problem(
                f"data.{name}", f"is not read with source={source}",
                f"Leave it out, or choose data={get('data.name')} without changing its source",
            )  # fmt: skip
    if source == "sample":
        for name in SPLITS:
            if get(f"data.{name}") is not None:
                yield Problem(
                    f"data.{name}", "is not read: the rows are those of the embedded sample",
                    "Add data=files",
                )  # fmt: skip


def training_file(get: Get) -> Iterator[Problem]:
    """Only train needs one, and not for a run that goes on under its own configuration."""
    begins = get("resume") in (None, "auto")
    if begins and get("data.source") == "files" and get("data.train") is None:
        yield Problem("data.train", "there is no training file", "Set data.train=<file>")


def files_there(get: Get) -> Iterator[Problem]:
    """Files of a run that begins; those of one that goes on may have moved since."""
    if get("resume") is not None:
        return
    names = [f"data.{name}" for name in SPLITS] if get("data.source") == "files" else []
    for setting in (*names, "data.unlabelled"):
        if isinstance(get(setting), str):
            problem = missing_file(get(setting), setting)
            if problem is not None:
                yield problem


def _columns(get: Get) -> Iterator[Problem]:
    task = get("data.task")
    if task is None:
        return
    text, label, labels = get("data.text"), get("data.label"), get("data.labels")
    if text is not None:
        yield from _text_columns("data.text", text)
    if isinstance(label, list):
        lists = [name for name, each in TASKS.items().items() if each.label == "classes"]
        if task not in lists:
            yield Problem(
                "data.label", f"a list of columns is for task={in_words(lists, 'or')}, not {task}",
                "Give one column",
            )  # fmt: skip
        elif not label or not all(_is_column(each) for each in label):
            yield Problem("data.label", f"{label!r} names no columns", "As in [sports,politics]")
    elif label is not None and not _is_column(label):
        yield Problem("data.label", f"{label!r} is no column", "Give a name, or a position from 0")
    if labels is None:
        return
    if task in TASKS and not TASKS[task].named_classes:
        yield Problem("data.labels", f"means nothing for task={task}, which has no classes")
    else:
        yield from class_list("data.labels", labels)


def class_list(where: str, labels: Any) -> Iterator[Problem]:
    """Class names as a list, or as a mapping from the labels of the files."""
    if not isinstance(labels, (list, dict)) or not labels:
        yield Problem(
            where, f"{labels!r} is not a list of names",
            "As in [negative,positive], or {1: negative, 2: positive} to map labels to names",
        )  # fmt: skip
        return
    names = labels if isinstance(labels, list) else [*labels, *labels.values()]
    wrong = [each for each in names if each is None or isinstance(each, (list, dict))]
    if wrong or "" in names:
        yield Problem(where, f"{wrong[0] if wrong else ''!r} is not a class name", "Give a text")
    elif isinstance(labels, list) and len({_key(each) for each in labels}) < len(labels):
        yield Problem(
            where, f"one class is listed twice in {labels} (1 and 1.0 are equal)",
            "Name each class once",
        )  # fmt: skip


def _key(name: Any) -> Any:
    """What two names of one class have in common."""
    if isinstance(name, bool):
        return str(name).lower()
    text = str(name).strip()
    return Decimal(text) if NUMERIC.fullmatch(text) else text


def _of_a_task(get: Get) -> Iterator[Problem]:
    task = get("data.task")
    for name, tasks in TASKS_OF_SETTINGS.items():
        path = f"data.{name}"
        if task not in (None, *tasks) and get(path) not in (None, default(path)):
            yield Problem(
                path, f"means nothing for task={task}",
                f"Leave it out, or take data.task={in_words(tasks, 'or')}",
            )  # fmt: skip


def _of_questions(get: Get) -> Iterator[Problem]:
    path = "data.no_answer_threshold"
    given = get("data.task") == "question_answering" and get(path) != default(path)
    if given and get("data.unanswerable") is False:
        yield Problem(
            path, "means nothing where each question gets an answer",
            "Leave it out, or add data.unanswerable=true",
        )  # fmt: skip


def text_of_predict(get: Get) -> Iterator[Problem]:
    """``text`` of predict; null: as the run was trained."""
    if get("text") is not None:
        yield from _text_columns("text", get("text"))


def _text_columns(where: str, text: Any) -> Iterator[Problem]:
    columns = text if isinstance(text, list) else [text]
    if not 1 <= len(columns) <= 2 or not all(_is_column(column) for column in columns):
        yield Problem(
            where, f"{text!r} is no column and no pair of columns",
            "Give a name, a position from 0, or two of them: [question,sentence]",
        )  # fmt: skip


def _is_column(value: Any) -> bool:
    if isinstance(value, bool):
        return False
    return value >= 0 if isinstance(value, int) else isinstance(value, str) and bool(value)


RULES = (_source, _columns, _of_a_task, _of_questions)
