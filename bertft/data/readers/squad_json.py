"""Files in the JSON format of SQuAD and CMRC 2018: articles, paragraphs, questions.

    {"data": [{"paragraphs": [{"context": …, "qas": [{"id", "question", "answers": […]}]}]}]}

Questions are counted from 1 over the whole file, because such files often have one line.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bertft.config.data import DataConfig
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

__all__ = ["QUESTION_COLUMNS", "is_squad_json", "read_squad_json"]

QUESTION_COLUMNS = ("question", "context", "answers", "id")

_HINT = "For an array of rows set data.format=json, for one object per line set data.format=jsonl"


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
    find_columns(columns, QUESTION_COLUMNS, len(QUESTION_COLUMNS), bad.source)
    content = _load_json(path, config.encoding, bad.source)
    questions = _iter_questions(content, bad.source)
    for number, (where, context, question) in enumerate(questions, start=1):
        bad.count_row()
        missing = [key for key in ("question", "id") if key not in question]
        if context is None:
            missing.insert(0, "context")
        if missing:
            error = RowError("missing key", f"{where} has no {' and no '.join(missing)}")
            error.row_id = _valid_id(question)
            bad.add(number, error)
            continue
        row = {**question, "context": context}
        yield number, [row.get(str(name)) for name in columns.all_columns]


def _valid_id(question: dict[str, Any]) -> str | None:
    """The question's id; None if it has none or an invalid one."""
    question_id = question.get("id")
    try:
        return check_characters(question_id, "id") if isinstance(question_id, str) else None
    except RowError:
        return None


def _load_json(path: Path, encoding: str, source: str) -> Any:
    with open_text(path, encoding, "\n") as file:
        try:
            return json.load(file, object_pairs_hook=reject_repeated_keys)
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


def _iter_questions(content: Any, source: str) -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """(path in the file, context, question), in order."""
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
