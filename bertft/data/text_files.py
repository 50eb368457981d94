"""Open text files so that a byte which does not decode spoils its own row and no other."""

from __future__ import annotations

import codecs
import encodings.aliases
import io
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import BinaryIO, TextIO

from bertft.config.messages import did_you_mean
from bertft.config.paths import missing_file_problem
from bertft.config.regular_file import unreadable
from bertft.data.bad_rows import BadRows
from bertft.errors import DataError

__all__ = ["resolve_existing_file", "open_text", "iter_lines"]


def resolve_existing_file(name: str, setting: str) -> Path:
    """The file ``name``. DataError with the nearest one of its folder if it is not there."""
    problem = missing_file_problem(name, setting)
    if problem is not None:
        raise DataError(problem.what, where=problem.where, hint=problem.hint)
    return Path(name).expanduser()


def open_text(source: Path | BinaryIO, encoding: str, newline: str) -> TextIO:
    """Text of a file or a binary stream, a BOM left out; bytes that do not decode become U+DCxx.

    ``newline`` as in ``open``. DataError for an unknown encoding or a file that may not be read.
    """
    try:
        info = codecs.lookup(encoding)
        if not _is_text_encoding(encoding):
            raise LookupError(encoding)
    except (LookupError, ValueError):
        names = {name for name in encodings.aliases.aliases.values() if _is_text_encoding(name)}
        known = sorted(name.replace("_", "-") for name in names)
        raise DataError(
            f"there is no encoding {encoding!r}", where="data.encoding",
            hint=did_you_mean(encoding, known) or "For example utf-8, gb18030, cp1252",
        ) from None  # fmt: skip
    name = "utf-8-sig" if info.name == "utf-8" else info.name
    try:
        binary = source.open("rb") if isinstance(source, Path) else source
        _skip_byte_order_mark(binary, info.name)
    except OSError as error:
        raise unreadable(error, source) from error
    return io.TextIOWrapper(binary, name, errors="surrogateescape", newline=newline)


_NOT_OF_FILES = ("idna", "punycode", "undefined")


def _skip_byte_order_mark(binary: BinaryIO, encoding: str) -> None:
    """Skip a BOM that ``encoding`` itself would decode to a character, as utf-16-le does."""
    try:
        byte_order_mark = "\ufeff".encode(encoding)
    except UnicodeError:  # the encoding cannot have one
        return
    peek = getattr(binary, "peek", None)
    if encoding != "utf-8" and peek is not None and peek(len(byte_order_mark)).startswith(byte_order_mark):
        binary.read(len(byte_order_mark))


def _is_text_encoding(encoding: str) -> bool:
    """Not base64 and its like, nor idna and its like, which cannot pass over a byte that does not
    decode; those of other systems cannot be looked up."""
    try:
        info = codecs.lookup(encoding)
        if not getattr(info, "_is_text_encoding", True) or info.incrementaldecoder is None:
            return False
        info.incrementaldecoder("surrogateescape").decode(b"", True)
    except (LookupError, ValueError):
        return False
    return info.name not in _NOT_OF_FILES


def iter_lines(file: TextIO, bad: BadRows, encoding: str) -> Iterator[str]:
    """The lines of ``file``; where no line feed follows a carriage return, these end the lines.

    In any other file carriage returns inside lines are text, and noted in ``bad``. DataError where
    the encoding cannot even go on to the next line.
    """
    number = inner_returns = 0
    try:
        lines: Iterator[str] = iter(file)
        first = next(lines, "")
        if _has_inner_carriage_return(first):
            second = next(lines, None)
            if second is None:  # the line ends of old Macs: this is the whole file
                yield from io.StringIO(first, newline="")
                return
            lines = chain([second], lines)
        for line in chain([first] if first else [], lines):
            number += 1
            inner_returns += _has_inner_carriage_return(line)
            yield line
    except UnicodeError as error:
        raise DataError(
            f"bytes that are not {encoding} ({error})", where=f"{bad.source}:{number + 1}",
            hint="Name the file's encoding with data.encoding (utf-8, gb18030, utf-16, …)",
        ) from error  # fmt: skip
    if inner_returns:
        count = "1 line has" if inner_returns == 1 else f"{inner_returns:,} lines have"
        bad.notes.append(
            f"{count} a carriage return inside, which is read as text: if it ends a row, convert"
            " the line ends of the file to line feeds"
        )


def _has_inner_carriage_return(line: str) -> bool:
    return "\r" in line and "\r" in line.rstrip("\r\n")
