"""Text files, opened so that an undecodable byte affects only its row."""

from __future__ import annotations

import codecs
import encodings.aliases
import io
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from bertft.config.data import DataConfig
from bertft.data.readers.compressed_files import open_binary
from bertft.data.rows import BadRows, RowError
from bertft.data.schema import ColumnSpec, Record
from bertft.errors import DataError
from bertft.utils.messages import (
    closest_name,
    expand_home,
    missing_file_problem,
    quote_value,
)
from bertft.utils.safe_files import unreadable

__all__ = [
    "MAX_LINE_CHARACTERS",
    "RepeatedKeyError",
    "bounded_lines",
    "checked_head",
    "encoding_error",
    "is_wide_encoding",
    "iter_lines",
    "open_text",
    "parse_json_object",
    "read_document",
    "read_first_line",
    "read_head",
    "read_nonblank_lines",
    "read_text_file",
    "reject_repeated_keys",
    "resolve_existing_file",
    "starts_json_document",
]


MAX_LINE_CHARACTERS = 1 << 24  # longer lines are an error; limits the memory for a line
_HEAD_BYTES = 4096
_HEAD_CHARACTERS = 1 << 16  # from which the format is detected
_MAX_BLANK_LINES = 100  # more are skipped in blocks
_CODECS_OF_NAMES = ("idna", "punycode", "undefined")  # they are not encodings of files
_MAX_FIRST_LINE_CHARACTERS = 1 << 20  # characters of the first line that are read
_JSON_DOCUMENT = re.compile(r'\s*(\{\s*$|\[\s*(\{|\[\s*"|$))')
_MAX_MARK_BYTES = 4
_MAX_NUL_SHARE = 0.1  # files with a larger fraction of NUL bytes are not text

_UNPACK_HINT = "Unpack it and use the file in it"
_MAGIC = {
    b"\x1f\x8b": ("is compressed with gzip", "Rename it to {name}.gz"),
    b"BZh91AY&SY": ("is compressed with bzip2", "Rename it to {name}.bz2"),
    b"\xfd7zXZ\0": ("is compressed with xz", "Rename it to {name}.xz"),
    b"\x28\xb5\x2f\xfd": ("is compressed with zstd", "Rename it to {name}.zst"),
    b"\x04\x22\x4d\x18": ("is compressed with lz4", "Decompress it: unlz4 {name}"),
    b"\x1f\x9d": ("is compressed with compress", "Decompress it: uncompress {name}"),
    b"Rar!\x1a\x07": ("is a RAR archive", _UNPACK_HINT),
    b"7z\xbc\xaf\x27\x1c": ("is a 7z archive", _UNPACK_HINT),
    b"PK\x03\x04": (
        "is a zip archive, as Excel workbooks are",
        "Rename a workbook to end in .xlsx, or unpack the archive",
    ),
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": (
        "is an old Office document (.xls, .doc)",
        "Save the sheet as .xlsx or CSV",
    ),
    b"%PDF-": ("is a PDF document", "Save its text as a .txt, .csv or .jsonl file"),
    b"PAR1\x15": ("is a Parquet file", "Rename it to end in .parquet"),
    b"FEA1": ("is a Feather file of version 1", "Save it as Parquet or CSV"),
    b"{\\rtf": ("is an RTF document", "Save it as plain text"),
    b"version https://git-lfs.": ("is a Git LFS pointer, not the data", "Fetch it: git lfs pull"),
    b"ARROW1\0\0": ("is an Arrow file", "Rename it to end in .arrow"),
    b"SQLite format 3\0": ("is an SQLite database", "Export the table as CSV"),
    b"\x89HDF\r\n": ("is an HDF5 file", "Save it as Parquet or CSV"),
    b"\x93NUMPY": ("is a NumPy array", "Save it as Parquet or CSV"),
    b"\x89PNG\r\n": ("is an image", "Use a text file"),
}
_BYTE_ORDER_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def read_text_file(
    path: Path, columns: ColumnSpec, config: DataConfig, bad: BadRows
) -> Iterator[Record]:
    """One text per line; blank lines are rows, so that predictions stay aligned with lines."""
    if config.format is None:
        first_line = read_first_line(path, config.encoding)
        if starts_json_document(first_line):
            raise DataError(
                "the file contains a JSON document, not one text per line",
                where=bad.source,
                hint="Rename it to end in .json, or set data.format=json",
            )
    yield from _read_text_lines(path, columns, config, bad, skip_blank=False)


