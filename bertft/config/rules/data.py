"""Rules of ``data``: the source of the rows, columns, class names, settings of the task."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bertft.config.choices import DERIVED_COLUMNS, MAX_TEXT_COLUMNS, SPLITS
from bertft.config.class_weights import class_name_key
from bertft.config.data_files import STANDARD_INPUT, resolve_files
from bertft.config.presets import preset_value
from bertft.config.registry import READERS, TASKS
from bertft.config.schema import GetSetting, default_value
from bertft.config.task_facts import TASKS_BY_SETTING, is_metric_function, join_words
from bertft.config.values import is_deferred
from bertft.errors import DataError
from bertft.utils.messages import Problem, quote_for_shell

__all__ = [
    "DATA_RULES",
    "check_class_names",
    "check_files_exist",
    "check_folds",
    "check_init_files",
    "check_inspected_files",
    "check_metric_direction",
    "check_predict_rows",
    "check_training_file",
]

_METRIC_FUNCTION = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
_REQUIRED_BY_SOURCE = {"hub": "<Hub id>", "sample": "<name of a bundled data set>"}
_SOURCES = {"hub": "hub", "subset": "hub", "sample": "sample"}  # setting → the source that reads it


def _check_source(get: GetSetting) -> Iterator[Problem]:
    source = get("data.source")
    if source in _REQUIRED_BY_SOURCE and get(f"data.{source}") is None:
        yield Problem(
            f"data.{source}",
            f"is missing: it is required by data.source={source}",
            f"Set data.{source}={_REQUIRED_BY_SOURCE[source]}",
        )
    for name, required_source in _SOURCES.items():
        if get(f"data.{name}") is not None and source not in (None, required_source):
            yield _unused_source_problem(get, name, source)
    if source == "sample":
        for name in SPLITS:
            value = get(f"data.{name}")
            if value not in (None, preset_value("data", get("data.name"), name)):
                yield Problem(
                    f"data.{name}",
                    "is not supported by data.source=sample: the rows are bundled with bertft",
                    "Add data=files",
                )


def _unused_source_problem(get: GetSetting, name: str, source: str) -> Problem:
    """``data.<name>`` belongs to another source: the user set it, or the preset did."""
    path, preset = f"data.{name}", get("data.name")
    value = get(path)
    if preset_value("data", preset, name) == value:
        preset_of_source = "sample" if source == "sample" else "files"
        return Problem(
            f"{path}={value} (from the preset data={preset})",
            f"cannot be combined with data.source={source}",
            f"Add data={preset_of_source}",
        )
    word = quote_for_shell(f"{path}={value}")
    hint = {
        "hub": f"To use a Hub data set, set data=files data.source=hub {word}",
        "subset": f"To use a Hub data set, set data=files data.source=hub data.hub=<Hub id> {word}",
        "sample": f"To use a bundled data set, set data=sample {word}",
    }[name]
    return Problem(path, f"has no effect with data.source={source}", hint)


def check_training_file(get: GetSetting) -> Iterator[Problem]:
    """A new run needs training rows; those of a resumed run are in its configuration."""
    is_new_run = get("resume") in (None, "auto")
    if is_new_run and get("data.source") == "files" and get("data.train") is None:
        yield Problem(
            "data.train", "is missing: a run needs training rows", "Set data.train=<file>"
        )


def check_files_exist(get: GetSetting) -> Iterator[Problem]:
    """The files of a new run must exist; those of a resumed run may have been moved."""
    if get("resume") is not None:
        return
    path_settings = [f"data.{name}" for name in SPLITS] if get("data.source") == "files" else []
    for setting in (*path_settings, "data.unlabelled", "data.drop_rows"):
        if setting != "data.train" or get(setting) != STANDARD_INPUT:
            yield from _find_missing_files(get(setting), setting)


def _find_missing_files(value: Any, setting: str) -> Iterator[Problem]:
    """The problem with the files that ``value`` of ``setting`` selects."""
    if value is None or is_deferred(value):
        return
    try:
        resolve_files(value, setting)
    except DataError as error:
        yield Problem(error.where or setting, error.what, error.hint or "")


def check_inspected_files(get: GetSetting) -> Iterator[Problem]:
    """inspect reads files, not bundled data sets or those of the Hub."""
    source = get("data.source")
    if source not in (None, "files"):
        yield Problem(
            f"data.source={source}",
            "is not supported by inspect, which reads files",
            "Set data.source=files and data.train=<file>",
        )
    elif get("data.train") is None:
        yield Problem("data.train", "is missing", "Write bertft inspect <file>")


def check_init_files(get: GetSetting) -> Iterator[Problem]:
    """``train``, ``task`` and ``output`` of init."""
    yield from _find_missing_files(get("train"), "train")
    if get("train") is None and get("task") is not None:
        yield Problem("task", "is only supported with a training file", "Set train=<file>")
    output = Path(get("output")).expanduser()
    if output.is_dir() or not output.parent.is_dir():
        what, hint = "is a folder", "Set output=<file>"
        if not output.is_dir():
            what = f"there is no folder {output.parent}"
            hint = "Create it first, or set output to a file in an existing folder"
        yield Problem(f"output={get('output')}", what, hint)
    elif output.exists() and not get("force"):
        yield Problem(
            f"output={get('output')}",
            "the file exists",
            "Set another output, or add force=true to overwrite it",
        )


def _check_columns(get: GetSetting) -> Iterator[Problem]:
    task = get("data.task")
    if task is None:
        return
    text, label, labels = get("data.text"), get("data.label"), get("data.labels")
    if text is not None:
        yield from _check_text_columns("data.text", text)
    if isinstance(label, list):
        list_tasks = [name for name, spec in TASKS.specs().items() if spec.label == "classes"]
        if task not in list_tasks:
            yield Problem(
                "data.label",
                f"a list of columns is for data.task={join_words(list_tasks, 'or')}, not {task}",
                "Name one column",
            )
        elif not label or not all(_is_column(column) for column in label):
            yield Problem(
                "data.label", f"{label!r} is not a list of columns", "Write [sports,politics]"
            )
    elif label is not None and not _is_column(label):
        yield Problem("data.label", f"{label!r} is not a column", "Use a name or a position from 0")
    elif label in DERIVED_COLUMNS and task in TASKS and TASKS[task].label is None:
        yield Problem(
            "data.label",
            f"{label} is not supported by data.task={task}",
            "It is for tasks with one label per text",
        )
    elif label in DERIVED_COLUMNS and get("data.train") == STANDARD_INPUT:
        yield Problem(
            "data.label", f"{label} is not supported by data.train=-", "Standard input has no name"
        )
    if labels is None:
        return
    if task in TASKS and not TASKS[task].supports_class_names:
        yield Problem(
            "data.labels",
            f"is not supported by data.task={task}, which has no classes",
            "Leave it out",
        )
    else:
        yield from check_class_names("data.labels", labels)


def check_class_names(where: str, labels: Any, as_mapping: bool = True) -> Iterator[Problem]:
    """Class names as a list, or ``as_mapping`` as a mapping from the labels in the files."""
    if not isinstance(labels, (list, dict)) or not labels:
        yield Problem(
            where,
            f"{labels!r} is not a list of class names",
            "Write [negative,positive], or in quotes 'data.labels={1: negative, 2: positive}'"
            if as_mapping
            else "Write [negative,positive], in the order of the outputs",
        )
        return
    names = labels if isinstance(labels, list) else [*labels, *labels.values()]
    invalid_names = [name for name in names if name is None or isinstance(name, (list, dict))]
    if invalid_names or "" in names:
        yield Problem(
            where,
            f"{invalid_names[0] if invalid_names else ''!r} is not a class name",
            "Use a non-empty text, a number, true or false",
        )
    elif isinstance(labels, list) and len({class_name_key(name) for name in labels}) < len(labels):
        yield Problem(
            where,
            f"a class is listed twice in {labels} (1 and 1.0 are equal)",
            "List each class once",
        )


def _check_format(get: GetSetting) -> Iterator[Problem]:
    name, task = get("data.format"), get("data.task")
    tasks = READERS[name].tasks if name in READERS else ()
    if tasks and task not in (None, *tasks):
        yield Problem(
            "data.format",
            f"{name} is not supported by data.task={task}",
            f"It is a format of data.task={join_words(tasks, 'or')}",
        )


def _check_group(get: GetSetting) -> Iterator[Problem]:
    if get("data.group") is None:
        return
    task = get("data.task")
    if task in TASKS and TASKS[task].label is None:
        supported = [name for name, spec in TASKS.specs().items() if spec.label is not None]
        yield Problem(
            "data.group",
            f"is not supported by data.task={task}",
            f"It is for data.task={join_words(supported, 'or')}",
        )
    elif get("data.validation") is not None:
        yield Problem(
            "data.group",
            "has no effect with data.validation: no rows are held out",
            "Set only one of them",
        )


def check_folds(get: GetSetting) -> Iterator[Problem]:
    """``folds``, ``fold`` and ``repeat`` of a new run."""
    folds = get("data.folds")
    if folds is None:
        for name in ("data.fold", "data.repeat"):
            if get(name) not in (None, default_value(name)):
                yield Problem(name, "has no effect without data.folds", "Set data.folds=<number>")
        return
    fold = get("data.fold")
    if type(fold) is int and type(folds) is int and fold > folds:
        yield Problem("data.fold", f"{fold} is out of range", f"It must be at most {folds}")
    for name in ("data.validation", "data.test"):
        if get(name) is not None:
            yield Problem(
                name,
                "is not used with folds: the validation and test rows are parts of data.train",
                f"Set {name}=null, or add the rows to data.train as a further file",
            )


def _check_sentence(get: GetSetting) -> Iterator[Problem]:
    sentence = get("data.sentence")
    columns = sentence if isinstance(sentence, list) else [sentence]
    if sentence is None:
        return
    if not columns or not all(map(_is_column, columns)) or set(columns) & set(DERIVED_COLUMNS):
        yield Problem(
            "data.sentence",
            f"{sentence!r} is neither a column nor a list of columns",
            "Use a name, a position from 0, or a list: [document,sentence]",
        )
    if get("data.source") not in (None, "files"):
        yield Problem(
            "data.sentence",
            f"is not supported by data.source={get('data.source')}",
            "It is for tables in files: set data=files, or leave it out",
        )


def _check_empty_second(get: GetSetting) -> Iterator[Problem]:
    text, task = get("data.text"), get("data.task")
    is_pair = isinstance(text, list) and len(text) > 1
    is_supported = task not in TASKS or TASKS[task].label is not None
    if get("data.empty_second") and not (is_pair and is_supported):
        yield Problem(
            "data.empty_second",
            "has no effect without two columns of text"
            if is_supported
            else f"is not supported by data.task={task}",
            "Leave it out, or set data.text=[<column>,<column>]"
            if is_supported
            else "Leave it out",
        )


def _check_task_settings(get: GetSetting) -> Iterator[Problem]:
    task = get("data.task")
    for name, tasks in TASKS_BY_SETTING.items():
        path = f"data.{name}"
        if task not in (None, *tasks) and get(path) not in (None, default_value(path)):
            yield Problem(
                path,
                f"is not supported by data.task={task}",
                f"Leave it out, or set data.task={join_words(tasks, 'or')}",
            )


def _check_no_answer_threshold(get: GetSetting) -> Iterator[Problem]:
    path = "data.no_answer_threshold"
    is_read = get("data.task") in TASKS_BY_SETTING["no_answer_threshold"]
    is_changed = is_read and get(path) != default_value(path)
    if is_changed and get("data.unanswerable") is False:
        yield Problem(
            path,
            "has no effect with data.unanswerable=false",
            "Leave it out, or set data.unanswerable=true",
        )


def check_predict_rows(get: GetSetting) -> Iterator[Problem]:
    """``columns``, ``keep``, and the texts on the command line of predict."""
    if get("columns") is not None:
        yield from _check_text_columns("columns", get("columns"))
    text, has_input = get("text"), get("input") != "-"
    if text is not None and has_input:
        for problem in _check_text_columns("text", text):
            hint = "With input, text is a former name of columns. To predict texts, leave out input"
            yield Problem(problem.where, problem.what, hint)
        if get("columns") is not None:
            yield Problem(
                "text",
                "cannot be combined with input and columns",
                "To predict the text, leave out input and columns; to predict the file, leave out"
                " text",
            )
    keep = get("keep")
    names = keep if isinstance(keep, list) else [keep]
    if keep is not None and not all(isinstance(name, (str, int)) for name in names):
        yield Problem("keep", f"{keep!r} is not a list of columns", "Use all, or [id,date]")
    pairs = (("text_pair", "text"), ("question", "context"), ("context", "question"))
    for name, other in pairs:
        if get(name) is None:
            continue
        if get(other) is None:
            yield Problem(name, f"is not supported without {other}", f"Set {other}=<text>")
        if has_input:
            yield Problem(name, "cannot be combined with input", "Set only one of them")
    if text is not None and get("question") is not None:
        yield Problem("question", "cannot be combined with text", "Set only one of them")


def _check_metric_function(get: GetSetting) -> Iterator[Problem]:
    metric, task = get("data.metric"), get("data.task")
    if not is_metric_function(metric):
        return
    if not _METRIC_FUNCTION.fullmatch(metric):
        yield Problem(
            "data.metric",
            f"{metric!r} is not the name of a function",
            "Write package.module:function, as in sklearn.metrics:roc_auc_score",
        )
    elif task in TASKS and TASKS[task].label is None:
        supported = [name for name, spec in TASKS.specs().items() if spec.label is not None]
        yield Problem(
            "data.metric",
            f"a function is not supported by data.task={task}",
            f"Use one of its metrics. Functions are for {join_words(supported)}",
        )


def check_metric_direction(get: GetSetting) -> Iterator[Problem]:
    """A function of labels and scores does not say which values are better.

    A resumed run has recorded it.
    """
    if get("resume") not in (None, "auto"):
        return
    metric, direction = get("data.metric"), get("data.metric_direction")
    if is_metric_function(metric) and direction is None:
        yield Problem(
            "data.metric_direction",
            f"is missing: it is required by data.metric={metric}",
            "Set data.metric_direction=higher if a higher value is better, else lower",
        )
    elif direction is not None and not is_metric_function(metric):
        yield Problem(
            "data.metric_direction",
            f"is not supported by data.metric={'null' if metric is None else metric}",
            "Leave it out: it is for functions such as data.metric=sklearn.metrics:roc_auc_score",
        )


def _check_text_columns(where: str, text: Any) -> Iterator[Problem]:
    columns = text if isinstance(text, list) else [text]
    if not 1 <= len(columns) <= MAX_TEXT_COLUMNS or not all(map(_is_column, columns)):
        yield Problem(
            where,
            f"{text!r} is neither a column nor a list of at most {MAX_TEXT_COLUMNS} columns",
            "Use a name, a position from 0, or a list: [question,sentence]",
        )
    elif derived := [column for column in columns if column in DERIVED_COLUMNS]:
        yield Problem(
            where,
            f"{derived[0]} is not a text column",
            "@file and @folder are for data.label and keep",
        )


def _is_column(value: Any) -> bool:
    if isinstance(value, bool):
        return False
    return value >= 0 if isinstance(value, int) else isinstance(value, str) and bool(value)


DATA_RULES = (
    _check_source,
    _check_columns,
    _check_format,
    _check_group,
    _check_sentence,
    _check_empty_second,
    _check_task_settings,
    _check_no_answer_threshold,
    _check_metric_function,
)
