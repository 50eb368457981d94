"""Rows of question answering: a question, the context to find its answer in, and the answers.

    answers    {"text": [...], "answer_start": [...]} or [{"text", "answer_start"}, ...]
    answer, answer_start    the same of a row with one answer, flat; an empty answer is none

An answer stands in the context, ``context[start : start + len(text)] == text``; one that stands
there once needs no offset. A question without one is unanswerable. In the table ``label`` holds
the answers' texts and ``start`` their offsets, those to learn from first. An answer marked
``offset_guessed`` is scored with, but its place is not learnt.

Of several answers one that is not where its offset says does not discard the question: its place
is dropped and counted. Rows to learn from keep the answers whose place is known, and need one.
Rows to score keep the text of the answer, as the official scripts do, with the offset −1
(``UNKNOWN``), for scores need no offsets. An answer that is no text is dropped from both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from bertft.config.data import DataConfig
from bertft.data.bad_rows import Fault
from bertft.data.cells import clean, text
from bertft.data.columns import Asked, label_names, text_names
from bertft.data.forms.form import RowForm
from bertft.data.labels import class_name
from bertft.data.squad_json import read_squad
from bertft.errors import UsageError

__all__ = ["UNKNOWN", "Form"]

UNKNOWN = -1  # the offset of an answer that is not where it should be
_SHOWN = 40
_DIGITS = 20


class Form(RowForm):
    """Columns ``id`` (may be null), ``question``, ``context``, maybe ``label`` and ``start``."""

    texts = ("question", "context")
    gold = ("label", "start")
    together = "context"
    advice = "Answers stand in answers, or in answer and answer_start; data.label names another"

    def __init__(self, config: DataConfig, labelled: bool) -> None:
        self.readers = {".json": read_squad}
        self.labelled, self.unanswerable = labelled, config.unanswerable
        self._dropped: list[str] = []
        texts = text_names(config, ("question", "context"))
        if len(texts) != 2:
            raise UsageError(
                f"{len(texts)} columns, where a question and its context are wanted",
                where="data.text", hint="As in [question,context]",
            )  # fmt: skip
        label = label_names(config, ())
        if len(label) > 1:
            raise UsageError(
                f"{len(label)} columns of answers", where="data.label", hint="Name one"
            )
        found = [name for name in ("answers", "answer", "answer_start") if name not in label]
        self.columns = Asked(texts, label if labelled else (), ("id", *(found if labelled else ())))
        self.schema = [("id", pa.string()), *((name, pa.large_string()) for name in self.texts)]
        if labelled:
            self.schema += [("label", pa.list_(pa.string())), ("start", pa.list_(pa.int64()))]

    def unit(self, ending: str) -> str:
        return "question" if ending in self.readers else ""

    def parse(self, fields: Sequence[Any], split: str) -> list[Any]:
        given = dict(zip(map(str, self.columns.all), fields, strict=True))
        name = _name(given["id"])
        try:
            question, context = text(fields[0], "question"), text(fields[1], "context")
        except Fault as fault:
            fault.row_id = name
            raise
        self._dropped = []
        if not self.labelled:
            return [name, question, context]
        try:
            found = self._answers(given, context, split)
        except Fault as fault:
            told = f"question {name!r}: {fault.detail}" if name else fault.detail
            raise Fault(fault.reason, told) from None
        if found is None:
            return [name, question, context, None, None]
        return [name, question, context, [each for each, _ in found], [at for _, at in found]]

    def _answers(
        self, given: Mapping[str, Any], context: str, split: str
    ) -> list[tuple[str, int]] | None:
        """(text, offset) of each answer, those whose place is certain first; None: not told."""
        value = given[str(self.columns.label[0])] if self.columns.label else given["answers"]
        if value is None and not self.columns.label:
            value = given["answer"]
        if value is None:
            return None
        records = list(_records(value, given.get("answer_start")))
        if not records and not self.unanswerable:
            raise Fault("no answer", "there is no answer; data.unanswerable=true admits such")
        found, unplaced, first = [], [], None
        for each in records:
            try:
                answer = text(each.get("text"), "answer")
            except Fault as fault:
                first = first or fault
                self._dropped.append(f"answer ignored: {fault.reason}")
                continue
            try:
                start = _offset(each.get("answer_start"), answer, context)
                found.append((answer, start, bool(each.get("offset_guessed"))))
            except Fault as fault:
                first = first or fault
                unplaced.append(answer)
                self._dropped.append(f"place of an answer ignored: {fault.reason}")
        found.sort(key=lambda each: each[2])
        if split != "train":
            found += [(answer, UNKNOWN, True) for answer in unplaced]
        if first is not None and not found:
            raise first
        if split == "train" and found and found[0][2]:
            raise Fault("guessed offset", "where the answer stands is but a guess")
        return [(answer, start) for answer, start, _ in found]

    def take_dropped(self) -> list[str]:
        return self._dropped

    def nothing_to_learn(self, table: pa.Table) -> str:
        if table.num_rows == 1:
            return ""
        some = pc.any(pc.greater(pc.list_value_length(table.column("label")), 0)).as_py()
        return "" if some else "no question has an answer"

    def balance(self, table: pa.Table) -> dict[str, float]:
        """The share of the questions that have an answer."""
        sizes = pc.list_value_length(table.column("label"))
        return {"answerable": pc.sum(pc.greater(sizes, 0)).as_py() / table.num_rows}


def _name(value: Any) -> str | None:
    """The id as text: 7 and 7.0, which a column with gaps holds, are "7"."""
    if isinstance(value, (list, dict)):
        raise Fault("id is no name", f"the id is a {type(value).__name__}, not a name or number")
    name = value if isinstance(value, str) else class_name(value)
    return None if name is None else clean(name, "id")


def _records(value: Any, start: Any) -> list[Mapping[str, Any]]:
    """Any of the forms of answers as a list of objects."""
    if isinstance(value, str):
        if "answer_start" in value and value.lstrip().startswith(("{", "[")):
            raise Fault(
                "answers of another form",
                "the answers are an object written as text: save the rows as JSON Lines or Parquet",
            )
        return [{"text": value, "answer_start": start}] if value.strip() else []
    if isinstance(value, Mapping):
        texts, starts = value.get("text"), value.get("answer_start")
        if not isinstance(texts, list) or not isinstance(starts, list):
            raise Fault("answers of another form", "answers needs lists text and answer_start")
        if len(texts) != len(starts):
            raise Fault("answers of another form", f"{len(texts)} texts have {len(starts)} offsets")
        pairs = zip(texts, starts, strict=True)
        return [{"text": each, "answer_start": at} for each, at in pairs]
    if isinstance(value, list) and all(isinstance(each, Mapping) for each in value):
        return value
    raise Fault(
        "answers of another form",
        "answers needs objects with text and answer_start"
        if isinstance(value, list)
        else f"answers is a {type(value).__name__}, not a list",
    )


def _offset(start: Any, answer: str, context: str) -> int:
    """The offset of ``answer`` that ``start`` says. Fault unless it does stand there."""
    if isinstance(start, str) and start.strip().isdecimal() and len(start) < _DIGITS:
        start = int(start)
    if isinstance(start, float) and start.is_integer():  # a column with gaps
        start = int(start)
    if start is None:
        start = _only_place(answer, context)
    if isinstance(start, bool) or not isinstance(start, int):
        told = _short(start) if isinstance(start, str) else repr(start)
        raise Fault("answer without an offset", f"answer_start is {told}, not a whole number")
    if start < 0 or context[start : start + len(answer)] != answer:
        stands = context[start : start + len(answer)] if start >= 0 else ""
        near = min(_places(context, answer), key=lambda place: abs(place - start), default=None)
        told = "it stands nowhere in the context" if near is None else f"it stands at {near}"
        raise Fault(
            "answer not at its offset",
            f"the answer {_short(answer)} is not at offset {start}"
            f"{f', where {_short(stands)} stands' if stands else ''}; {told}",
        )
    return start


def _only_place(answer: str, context: str) -> int:
    """Where an answer without an offset stands. Fault unless there is one place."""
    places = _places(context, answer)
    if len(places) == 1:
        return places[0]
    told = f"stands {len(places)} times in the context: answer_start tells where it is meant"
    raise Fault(
        "answer without an offset",
        f"the answer {_short(answer)} {told if places else 'stands nowhere in the context'}",
    )


def _places(context: str, answer: str) -> list[int]:
    places, at = [], context.find(answer)
    while at >= 0:
        places.append(at)
        at = context.find(answer, at + 1)
    return places


def _short(value: str) -> str:
    return repr(value if len(value) <= _SHOWN else f"{value[:_SHOWN]}…")