def read_nonblank_lines(
    path: Path, columns: ColumnSpec, config: DataConfig, bad: BadRows
) -> Iterator[Record]:
    """One text per line; blank lines are not rows."""
    yield from _read_text_lines(path, columns, config, bad, skip_blank=True)


def read_document(
    path: Path, columns: ColumnSpec, config: DataConfig, bad: BadRows
) -> Iterator[Record]:
    """One row: the text of the file, without the line breaks at its end."""
    with open_text(path, config.encoding, "\n") as file:
        try:
            text = file.read(MAX_LINE_CHARACTERS + 1)
        except UnicodeError as error:
            raise encoding_error(error, config.encoding, bad.source) from error
    bad.count_row()
    if len(text) > MAX_LINE_CHARACTERS:
        detail = f"the file has more than {MAX_LINE_CHARACTERS:,} characters"
        bad.add(1, RowError("text too long", detail))
    else:
        bad.other_lines["further lines of a text"] += _count_lines(text) - 1
        yield 1, [text.rstrip("\r\n"), *[None] * len(columns.optional)]


def _count_lines(text: str) -> int:
    """The lines of a text, at least 1."""
    return max(1, text.count("\n") + (not text.endswith("\n")))


def _read_text_lines(
    path: Path, columns: ColumnSpec, config: DataConfig, bad: BadRows, skip_blank: bool
) -> Iterator[Record]:
    with open_text(path, config.encoding, "\n") as file:
        for number, line in enumerate(iter_lines(file, bad, config.encoding), start=1):
            if skip_blank and not line.strip():
                bad.count_blank()
                continue
            bad.count_row()
            yield number, [line.rstrip("\r\n"), *[None] * len(columns.optional)]


def checked_head(path: Path, encoding: str, source: str) -> str:
    """The beginning of a text file without blank lines, as ``read_head``.

    Raises DataError if its first bytes are not text in ``encoding``. The file is opened once, so
    that the bytes that are checked are those that are read.
    """
    try:
        with open_binary(path) as file:
            _check_head(file.peek(_HEAD_BYTES)[:_HEAD_BYTES], path.name, encoding, source)
            return read_head(file, encoding)
    except OSError as error:
        raise unreadable(error, source) from error


def _check_head(head: bytes, name: str, encoding: str, source: str) -> None:
    for magic, (what, hint) in _MAGIC.items():
        if head.startswith(magic):
            raise DataError(f"the file {what}", where=source, hint=hint.format(name=name))
    if is_wide_encoding(encoding):
        return
    other = _marked_encoding(head)
    if other is not None:
        if not _is_utf_8(encoding):
            raise DataError(
                f"the file has a byte order mark of {other}, but data.encoding is {encoding}",
                where=source,
                hint=f"Set data.encoding={other}",
            )
        return
    if head.count(0) > _MAX_NUL_SHARE * len(head):
        raise DataError(
            f"{head.count(0):,} of the first {len(head):,} bytes are NUL: the file is not text in"
            f" {encoding}",
            where=source,
            hint="For text in UTF-16, set data.encoding=utf-16-le (or utf-16-be)",
        )


def read_head(source: Path | BinaryIO, encoding: str) -> str:
    """At least the first non-blank line of a text file, and up to 65,536 characters of the others.

    "" if there is no such line.
    """
    first_line, rest = _read_lines(source, encoding, _HEAD_CHARACTERS)
    return first_line + rest


def read_first_line(source: Path | BinaryIO, encoding: str) -> str:
    """The first non-blank line of a text file, without its line end; "" if there is none."""
    return _read_lines(source, encoding, 0)[0].rstrip("\r\n")


