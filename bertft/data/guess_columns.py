"""Propose ``data.text``, ``data.label`` and ``data.task`` for a file with other column names.

Names that are usual for texts and labels come first. Otherwise the longest texts are the text, and
the column with the fewest distinct values is the label.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from bertft.config.overrides import format_value
from bertft.data.guess_entities import Column, guess_entity_columns
from bertft.data.labels import unwrap_choices

__all__ = [
    "LABEL_COLUMN_NAMES",
    "TEXT_COLUMN_NAMES",
    "TableColumn",
    "format_column",
    "propose_settings",
]

# In the order in which they are preferred.
TEXT_COLUMN_NAMES = (
    "text", "sentence", "review", "comment", "tweet", "message", "content", "utterance", "post",
    "body", "document", "texts", "input", "description", "abstract", "question", "query", "passage",
    "context", "title", "headline", "文本", "内容", "评论", "句子", "正文", "问题", "标题",
    "premise", "hypothesis", "question1", "question2", "sentence1", "sentence2", "text1", "text2",
    "text_a", "text_b",
)  # fmt: skip
LABEL_COLUMN_NAMES = (
    "label", "labels", "target", "class", "category", "sentiment", "gold_label", "gold", "intent",
    "topic", "polarity", "is_duplicate", "emotion", "rating", "stars", "score", "similarity", "tag",
    "tags", "y", "标签", "类别", "分类", "情感", "标注",
)  # fmt: skip
_PAIRS = (
    ("sentence1", "sentence2"), ("question1", "question2"), ("premise", "hypothesis"),
    ("text1", "text2"), ("text_a", "text_b"), ("query", "passage"), ("question", "sentence"),
    ("first", "second"), ("s1", "s2"), ("句子1", "句子2"), ("文本1", "文本2"),
)  # fmt: skip
_QUESTIONS = ("question", "query", "问题")
_CONTEXTS = ("context", "passage", "paragraph", "document", "上下文", "文章")
_ANSWERS = ("answers", "answer", "答案")
_ACCEPTED_OPTIONS = "accept"  # of Prodigy: the options that the annotator chose
_ID_NAMES = ("id", "idx", "index", "uid", "guid", "编号")
_MAX_CLASSES = 100
_MIN_ROWS = 20  # with fewer rows, any number of distinct values can be classes
_MAX_NAME_LENGTH = 40
_MIN_PAIR_RATIO = 1 / 2  # of the mean lengths of two columns that are a pair
_PLAIN_NAME = re.compile(r"[^\W\d][\w.-]*( [\w.-]+)*")
_HYDRA_LITERALS = ("null", "true", "false", "inf", "nan")  # a name like these needs quotes


@dataclass(frozen=True)
class TableColumn:
    """A column of the sampled rows."""

    position: int
    name: str | int  # the position, in a file without a header
    values: Sequence[Any]

    @cached_property
    def texts(self) -> list[str]:
        return [str(value).strip() for value in self.values if value not in (None, "")]

    @cached_property
    def is_list(self) -> bool:
        return any(isinstance(value, (list, tuple, dict)) for value in self.values)

    @cached_property
    def label_lists(self) -> list[list[str]]:
        """The values as lists of names; empty if any is not a name or a list of names."""
        values = [unwrap_choices(value) for value in self.values if value not in (None, "")]
        lists = [value if isinstance(value, (list, tuple)) else [value] for value in values]
        if not all(isinstance(item, (str, int)) for items in lists for item in items):
            return []
        return [[str(item).strip() for item in items] for items in lists]

    @property
    def has_several_labels(self) -> bool:
        """Whether the values are lists, and not all of them are of one name, which is a class."""
        return self.is_list and not (
            self.label_lists and all(len(names) == 1 for names in self.label_lists)
        )

    @property
    def may_be_label_lists(self) -> bool:
        """Whether the values can be lists of classes: few names that are repeated."""
        names = [name for names in self.label_lists for name in names]
        are_few = len(set(names)) <= min(_MAX_CLASSES, len(names) / 2)
        is_possible = self.has_several_labels and len(set(names)) > 1
        return is_possible and (are_few or len(self.values) < _MIN_ROWS)

    @cached_property
    def numbers(self) -> list[float]:
        """The values as numbers; empty if any is not a number."""
        try:
            return [float(text) for text in self.texts]
        except ValueError:
            return []

    @property
    def kind(self) -> str:
        """The type of the values, in a word or two."""
        if not self.texts:
            return "empty"
        if self.is_list:
            return "object" if any(isinstance(value, dict) for value in self.values) else "list"
        if all(isinstance(value, bool) or value in (None, "") for value in self.values):
            return "boolean"
        if not self.numbers:
            return "text"
        if self.is_binary:
            return "0 or 1"
        return "number" if self.is_fractional else "integer"

    @property
    def is_fractional(self) -> bool:
        return any(not number.is_integer() for number in self.numbers)

    @property
    def is_binary(self) -> bool:
        return bool(self.numbers) and set(self.numbers) <= {0.0, 1.0}

    @property
    def is_text(self) -> bool:
        return bool(self.texts) and not self.numbers and not self.is_list

    @property
    def distinct(self) -> int:
        return len(set(self.texts))

    @property
    def mean_length(self) -> float:
        return sum(map(len, self.texts)) / max(1, len(self.texts))

    @property
    def may_be_classes(self) -> bool:
        """Whether the values can be classes: few and repeated, and not row numbers."""
        if self.has_several_labels or str(self.name).casefold() in _ID_NAMES or self.distinct < 2:
            return False
        are_few = self.distinct <= min(_MAX_CLASSES, len(self.texts) / 2)
        return are_few or (len(self.texts) < _MIN_ROWS and not self.is_fractional)

    def rank_in(self, names: Sequence[str]) -> int:
        """The position of the name in ``names``; after all of them if it is not there."""
        name = str(self.name).casefold()
        return names.index(name) if name in names else len(names)


def propose_settings(
    names: Sequence[str],
    rows: Sequence[Sequence[Any]],
    task: str,
    text: Any = None,
    label: Any = None,
    has_positions: bool = True,
    label_names: Sequence[str] | None = None,
) -> list[str]:
    """Settings that read a file, ``["data.text=review", "data.label=stars"]``; empty if unclear.

    Args:
        names: the names of the columns, or the first row if the file has no header.
        rows: some rows, with one value per column.
        task: data.task. For classification, another task is proposed if the columns are its own.
        text: data.text, if the file has these columns; it is not changed.
        label: data.label, if the file has this column; it is not changed.
        has_positions: whether columns can be selected by position.
        label_names: the only columns that can be labels, which are not texts; None: all.
    """
    if not rows or len({name.strip() for name in names}) < len(names):
        return []
    columns = _columns(names, rows)
    if _is_row(columns):
        if not has_positions:
            return []
        columns = _columns(range(len(names)), [names, *rows])
    if text is None and label is None and task in ("classification", "question_answering"):
        questions, contexts, answers = (
            _named(columns, candidates) for candidates in (_QUESTIONS, _CONTEXTS, _ANSWERS)
        )
        if questions and contexts and answers:
            return _format("question_answering", task, [questions, contexts], [answers])
    selected_text, selected_label = _select(columns, text), _select(columns, label)
    if task in ("classification", "token_classification"):
        entities = guess_entity_columns(columns, selected_text, selected_label, TEXT_COLUMN_NAMES)
        if entities is not None:
            found = (
                [] if text is not None else [entities.text],
                [] if label is not None else [entities.label],
            )
            return _format("token_classification", task, *found, entities.sentence)
    if task in ("question_answering", "token_classification"):
        return []
    configured = [*selected_text, *selected_label]
    free_columns = [column for column in columns if column not in configured]
    label_columns = free_columns
    if label_names is not None:
        label_columns = [column for column in free_columns if column.name in label_names]
        free_columns = [column for column in free_columns if column not in label_columns]
    texts = [] if text is not None else _guess_text(free_columns)
    if text is None and not texts:
        return []
    if label is not None or task == "masked_lm":
        return _format(task, task, texts, [])
    return _guess_label([column for column in label_columns if column not in texts], texts, task)


def _select(columns: Sequence[TableColumn], setting: Any) -> list[TableColumn]:
    """The columns of a setting: a name, a position or a list of them; empty for None."""
    selected = setting if isinstance(setting, (list, tuple)) else [setting]
    positions = {item % len(columns) for item in selected if isinstance(item, int)}
    return [column for column in columns if column.name in selected or column.position in positions]


def _columns(names: Sequence[str | int], rows: Sequence[Sequence[Any]]) -> list[TableColumn]:
    return [
        TableColumn(position, name, [row[position] for row in rows])
        for position, name in enumerate(names)
    ]


def _is_row(columns: Sequence[TableColumn]) -> bool:
    """Whether the names are probably the first row of a file without a header."""
    return any(
        len(str(column.name)) > _MAX_NAME_LENGTH
        or (column.numbers and re.fullmatch(r"[+-]?[\d.]+", str(column.name)))
        or (column.name in column.texts and column.distinct < len(column.texts))
        for column in columns
    )


def _named(columns: Sequence[TableColumn], names: Sequence[str]) -> TableColumn | None:
    """The column whose name comes first in ``names``."""
    column = min(columns, key=lambda column: column.rank_in(names), default=None)
    return None if column is None or column.rank_in(names) == len(names) else column


def _guess_text(columns: Sequence[TableColumn]) -> list[TableColumn]:
    """One column of texts, or two for a pair; empty if there are no texts."""
    candidates = [column for column in columns if column.is_text]
    by_name = {str(column.name).casefold(): column for column in candidates}
    for pair in _PAIRS:
        if all(name in by_name for name in pair):
            return [by_name[name] for name in pair]
    named = _named(candidates, TEXT_COLUMN_NAMES)
    if named is not None:
        return [named]
    candidates = [column for column in candidates if _named([column], LABEL_COLUMN_NAMES) is None]
    longest = max(candidates, key=lambda column: column.mean_length, default=None)
    if len(candidates) == 2 and _is_unnamed_pair(*candidates):
        return candidates
    return [] if longest is None else [longest]


def _is_unnamed_pair(first: TableColumn, second: TableColumn) -> bool:
    """Whether two columns without names have texts of similar lengths."""
    lengths = sorted((first.mean_length, second.mean_length))
    is_unnamed = isinstance(first.name, int) and isinstance(second.name, int)
    are_classes = first.may_be_classes or second.may_be_classes
    return is_unnamed and not are_classes and lengths[0] >= _MIN_PAIR_RATIO * lengths[1]


def _guess_label(
    columns: Sequence[TableColumn], texts: Sequence[TableColumn], task: str
) -> list[str]:
    """The settings with a label among ``columns``; empty if there is none."""
    binary = [column for column in columns if column.is_binary]
    candidates = [
        column
        for column in columns
        if column.may_be_classes or column.is_fractional or column.is_list
    ]
    named = _named(candidates, (*LABEL_COLUMN_NAMES, _ACCEPTED_OPTIONS))
    if task == "regression":
        numeric = [column for column in columns if column.numbers]
        number = _named(numeric, LABEL_COLUMN_NAMES) or max(
            numeric, key=lambda column: (column.is_fractional, column.position), default=None
        )
        return _format(task, task, texts, [number]) if number else []
    if len(binary) > 1 and (named is None or task == "multi_label"):
        return _format("multi_label", task, texts, binary)
    if named is not None and named.has_several_labels:
        return _format("multi_label", task, texts, [named])
    classes = [column for column in columns if column.may_be_classes and not column.is_fractional]
    fractional = [column for column in columns if column.is_fractional]
    label = named or min(
        classes, key=lambda column: (column.distinct, -column.position), default=None
    )
    lists = [column for column in columns if column.may_be_label_lists]
    if label is None and lists:
        return _format("multi_label", task, texts, lists[:1])
    if label is None and fractional and task == "classification":
        label = fractional[-1]
    if label is None:
        return []
    return _format("regression" if label.is_fractional else task, task, texts, [label])


def _format(
    task: str,
    configured_task: str,
    texts: Sequence[Column],
    labels: Sequence[Column],
    sentence: Column | None = None,
) -> list[str]:
    settings = [] if task == configured_task else [f"data.task={task}"]
    sentences = [] if sentence is None else [sentence]
    for setting, columns in (
        ("data.sentence", sentences),
        ("data.text", texts),
        ("data.label", labels),
    ):
        names = [format_column(column.name) for column in columns]
        if len(names) == 1:
            settings.append(f"{setting}={names[0]}")
        elif names:
            settings.append(f"{setting}=[{','.join(names)}]")
    return settings


def format_column(name: str | int) -> str:
    """``name`` as the value of data.text: quoted if it would be read as something else."""
    if isinstance(name, int):
        return str(name)
    is_plain = _PLAIN_NAME.fullmatch(name) and name.casefold() not in _HYDRA_LITERALS
    return name if is_plain else format_value(name)
