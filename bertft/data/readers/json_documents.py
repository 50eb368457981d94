"""Rows of JSON documents: an array of objects, or objects one after another on any lines.

    [{"text": "so good", "label": "pos"},
     {"text": "so dull", "label": "neg"}]

Objects are counted from 1, because such files often have one line. They are decoded one after
another, so that memory is bounded by the longest object, not by the file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from bertft.config.data import DataConfig
from bertft.data.readers.json_lines import (
    NumberedObject,
    as_object,
    is_array_row,
    read_objects,
)
from bertft.data.readers.text_files import (
    RepeatedKeyError,
    encoding_error,
    open_text,
    reject_repeated_keys,
)
from bertft.data.rows import BadRows, RowError
from bertft.data.schema import ColumnSpec, Record
from bertft.errors import DataError

__all__ = [
    "ConvertObjects",
    "is_json_document",
    "peek_first_object",
    "read_json_chunks",
    "read_json_document",
]

ConvertObjects = Callable[[Iterator[NumberedObject]], Iterator[NumberedObject]]

_CHUNK_CHARACTERS = 1 << 20
_MAX_VALUE_CHARACTERS = 1 << 26  # of one object; limits the memory for a quote that is not closed
_MAX_PENDING_CHARACTERS = 16  # a literal or an escape at the end of the buffer may continue
_EXPONENT = len("e-1")
_SPACES = re.compile(r"[ \t\r\n]*")
_JSON_LINES_HINT = "If each line is one object, set data.format=jsonl"


def is_json_document(head: str) -> bool:
    """Whether a text that begins with ``head`` is a JSON document and not JSON Lines.

    It begins with an array that is not itself a row, or with an object that does not end on its
    first line.
    """
    text = head.lstrip()
    first_line, line_break, _ = text.partition("\n")
    if text.startswith("["):
        return not is_array_row(first_line)
    if not text.startswith("{") or not line_break:
        return False
    try:
        json.loads(first_line)
    except json.JSONDecodeError as error:
        return error.pos >= len(first_line.rstrip())
    except (ValueError, RecursionError):
        return False
    return False


def read_json_document(
    path: Path,
    columns: ColumnSpec,
    config: DataConfig,
    bad: BadRows,
    convert: ConvertObjects | None = None,
) -> Iterator[Record]:
    """The requested values of each object of a file; see ``read_json_chunks``."""
    with open_text(path, config.encoding, "\n") as file:
        chunks = iter(lambda: file.read(_CHUNK_CHARACTERS), "")
        yield from read_json_chunks(chunks, columns, config.encoding, bad, convert=convert)


def read_json_chunks(
    chunks: Iterable[str],
    columns: ColumnSpec,
    encoding: str,
    bad: BadRows,
    *,
    is_stream: bool = False,
    convert: ConvertObjects | None = None,
) -> Iterator[Record]:
    """(number, requested values) of each object in the text that ``chunks`` form.

    Values of an array that are not objects are added to ``bad``.

    Args:
        is_stream: as for ``read_objects``.
        convert: yields the rows of the objects of a tool's export; it may leave out objects.

    Raises:
        DataError: the text is not JSON, or the errors of ``read_objects``.
    """
    objects = _iter_objects(_JsonDocument(chunks, bad.source), bad)
    if convert is not None:
        objects = convert(objects)
    try:
        yield from read_objects(objects, columns, bad, is_stream=is_stream)
    except UnicodeError as error:
        raise encoding_error(error, encoding, bad.source) from error


def peek_first_object(chunks: Iterable[str], source: str) -> tuple[dict[str, Any], Iterable[str]]:
    """The first value of a text, {} if it is not an object; and all chunks of the text.

    Raises DataError if the text does not begin with JSON.
    """
    remaining, read_chunks = iter(chunks), list[str]()

    def record() -> Iterator[str]:
        for chunk in remaining:
            read_chunks.append(chunk)
            yield chunk

    value, _ = next(_JsonDocument(record(), source).iter_values(), (None, None))
    return as_object(value) or {}, chain(read_chunks, remaining)


def _iter_objects(document: _JsonDocument, bad: BadRows) -> Iterator[NumberedObject]:
    for number, (value, repeated_key) in enumerate(document.iter_values(), start=1):
        bad.count_row()
        row = as_object(value)
        if row is None:
            yield number, RowError("not a JSON object")
        elif repeated_key is not None:
            yield number, RowError("repeated key", str(repeated_key))
        else:
            yield number, row


class _JsonDocument:
    """Decodes the values of a text: the elements of an array, or values one after another.

    The buffer has the value that is being decoded and at most one chunk after it.
    """

    def __init__(self, chunks: Iterable[str], source: str) -> None:
        self._chunks, self._source = iter(chunks), source
        self._buffer, self._position = "", 0
        self._line = 1  # of the position
        self._has_ended = False
        self._repeated_key: RepeatedKeyError | None = None
        self._decoder = json.JSONDecoder(object_pairs_hook=self._make_object)

    def iter_values(self) -> Iterator[tuple[Any, RepeatedKeyError | None]]:
        """Each value, with the error of a repeated key in it."""
        if self._next_character() != "[":
            while self._next_character():
                yield self._decode()
            return
        self._advance(self._position + 1)
        while self._next_character() != "]":
            yield self._decode()
            separator = self._next_character()
            if separator == ",":
                self._advance(self._position + 1)
                if self._next_character() != "]":
                    continue
                raise self._error("a comma before the end of the array")
            if separator != "]":
                raise self._error("expected a comma or the end of the array")
        self._advance(self._position + 1)
        if self._next_character():
            raise self._error("text after the end of the array")

    def _next_character(self) -> str:
        """The next character that is not white space, at the position; "" at the end."""
        while True:
            match = _SPACES.match(self._buffer, self._position)
            assert match is not None
            self._advance(match.end())
            if self._position < len(self._buffer):
                return self._buffer[self._position]
            if not self._read_more():
                return ""

    def _advance(self, position: int) -> None:
        self._line += self._buffer.count("\n", self._position, position)
        self._position = position

    def _read_more(self) -> bool:
        """Add at least as much text as the buffer has after the position; False at the end.

        At the end, the buffer and the position do not change.
        """
        pending_size, added, added_size = len(self._buffer) - self._position, [], 0
        while not self._has_ended and added_size <= pending_size:
            chunk = next(self._chunks, "")
            self._has_ended = not chunk
            added.append(chunk)
            added_size += len(chunk)
        if added_size:
            self._buffer = "".join([self._buffer[self._position :], *added])
            self._position = 0
        return added_size > 0

    def _decode(self) -> tuple[Any, RepeatedKeyError | None]:
        """The value at the position, which moves behind it."""
        while True:
            self._repeated_key = None
            try:
                value, end = self._decoder.raw_decode(self._buffer, self._position)
            except json.JSONDecodeError as error:
                if self._may_continue(error) and self._read_more():
                    continue
                self._advance(min(error.pos, len(self._buffer)))
                raise self._error(error.msg) from error
            except RecursionError as error:
                raise self._error("the value is nested too deeply") from error
            except ValueError as error:  # Python limits integers to 4,300 digits
                raise self._error("a number has too many digits: write it as a string") from error
            # A number at the end of the buffer may continue with digits or an exponent.
            is_complete = self._buffer[end - 1] in '}]"' or len(self._buffer) - end >= _EXPONENT
            if is_complete or not self._read_more():
                self._advance(end)
                return value, self._repeated_key

    def _may_continue(self, error: json.JSONDecodeError) -> bool:
        """Whether ``error`` may be caused by the end of the buffer. DataError for a long value."""
        is_cut = (
            error.msg.startswith("Unterminated string")
            or error.pos >= len(self._buffer) - _MAX_PENDING_CHARACTERS
        )
        if is_cut and len(self._buffer) - self._position > _MAX_VALUE_CHARACTERS:
            raise self._error(
                f"a value has more than {_MAX_VALUE_CHARACTERS:,} characters: perhaps a quote or a"
                " bracket is never closed"
            )
        return is_cut

    def _make_object(self, pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
        try:
            return reject_repeated_keys(pairs)
        except RepeatedKeyError as error:
            self._repeated_key = self._repeated_key or error
            return dict(pairs)

    def _error(self, problem: str) -> DataError:
        return DataError(
            f"not JSON ({problem})", where=f"{self._source}:{self._line}", hint=_JSON_LINES_HINT
        )