def _read_lines(source: Path | BinaryIO, encoding: str, max_rest: int) -> tuple[str, str]:
    """The first non-blank line of a text, and at most ``max_rest`` characters after it."""
    line = rest = ""
    with open_text(source, encoding, "") as file:
        try:
            for _ in range(_MAX_BLANK_LINES):
                line = file.readline(_MAX_FIRST_LINE_CHARACTERS)
                if not line or line.strip():
                    rest = file.read(max_rest)
                    return line, rest
            text = _skip_blank_lines(file) + file.readline(_MAX_FIRST_LINE_CHARACTERS)
            lines = io.StringIO(text, newline="")
            line = lines.readline(_MAX_FIRST_LINE_CHARACTERS)
            rest = lines.read(max_rest)
            rest += file.read(max_rest - len(rest))
        except UnicodeError:  # reported by the reader, with the line
            pass
    return line, rest


def _skip_blank_lines(file: TextIO) -> str:
    """The text that was read, from the first line that is not blank; much faster than by lines."""
    block = file.read(_HEAD_CHARACTERS)
    while block.isspace():
        last, block = block, file.read(_HEAD_CHARACTERS)
        if block and not last.endswith(("\n", "\r")):  # white space before the text
            block = last[_end_of_last_line(last) :] + block
    return block[_end_of_last_line(block[: len(block) - len(block.lstrip())]) :]


def _end_of_last_line(text: str) -> int:
    """The position after the last line end in ``text``; 0 if there is none."""
    return max(text.rfind("\n"), text.rfind("\r")) + 1


def parse_json_object(line: str) -> dict[str, object] | None:
    """The JSON object in ``line``, as in JSON Lines; None for any other text."""
    if not line.lstrip().startswith("{"):
        return None
    try:
        content = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def starts_json_document(line: str) -> bool:
    """Whether ``line`` begins a JSON document that is not JSON Lines: an array, or indented."""
    return _JSON_DOCUMENT.match(line) is not None


class RepeatedKeyError(ValueError):
    """A JSON object repeats a key, and ``json`` would keep only the last value."""


