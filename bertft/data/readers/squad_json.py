"""Files in the JSON format of SQuAD and DRCD: articles, paragraphs, questions.

    {"data": [{"paragraphs": [{"context": …, "qas": [{"id", "question", "answers": […]}]}]}]}

Questions are counted from 1 over the whole file, because such files often have one line.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from bertft.config.data import DataConfig
from bertft.data.question_ids import QuestionIds
from bertft.data.readers.text_files import (
    RepeatedKeyError,
    encoding_error,
    open_text,
    parse_json_object,
    reject_repeated_keys,
)
from bertft.data.rows import BadRows, RowError
from bertft.data.schema import ColumnSpec, Record, check_characters, find_columns
from bertft.errors import DataError
from bertft.utils.safe_files import unreadable

__all__ = [
    "QUESTION_COLUMNS",
    "Question",
    "is_squad_json",
    "load_json_document",
    "question_records",
    "read_squad_json",
]

QUESTION_COLUMNS = ("question", "context", "answers", "id")
_MAX_CHARACTERS = 1 << 29  # of a file, which is decoded as a whole

_HINT = "For an array of rows set data.format=json, for one object per line set data.format=jsonl"

# Path in the file, context, and the other values by QUESTION_COLUMNS.
Question = tuple[str, Any, Mapping[str, Any]]


def is_squad_json(head: str) -> bool:
    """Whether a JSON text that begins with ``head`` is an object that is not a row."""
    text = head.lstrip()
    row = parse_json_object(text.partition("\n")[0])
    return text.startswith("{") and (row is None or "data" in row)


def read_squad_json(
    path: Path, columns: ColumnSpec, config: DataConfig, bad: BadRows
) -> Iterator[Record]:
    """(number, requested fields) of each question; incomplete questions are added to ``bad``.

    Raises DataError if the file is not JSON, or does not have this structure.
    """
    content = load_json_document(path, config.encoding, bad.source)
    return question_records(_iter_questions(content, bad.source), columns, bad)


def question_records(
    questions: Iterable[Question], columns: ColumnSpec, bad: BadRows
) -> Iterator[Record]:
    """(number, requested fields) of each question, with an id of its own (``QuestionIds``).

    Questions without a text or a context are added to ``bad``.
    """
    find_columns(columns, QUESTION_COLUMNS, len(QUESTION_COLUMNS), bad.source)
    ids = QuestionIds()
    for number, (where, context, question) in enumerate(questions, start=1):
        bad.count_row()
        question_id = question.get("id")
        if isinstance(question_id, int) and not isinstance(question_id, bool):
            question_id = str(question_id)
        if question_id is None or isinstance(question_id, str):
            has_id = question_id is not None and question_id.strip() != ""
            question_id = ids.assign(question_id if has_id else None, number)
        missing = ["context"] if context is None else []
        if "question" not in question:
            missing.append("question")
        if missing:
            error = RowError("missing key", f"{where} has no {' and no '.join(missing)}")
            error.row_id = _valid_id(question_id)
            bad.add(number, error)
            continue
        values = {**question, "context": context, "id": question_id}
        yield number, [values.get(str(name)) for name in columns.all_columns]
    bad.notes += ids.notes()


def _valid_id(question_id: Any) -> str | None:
    """The id if it can be written; else None."""
    try:
        return check_characters(question_id, "id") if isinstance(question_id, str) else None
    except RowError:
        return None


def load_json_document(path: Path, encoding: str, source: str) -> Any:
    """The JSON value in ``path``. Raises DataError if it is not JSON, or too large."""
    with open_text(path, encoding, "\n") as file:
        try:
            text = file.read(_MAX_CHARACTERS + 1)
            if len(text) > _MAX_CHARACTERS:
                raise DataError(
                    f"the JSON document has more than {_MAX_CHARACTERS:,} characters",
                    where=source,
                    hint="Split it, or write one question per line (JSON Lines)",
                )
            return json.loads(text, object_pairs_hook=reject_repeated_keys)
        except RepeatedKeyError as error:
            raise DataError(str(error), where=source, hint="Rename or remove one") from error
        except json.JSONDecodeError as error:
            raise DataError(
                f"not JSON ({error.msg} at column {error.colno})",
                where=f"{source}:{error.lineno}",
                hint=_HINT,
            ) from error
        except UnicodeError as error:
            raise encoding_error(error, encoding, source) from error
        except RecursionError as error:
            raise unreadable(str(error), source) from error
        except ValueError as error:  # Python limits integers to 4,300 digits
            raise DataError(
                "a number has too many digits", where=source, hint="Write it as a string"
            ) from error


def _iter_questions(content: Any, source: str) -> Iterator[Question]:
    articles = _get_list(content, "data", "", source)
    for a, article in enumerate(articles):
        article_path = f"data[{a}]"
        for p, paragraph in enumerate(_get_list(article, "paragraphs", article_path, source)):
            paragraph_path = f"{article_path}.paragraphs[{p}]"
            for q, question in enumerate(_get_list(paragraph, "qas", paragraph_path, source)):
                question_path = f"{paragraph_path}.qas[{q}]"
                if not isinstance(question, dict):
                    raise DataError(f"{question_path} is not an object", where=source, hint=_HINT)
                yield question_path, paragraph.get("context"), question


def _get_list(value: Any, key: str, where: str, source: str) -> list[Any]:
    items = value.get(key) if isinstance(value, dict) else None
    if not isinstance(items, list):
        what = where or "the file"
        raise DataError(
            f"{what} has no list {key!r} as in the SQuAD format", where=source, hint=_HINT
        )
    return items
