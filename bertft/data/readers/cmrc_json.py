"""Files in the JSON format of CMRC 2018: paragraphs with their questions, answers as texts.

    [{"context_id": …, "context_text": …, "title": …,
      "qas": [{"query_id": …, "query_text": …, "answers": ["…", "…"]}]}]

An answer has no position: it is the first occurrence in the context. If the context has it only
with other white space, this text of the context is the answer for training, and the answer of the
file is scored, as in the official script. (CMRC 2018 is also distributed in the format of SQuAD.)
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bertft.config.data import DataConfig
from bertft.data.readers.squad_json import Question, load_json_document, question_records
from bertft.data.rows import BadRows
from bertft.data.schema import ColumnSpec, Record
from bertft.errors import DataError

__all__ = ["find_answer", "is_cmrc_json", "read_cmrc_json"]

_BEGINNING = re.compile(r'\s*\[\s*\{\s*"')
_KEYS = (re.compile(r'"context_text"\s*:'), re.compile(r'"qas"\s*:\s*\['))
_HINT = "For an array of rows set data.format=json"


def is_cmrc_json(head: str) -> bool:
    """Whether a JSON text that begins with ``head`` is an array of paragraphs of CMRC 2018."""
    return _BEGINNING.match(head) is not None and all(key.search(head) for key in _KEYS)


def read_cmrc_json(
    path: Path, columns: ColumnSpec, config: DataConfig, bad: BadRows
) -> Iterator[Record]:
    """(number, requested fields) of each question; incomplete questions are added to ``bad``.

    Raises DataError if the file is not JSON, or does not have this structure.
    """
    content = load_json_document(path, config.encoding, bad.source)
    return question_records(_iter_questions(content, bad.source), columns, bad)


def find_answer(context: str, answer: str) -> tuple[int, str] | None:
    """(offset, text) of the first occurrence of ``answer`` in ``context``; None if there is none.

    The text differs from the answer in white space if only such a text occurs.
    """
    start = context.find(answer)
    if start >= 0:
        return start, answer
    positions = [at for at, character in enumerate(context) if not character.isspace()]
    compact_context = "".join(context[at] for at in positions)
    compact_answer = "".join(answer.split())
    first = compact_context.find(compact_answer) if compact_answer else -1
    if first < 0:
        return None
    start, last = positions[first], positions[first + len(compact_answer) - 1]
    return start, context[start : last + 1]


def _iter_questions(content: Any, source: str) -> Iterator[Question]:
    if not isinstance(content, list):
        raise _structure_error("the file is not a list of paragraphs", source)
    for p, paragraph in enumerate(content):
        questions = paragraph.get("qas") if isinstance(paragraph, dict) else None
        if not isinstance(questions, list):
            raise _structure_error(f"[{p}] has no list 'qas'", source)
        context = paragraph.get("context_text")
        for q, question in enumerate(questions):
            where = f"[{p}].qas[{q}]"
            if not isinstance(question, dict):
                raise _structure_error(f"{where} is not an object", source)
            values = {
                name: question[key]
                for name, key in (("question", "query_text"), ("id", "query_id"))
                if key in question
            }
            values["answers"] = _locate_answers(question.get("answers"), context)
            yield where, context, values


def _locate_answers(answers: Any, context: Any) -> Any:
    """The answers with their offsets; values of other types are reported by the row schema."""
    if not isinstance(answers, list):
        return answers
    located: list[Any] = []
    for answer in answers:
        record = answer if isinstance(answer, dict) else {"text": answer}
        if isinstance(answer, str) and isinstance(context, str) and answer.strip():
            found = find_answer(context, answer)
            if found is not None:
                record["answer_start"], record["text_in_context"] = found
        located.append(record)
    return located


def _structure_error(problem: str, source: str) -> DataError:
    return DataError(f"{problem} as in the format of CMRC 2018", where=source, hint=_HINT)
