"""What a file holds, by its first bytes: its ending alone is not believed.

check_content(path, encoding, source)    refuses what no reader of text can read
first_line(path, encoding)               the first line that is not blank
json_document(line)                      whether a JSON document of several lines begins so
json_object(line)                        the JSON object that a line is, as in JSON Lines
"""

from __future__ import annotations

import codecs
import json
import re
from pathlib import Path

from bertft.data.text_files import open_text
from bertft.errors import DataError

__all__ = ["check_content", "first_line", "json_document", "json_object"]

_HEAD = 4096
_LONGEST_LINE = 1 << 20  # characters of the first line that are looked at
_DOCUMENT = re.compile(r"\s*(\{\s*$|\[\s*(\{|$))")
_BINARY = 0.1  # share of NUL bytes that no text has

_PACKED = "Unpack it and name the file in it"
_MAGIC = {
    b"\x1f\x8b": ("is compressed with gzip", "Decompress it: gunzip {name}"),
    b"BZh91AY&SY": ("is compressed with bzip2", "Decompress it: bunzip2 {name}"),
    b"\xfd7zXZ\0": ("is compressed with xz", "Decompress it: unxz {name}"),
    b"\x28\xb5\x2f\xfd": ("is compressed with zstd", "Decompress it: unzstd {name}"),
    b"7z\xbc\xaf\x27\x1c": ("is a 7z archive", _PACKED),
    b"PK\x03\x04": ("is a zip archive, as Excel workbooks (.xlsx) are",
                    "Save the sheet as CSV, or unpack the archive"),
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": ("is an old Office document (.xls, .doc)",
                                          "Save the sheet as CSV"),
    b"%PDF-": ("is a PDF document", "Give its text as a .txt, .csv or .jsonl file"),
    b"PAR1\x15": ("is a Parquet file", "Rename it to end in .parquet"),
    b"ARROW1\0\0": ("is an Arrow file", "Save it as Parquet or CSV"),
    b"SQLite format 3\0": ("is an SQLite database", "Export the table as CSV"),
    b"\x89HDF\r\n": ("is an HDF5 file", "Save it as Parquet or CSV"),
    b"\x93NUMPY": ("is a NumPy array", "Save it as Parquet or CSV"),
    b"\x89PNG\r\n": ("is an image", "Give a file of text"),
}  # fmt: skip
_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16",
}  # fmt: skip


def check_content(path: Path, encoding: str, source: str) -> None:
    """DataError where the first bytes of ``path`` are not those of a text in ``encoding``."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=source) from error
    for magic, (what, hint) in _MAGIC.items():
        if head.startswith(magic):
            raise DataError(f"the file {what}", where=source, hint=hint.format(name=path.name))
    if _wide(encoding):
        return
    for mark, name in _MARKS.items():
        if head.startswith(mark):
            raise DataError(
                f"the file begins as {name} does, and not as {encoding}", where=source,
                hint=f"Give data.encoding={name}",
            )  # fmt: skip
    if head.count(0) > _BINARY * len(head):
        raise DataError(
            f"{head.count(0):,} of the first {len(head):,} bytes are NUL: this is not text in"
            f" {encoding}", where=source,
            hint="If it is text in UTF-16, give data.encoding=utf-16-le (or utf-16-be)",
        )  # fmt: skip


def first_line(path: Path, encoding: str) -> str:
    """The first line of a text file that is not blank, without its end; "" if there is none."""
    with open_text(path, encoding, "") as file:
        try:
            while line := file.readline(_LONGEST_LINE):
                if line.strip():
                    return line.rstrip("\r\n")
        except UnicodeError:  # the reader says where
            pass
    return ""


def json_object(line: str) -> dict[str, object] | None:
    """The JSON object that ``line`` is, as each line of a JSON Lines file; None if it is none."""
    if not line.lstrip().startswith("{"):
        return None
    try:
        content = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def json_document(line: str) -> bool:
    """Whether ``line`` begins a JSON document that is no JSON Lines: an array, or spread out."""
    return _DOCUMENT.match(line) is not None


def _wide(encoding: str) -> bool:
    try:
        return codecs.lookup(encoding).name.startswith(("utf-16", "utf-32"))
    except LookupError:  # the reader says so
        return True
