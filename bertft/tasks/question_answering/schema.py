"""Rows of question answering: a question, the context that contains its answer, and the answers.

    answers                 {"text": [...], "answer_start": [...]}
                            or [{"text": ..., "answer_start": ...}, ...]
    answer, answer_start    two columns instead of ``answers``, for rows with at most one answer;
                            an empty ``answer`` means that the question is unanswerable

An answer is a span of the context, ``context[start : start + len(text)] == text``. An answer that
occurs exactly once needs no offset. A question without answers is unanswerable. In the table,
``label`` holds the answers' texts and ``start`` their offsets; the first answer is the training
target. An answer marked ``offset_guessed`` is used for scoring, but not for training. An answer
with ``text_in_context`` occurs in the context as this text, which differs in white space: the
training target is the text of the context, and the answer itself is scored.

If one of several answers is not at its offset, only that offset is dropped and counted, not the
question. Training rows keep the answers with a known offset and need at least one. Rows to score
keep the text, as the official scripts do, with the offset −1 (``UNKNOWN_OFFSET``), because scores
do not need offsets. An answer that is not text is left out of both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from bertft.config.data import DataConfig
from bertft.data.labels import to_class_name
from bertft.data.rows import RowError
from bertft.data.schema import (
    ColumnSpec,
    LabelReader,
    RowSchema,
    check_characters,
    label_columns,
    require_text,
    text_columns,
)
from bertft.errors import UsageError
from bertft.utils.messages import describe_value

__all__ = ["UNKNOWN_OFFSET", "QuestionAnsweringRowSchema"]

UNKNOWN_OFFSET = -1  # the offset of an answer that was not found at its own offset
_MAX_SHOWN = 40
_MAX_DIGITS = 20


class QuestionAnsweringRowSchema(RowSchema):
    """Columns ``id`` (may be null), ``question``, ``context``; with labels ``label``, ``start``."""

    text_fields = ("question", "context")
    label_fields = ("label", "start")
    group_field = "context"
    missing_label_hint = (
        "Answers are read from the column answers, or from answer and answer_start. Set"
        " data.label=<column> for another column"
    )

    def __init__(self, config: DataConfig, labelled: bool) -> None:
        self.labelled, self.unanswerable = labelled, config.unanswerable
        texts = text_columns(config, ("question", "context"))
        if len(texts) != 2:
            raise UsageError(
                f"expected two columns, the question and its context, got {len(texts)}",
                where="data.text",
                hint="Set data.text=[question,context]",
            )
        label = label_columns(config, ())
        if len(label) > 1:
            raise UsageError(
                f"expected one column of answers, got {len(label)}",
                where="data.label",
                hint="Set data.label=<column>",
            )
        answer_columns = [
            name for name in ("answers", "answer", "answer_start") if name not in label
        ]
        self.columns = ColumnSpec(
            texts, label if labelled else (), ("id", *(answer_columns if labelled else ()))
        )
        self.fields = [
            ("id", pa.string()),
            *((name, pa.large_string()) for name in self.text_fields),
        ]
        if labelled:
            self.fields += [("label", pa.list_(pa.string())), ("start", pa.list_(pa.int64()))]

    def parse(self, fields: Sequence[Any], split: str, ignored: list[str]) -> list[Any]:
        values_by_column = dict(zip(map(str, self.columns.all_columns), fields, strict=True))
        question_id = _parse_id(values_by_column["id"])
        try:
            question = require_text(fields[0], "question")
            context = require_text(fields[1], "context")
        except RowError as error:
            error.row_id = question_id
            raise
        row: list[Any] = [question_id, question, context]
        if not self.labelled:
            return row
        try:
            answers = self._answers(values_by_column, context, split, ignored)
        except RowError as error:
            detail = f"question {question_id!r}: {error.detail}" if question_id else error.detail
            raise RowError(error.reason, detail) from None
        if answers is None:
            return [*row, None, None]
        texts, offsets = [text for text, _ in answers], [offset for _, offset in answers]
        return [*row, texts, offsets]

    def _answers(
        self, values_by_column: Mapping[str, Any], context: str, split: str, ignored: list[str]
    ) -> list[tuple[str, int]] | None:
        """(text, offset) of each answer, those with a certain offset first; None: no label.

        The reasons of ignored answers and offsets are added to ``ignored``.
        """
        if self.columns.label:
            value = values_by_column[str(self.columns.label[0])]
        else:
            value = values_by_column["answers"]
            if value is None:
                value = values_by_column["answer"]
        if value is None:
            return None
        records = list(_answer_records(value, values_by_column.get("answer_start")))
        if not records and not self.unanswerable:
            raise RowError(
                "no answer",
                "the question has no answer. Set data.unanswerable=true to allow such questions",
            )
        located, unlocated, first_error = [], [], None
        for record in records:
            try:
                answer = require_text(record.get("text"), "answer")
            except RowError as error:
                first_error = first_error or error
                ignored.append(f"answer ignored: {error.reason}")
                continue
            try:
                in_context = record.get("text_in_context")
                span = in_context if isinstance(in_context, str) else answer
                start = _check_offset(record.get("answer_start"), span, context)
                if span != answer:
                    ignored.append("white space of an answer differs from the context")
                if span == answer or split == "train":
                    located.append((span, start, bool(record.get("offset_guessed"))))
                else:
                    unlocated.append(answer)
            except RowError as error:
                first_error = first_error or error
                unlocated.append(answer)
                ignored.append(f"offset of an answer ignored: {error.reason}")
        located.sort(key=lambda answer_start_guessed: answer_start_guessed[2])
        if split != "train":
            located += [(answer, UNKNOWN_OFFSET, True) for answer in unlocated]
        if first_error is not None and not located:
            raise first_error
        if split == "train" and located and located[0][2]:
            raise RowError(
                "guessed offset",
                "the row marks the offset of the answer as a guess (offset_guessed). Correct"
                " answer_start and remove the mark",
            )
        return [(answer, start) for answer, start, _ in located]

    def label_reader(self, model_classes: list[str] | None = None) -> LabelReader:
        return _AnswerReader(model_classes)

    def label_statistics(self, table: pa.Table) -> dict[str, float]:
        """The fraction of questions that have an answer."""
        sizes = pc.list_value_length(table.column("label"))
        return {"answerable": pc.sum(pc.greater(sizes, 0)).as_py() / table.num_rows}


class _AnswerReader(LabelReader):
    def nothing_to_learn(self, table: pa.Table) -> str:
        if table.num_rows == 1:
            return ""
        any_answer = pc.any(pc.greater(pc.list_value_length(table.column("label")), 0)).as_py()
        return "" if any_answer else "no question has an answer"


def _parse_id(value: Any) -> str | None:
    """The id as text: 7, and 7.0 as pandas writes it next to missing values, become "7"."""
    if isinstance(value, (list, dict)):
        raise RowError(
            "id is not text or a number", f"the id is {describe_value(value)}, not text or a number"
        )
    name = value if isinstance(value, str) else to_class_name(value)
    return None if name is None else check_characters(name, "id")


def _answer_records(value: Any, start: Any) -> list[Mapping[str, Any]]:
    """The answers as a list of objects, from any of the supported layouts."""
    if isinstance(value, str):
        if "answer_start" in value and value.lstrip().startswith(("{", "[")):
            raise RowError(
                "unsupported answers",
                "the answers are an object written as text. Save the rows as JSON Lines or Parquet",
            )
        return [{"text": value, "answer_start": start}] if value.strip() else []
    if isinstance(value, Mapping):
        texts, starts = value.get("text"), value.get("answer_start")
        if not isinstance(texts, list) or not isinstance(starts, list):
            raise RowError(
                "unsupported answers", "answers must have the lists text and answer_start"
            )
        if len(texts) != len(starts):
            raise RowError(
                "unsupported answers",
                f"answers has {len(texts)} texts, but {len(starts)} offsets",
            )
        pairs = zip(texts, starts, strict=True)
        return [{"text": answer_text, "answer_start": offset} for answer_text, offset in pairs]
    if isinstance(value, list) and all(isinstance(answer, Mapping) for answer in value):
        return value
    raise RowError(
        "unsupported answers",
        "answers must be a list of objects with text and answer_start"
        if isinstance(value, list)
        else f"answers is {describe_value(value)}, not a list",
    )


def _check_offset(start: Any, answer: str, context: str) -> int:
    """``start`` as an integer offset of ``answer``. Raises RowError if the answer is not there."""
    if isinstance(start, str) and start.strip().isdecimal() and len(start) < _MAX_DIGITS:
        start = int(start)
    if isinstance(start, float) and start.is_integer():  # pandas: a column with missing values
        start = int(start)
    if start is None:
        start = _find_unique_offset(answer, context)
    if isinstance(start, bool) or not isinstance(start, int):
        description = _shorten(start) if isinstance(start, str) else repr(start)
        raise RowError(
            "answer without an offset", f"answer_start is {description}, not a whole number"
        )
    if start < 0 or context[start : start + len(answer)] != answer:
        found_text = context[start : start + len(answer)] if start >= 0 else ""
        nearest_offset = min(
            _find_offsets(context, answer), key=lambda offset: abs(offset - start), default=None
        )
        problem = f"the answer {_shorten(answer)} is not at offset {start}"
        if found_text:
            problem += f" (found {_shorten(found_text)} there)"
        if nearest_offset is None:
            problem += "; it does not occur in the context"
        else:
            problem += f"; the closest occurrence is at {nearest_offset}"
        raise RowError("answer not at its offset", problem)
    return start


def _find_unique_offset(answer: str, context: str) -> int:
    """The offset of an answer that has none. Raises RowError unless it occurs exactly once."""
    offsets = _find_offsets(context, answer)
    if len(offsets) == 1:
        return offsets[0]
    problem = "does not occur in the context"
    if offsets:
        problem = f"occurs {len(offsets)} times in the context. Add its offset as answer_start"
    raise RowError("answer without an offset", f"the answer {_shorten(answer)} {problem}")


def _find_offsets(context: str, answer: str) -> list[int]:
    offsets, position = [], context.find(answer)
    while position >= 0:
        offsets.append(position)
        position = context.find(answer, position + 1)
    return offsets


def _shorten(value: str) -> str:
    return repr(value if len(value) <= _MAX_SHOWN else f"{value[:_MAX_SHOWN]}…")