def reject_repeated_keys(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """The object with ``pairs`` of keys and values. Raises RepeatedKeyError."""
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        key = next(candidate for candidate in keys if keys.count(candidate) > 1)
        raise RepeatedKeyError(
            f"the key {quote_value(key)} occurs {keys.count(key)} times in one object"
        )
    return content


def is_wide_encoding(encoding: str) -> bool:
    try:
        return codecs.lookup(encoding).name.startswith(("utf-16", "utf-32"))
    except LookupError:  # reported by the reader
        return True


def resolve_existing_file(name: str, setting: str) -> Path:
    """The file ``name``. Raises DataError with the closest name in its folder if it is missing."""
    path = expand_home(name, setting)
    if not path.is_file() and (problem := missing_file_problem(name, setting)) is not None:
        raise DataError(problem.what, where=problem.where, hint=problem.hint)
    return path


def open_text(source: Path | BinaryIO, encoding: str, newline: str) -> TextIO:
    """Text of a file or binary stream without BOM; undecodable bytes become U+DCxx.

    A BOM of UTF-16 or UTF-32 has precedence over UTF-8, in which such text cannot be encoded.
    ``newline`` as in ``open``. Raises DataError for an unknown encoding or an unreadable file.
    """
    try:
        info = codecs.lookup(encoding)
        if not _is_text_encoding(encoding):
            raise LookupError(encoding)
    except (LookupError, ValueError):
        names = {name for name in encodings.aliases.aliases.values() if _is_text_encoding(name)}
        closest = closest_name(encoding, sorted(name.replace("_", "-") for name in names))
        raise DataError(
            f"unknown encoding {encoding!r}",
            where="data.encoding",
            hint="Use, for example, utf-8, gb18030 or cp1252"
            if closest is None
            else f"Did you mean '{closest}'?",
        ) from None
    name = "utf-8-sig" if info.name == "utf-8" else info.name
    try:
        binary = open_binary(source) if isinstance(source, Path) else source
        if _is_utf_8(info.name):
            name = _marked_encoding(_peek(binary, _MAX_MARK_BYTES)) or name
        else:
            _skip_byte_order_mark(binary, info.name)
    except OSError as error:
        raise unreadable(error, source) from error
    return io.TextIOWrapper(binary, name, errors="surrogateescape", newline=newline)


def _skip_byte_order_mark(binary: BinaryIO, encoding: str) -> None:
    """Skip a BOM that ``encoding`` would decode as a character, such as utf-16-le."""
    try:
        byte_order_mark = "\ufeff".encode(encoding)
    except UnicodeError:  # the encoding cannot have one
        return
    if _peek(binary, len(byte_order_mark)) == byte_order_mark:
        binary.read(len(byte_order_mark))


def _peek(binary: BinaryIO, size: int) -> bytes:
    """The first ``size`` bytes, which are not consumed; fewer if no more can be read at once."""
    peek = getattr(binary, "peek", None)
    if peek is not None:
        return bytes(peek(size)[:size])
    if not binary.seekable():
        return b""
    position = binary.tell()
    head = binary.read(size)
    binary.seek(position)
    return head


def _marked_encoding(head: bytes) -> str | None:
    """The encoding whose byte order mark a text begins with; None for no mark and for UTF-8."""
    return next((name for mark, name in _BYTE_ORDER_MARKS.items() if head.startswith(mark)), None)


def _is_utf_8(encoding: str) -> bool:
    try:
        return codecs.lookup(encoding).name in ("utf-8", "utf-8-sig")
    except LookupError:  # reported by the reader
        return False


def _is_text_encoding(encoding: str) -> bool:
    """Whether ``encoding`` decodes text and supports surrogateescape (not base64 or idna)."""
    try:
        info = codecs.lookup(encoding)
        if not getattr(info, "_is_text_encoding", True) or info.incrementaldecoder is None:
            return False
        info.incrementaldecoder("surrogateescape").decode(b"", True)
    except (LookupError, ValueError):
        return False
    return info.name not in _CODECS_OF_NAMES


def iter_lines(file: Iterable[str], bad: BadRows, encoding: str, skipped: int = 0) -> Iterator[str]:
    """The lines of ``file``; in files without line feeds, carriage returns end the lines.

    In other files, carriage returns inside lines are text, and a note is added to ``bad``. Raises
    DataError for a line that is too long, and if decoding cannot continue after an error.
    ``skipped``: lines before those of ``file``, which have line feeds.
    """
    number, inner_returns = skipped, 0
    try:
        lines = bounded_lines(file)
        first = next(lines, "")
        is_mac = not skipped and _has_inner_carriage_return(first)
        if is_mac and len(first) <= MAX_LINE_CHARACTERS:
            second = next(lines, None)
            if second is None:  # line ends of classic Mac OS: this is the whole file
                yield from io.StringIO(first, newline="")
                return
            lines = chain([second], lines)
        for line in chain([first] if first else [], lines):
            number += 1
            if len(line) > MAX_LINE_CHARACTERS:
                raise _long_line_error(f"{bad.source}:{number}")
            if "\r" in line:
                inner_returns += _has_inner_carriage_return(line)
            yield line
    except UnicodeError as error:
        raise encoding_error(error, encoding, f"{bad.source}:{number + 1}") from error
    if inner_returns:
        count = "1 line has" if inner_returns == 1 else f"{inner_returns:,} lines have"
        bad.notes.append(
            f"{count} a carriage return inside, which is read as text: if it ends a row, convert"
            " the line ends of the file to line feeds"
        )


def encoding_error(error: UnicodeError, encoding: str, where: str) -> DataError:
    """The error for a file that cannot be decoded; ``where``: the file and line."""
    if isinstance(error, UnicodeDecodeError):  # a byte order mark may have changed it
        encoding = error.encoding
    return DataError(
        f"the file is not valid {encoding} ({error})",
        where=where,
        hint="Set data.encoding to the encoding of the file (utf-8, gb18030, utf-16, …)",
    )


def _long_line_error(where: str) -> DataError:
    return DataError(
        f"the line has more than {MAX_LINE_CHARACTERS:,} characters",
        where=where,
        hint="Check that the file has one row per line, with line feeds between them",
    )


def bounded_lines(file: Iterable[str]) -> Iterator[str]:
    """The lines of ``file``; of a line that is too long, only the beginning is read at once.

    ``iter_lines`` reports such a line.
    """
    if isinstance(file, io.TextIOBase):
        return iter(partial(file.readline, MAX_LINE_CHARACTERS + 1), "")
    return iter(file)


def _has_inner_carriage_return(line: str) -> bool:
    return "\r" in line.rstrip("\r\n")
