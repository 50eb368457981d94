"""What a file holds, by its first bytes: its ending alone is not believed.

checked_first_line(path, encoding, source)    refuses what no reader of text can read
first_line(path, encoding)                    the first line that is not blank
json_document(line)                           whether a JSON document of several lines begins so
json_object(line)                             the JSON object that a line is, as in JSON Lines
unique_keys(pairs)                            object_pairs_hook of json that drops no key
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

from bertft.config.messages import quote_value
from bertft.config.regular_file import unreadable
from bertft.data.text_files import open_text
from bertft.errors import DataError

__all__ = [
    "RepeatedKeyError", "checked_first_line", "read_first_line", "starts_json_document", "parse_json_object",
    "reject_repeated_keys",
]  # fmt: skip

_HEAD_BYTES = 4096
_MAX_LINE_CHARACTERS = 1 << 20  # characters of the first line that are looked at
_JSON_DOCUMENT = re.compile(r"\s*(\{\s*$|\[\s*(\{|$))")
_MAX_NUL_SHARE = 0.1  # share of NUL bytes that no text has

_UNPACK_HINT = "Unpack it and name the file in it"
_MAGIC = {
    b"\x1f\x8b": ("is compressed with gzip", "Decompress it: gunzip {name}"),
    b"BZh91AY&SY": ("is compressed with bzip2", "Decompress it: bunzip2 {name}"),
    b"\xfd7zXZ\0": ("is compressed with xz", "Decompress it: unxz {name}"),
    b"\x28\xb5\x2f\xfd": ("is compressed with zstd", "Decompress it: unzstd {name}"),
    b"\x04\x22\x4d\x18": ("is compressed with lz4", "Decompress it: unlz4 {name}"),
    b"\x1f\x9d": ("is compressed with compress", "Decompress it: uncompress {name}"),
    b"Rar!\x1a\x07": ("is a RAR archive", _UNPACK_HINT),
    b"7z\xbc\xaf\x27\x1c": ("is a 7z archive", _UNPACK_HINT),
    b"PK\x03\x04": ("is a zip archive, as Excel workbooks (.xlsx) are",
                    "Save the sheet as CSV, or unpack the archive"),
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": ("is an old Office document (.xls, .doc)",
                                          "Save the sheet as CSV"),
    b"%PDF-": ("is a PDF document", "Give its text as a .txt, .csv or .jsonl file"),
    b"PAR1\x15": ("is a Parquet file", "Rename it to end in .parquet"),
    b"FEA1": ("is a Feather file", "Save it as Parquet or CSV"),
    b"{\\rtf": ("is an RTF document", "Save it as plain text"),
    b"version https://git-lfs.": ("is a Git LFS pointer, not the data", "Fetch it: git lfs pull"),
    b"ARROW1\0\0": ("is an Arrow file", "Save it as Parquet or CSV"),
    b"SQLite format 3\0": ("is an SQLite database", "Export the table as CSV"),
    b"\x89HDF\r\n": ("is an HDF5 file", "Save it as Parquet or CSV"),
    b"\x93NUMPY": ("is a NumPy array", "Save it as Parquet or CSV"),
    b"\x89PNG\r\n": ("is an image", "Give a file of text"),
}  # fmt: skip
_BYTE_ORDER_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16",
}  # fmt: skip


def checked_first_line(path: Path, encoding: str, source: str) -> str:
    """As ``read_first_line``. DataError where the first bytes are not those of a text in ``encoding``.

    The file is opened once: what is checked is what is read.
    """
    try:
        with path.open("rb") as file:
            _check_head(file.peek(_HEAD_BYTES)[:_HEAD_BYTES], path.name, encoding, source)
            return _first_line(file, encoding)
    except OSError as error:
        raise unreadable(error, source) from error


def _check_head(head: bytes, name: str, encoding: str, source: str) -> None:
    for magic, (what, hint) in _MAGIC.items():
        if head.startswith(magic):
            raise DataError(f"the file {what}", where=source, hint=hint.format(name=name))
    if _is_wide_encoding(encoding):
        return
    for mark, other in _BYTE_ORDER_MARKS.items():
        if head.startswith(mark):
            raise DataError(
                f"the file begins as {other} does, and not as {encoding}", where=source,
                hint=f"Give data.encoding={other}",
            )  # fmt: skip
    if head.count(0) > _MAX_NUL_SHARE * len(head):
        raise DataError(
            f"{head.count(0):,} of the first {len(head):,} bytes are NUL: this is not text in"
            f" {encoding}", where=source,
            hint="If it is text in UTF-16, give data.encoding=utf-16-le (or utf-16-be)",
        )  # fmt: skip


def read_first_line(path: Path, encoding: str) -> str:
    """The first line of a text file that is not blank, without its end; "" if there is none."""
    return _first_line(path, encoding)


def _first_line(source: Path | BinaryIO, encoding: str) -> str:
    with open_text(source, encoding, "") as file:
        try:
            while line := file.readline(_MAX_LINE_CHARACTERS):
                if line.strip():
                    return line.rstrip("\r\n")
        except UnicodeError:  # the reader says where
            pass
    return ""


def parse_json_object(line: str) -> dict[str, object] | None:
    """The JSON object that ``line`` is, as each line of a JSON Lines file; None if it is none."""
    if not line.lstrip().startswith("{"):
        return None
    try:
        content = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def starts_json_document(line: str) -> bool:
    """Whether ``line`` begins a JSON document that is no JSON Lines: an array, or spread out."""
    return _JSON_DOCUMENT.match(line) is not None


class RepeatedKeyError(ValueError):
    """A JSON object has a key twice, of which json would keep the last value alone."""


def reject_repeated_keys(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """The object with ``pairs`` of keys and values. RepeatedKey where one is repeated."""
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        key = next(candidate for candidate in keys if keys.count(candidate) > 1)
        raise RepeatedKeyError(f"the key {quote_value(key)} occurs {keys.count(key)} times in one object")
    return content


def _is_wide_encoding(encoding: str) -> bool:
    try:
        return codecs.lookup(encoding).name.startswith(("utf-16", "utf-32"))
    except LookupError:  # the reader says so
        return True
