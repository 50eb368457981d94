"""Open text files so that a byte which does not decode spoils its own row and no other."""

from __future__ import annotations

import codecs
import encodings.aliases
import io
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, TextIO

from bertft.config.messages import did_you_mean
from bertft.config.paths import missing_file
from bertft.errors import DataError

__all__ = ["existing", "open_text", "text_lines"]


def existing(name: str, setting: str) -> Path:
    """The file ``name``. DataError with the nearest one of its folder if it is not there."""
    problem = missing_file(name, setting)
    if problem is not None:
        raise DataError(problem.what, where=problem.where, hint=problem.hint)
    return Path(name).expanduser()


def open_text(source: Path | BinaryIO, encoding: str, newline: str) -> TextIO:
    """Text of a file or a binary stream, a BOM left out; bytes that do not decode become U+DCxx.

    ``newline`` as in ``open``. DataError for an unknown encoding or a file that may not be read.
    """
    try:
        info = codecs.lookup(encoding)
        if not _of_text(encoding):
            raise LookupError(encoding)
    except (LookupError, ValueError):
        names = {name for name in encodings.aliases.aliases.values() if _of_text(name)}
        known = sorted(name.replace("_", "-") for name in names)
        raise DataError(
            f"there is no encoding {encoding!r}", where="data.encoding",
            hint=did_you_mean(encoding, known) or "For example utf-8, gb18030, cp1252",
        ) from None  # fmt: skip
    name = "utf-8-sig" if info.name == "utf-8" else info.name
    try:
        binary = source.open("rb") if isinstance(source, Path) else source
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=str(source)) from error
    return io.TextIOWrapper(binary, name, errors="surrogateescape", newline=newline)


def _of_text(encoding: str) -> bool:
    """Not base64 and its like; those of other systems cannot be looked up."""
    try:
        return bool(getattr(codecs.lookup(encoding), "_is_text_encoding", True))
    except LookupError:
        return False


def text_lines(file: TextIO, source: str, encoding: str) -> Iterator[str]:
    """The lines of ``file``; where it has no line feed at all, carriage returns end them.

    DataError where its encoding cannot even go on to the next line.
    """
    number = 0
    try:
        for number, line in enumerate(file, start=1):
            if number == 1 and "\r" in line and not line.endswith("\n"):
                yield from _at_returns(line)  # the line ends of old Macs: this is the whole file
            else:
                yield line
    except UnicodeError as error:
        raise DataError(
            f"bytes that are not {encoding} ({error})", where=f"{source}:{number + 1}",
            hint="Name the file's encoding with data.encoding (utf-8, gb18030, utf-16, …)",
        ) from error  # fmt: skip


def _at_returns(text: str) -> Iterator[str]:
    start = 0
    while start < len(text):
        stop = text.find("\r", start) + 1 or len(text)
        yield text[start:stop]
        start = stop
