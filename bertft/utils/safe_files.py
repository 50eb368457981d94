"""Read files that may come from somebody else: regular files only, of limited size, as plain data.

A named pipe in place of a file would wait for a writer forever, and a device may deliver bytes
without end. Every file of a run, a model or a cache is opened here, or checked here before a
library opens it by its path.

    open_regular_file, check_regular_file, file_sha256
    read_regular_bytes, read_regular_text      with a size limit
    read_json, read_json_object                no NaN, no Infinity
    read_plain_yaml, parse_plain_yaml          no tags, anchors, aliases or interpolations
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import stat
from collections import Counter
from collections.abc import Mapping
from io import BufferedReader
from pathlib import Path
from typing import Any, NoReturn

import yaml

from bertft.errors import DataError
from bertft.utils.messages import first_line

__all__ = [
    "DAMAGED_FILE_HINT",
    "check_regular_file",
    "file_kind",
    "file_sha256",
    "open_regular_file",
    "parse_plain_yaml",
    "read_json",
    "read_json_object",
    "read_plain_yaml",
    "read_regular_bytes",
    "read_regular_text",
    "unreadable",
]

DAMAGED_FILE_HINT = "The file may have been edited or truncated: restore it from a copy"

_MAX_BYTES = 1 << 28
_MAX_YAML_BYTES = 1 << 19
_MAX_YAML_DEPTH = 32
_MAX_REASON_LENGTH = 200
_FILE_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
_OPEN_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def open_regular_file(path: Path) -> BufferedReader:
    """Open ``path`` for reading without blocking. OSError unless it is a regular file."""
    check_regular_file(path)  # opening a device may already have an effect
    descriptor = os.open(path, _OPEN_FLAGS)
    try:
        kind = file_kind(os.fstat(descriptor).st_mode)
        if kind is not None:
            raise OSError(errno.EINVAL, f"it is {kind}, not a regular file", str(path))
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def check_regular_file(path: Path) -> None:
    """OSError unless ``path`` is a regular file, or a link to one."""
    try:
        kind = file_kind(os.stat(path).st_mode)
    except ValueError as error:  # a name with a NUL byte
        raise OSError(errno.EINVAL, str(error), str(path)) from None
    if kind is not None:
        raise OSError(errno.EINVAL, f"it is {kind}, not a regular file", str(path))


def file_kind(mode: int) -> str | None:
    """The kind of a file with ``mode`` (of ``os.stat``); None for a regular file."""
    if stat.S_ISREG(mode):
        return None
    return next((name for test, name in _FILE_KINDS if test(mode)), "a special file")


def file_sha256(path: Path) -> str:
    """Hex digest of a file's content. OSError unless it is a regular file."""
    with open_regular_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def unreadable(error: OSError | str, where: object) -> DataError:
    """The error for a file or folder that exists and cannot be read; ``error`` is the reason."""
    reason = error if isinstance(error, str) else error.strerror or error
    return DataError(
        f"cannot be read ({reason})", where=str(where), hint="Check the path and its permissions"
    )


def read_regular_bytes(
    path: Path, max_bytes: int = _MAX_BYTES, hint: str = DAMAGED_FILE_HINT
) -> bytes:
    """The content of ``path``. DataError if it is missing, not a regular file, or too large.

    ``hint``: what to do about a file that is too large.
    """
    try:
        with open_regular_file(path) as file:
            content = file.read(max_bytes + 1)
    except FileNotFoundError:
        raise DataError(
            "is missing", where=str(path), hint="Restore the file from a copy"
        ) from None
    except OSError as error:
        raise unreadable(error, path) from error
    if len(content) > max_bytes:
        raise DataError(f"is larger than {max_bytes:,} bytes", where=str(path), hint=hint)
    return content


def read_regular_text(path: Path, max_bytes: int = _MAX_BYTES) -> str:
    """The UTF-8 text of ``path``. DataError as ``read_regular_bytes``, and if it is not UTF-8."""
    try:
        return read_regular_bytes(path, max_bytes).decode("utf-8")
    except UnicodeDecodeError:
        raise DataError(
            "cannot be read (not UTF-8)", where=str(path), hint=DAMAGED_FILE_HINT
        ) from None


def read_json(path: Path) -> Any:
    """The value in ``path``. DataError if it is missing, too large or not JSON."""
    text = read_regular_text(path)
    if not text.strip():
        raise DataError("is empty", where=str(path), hint=DAMAGED_FILE_HINT)
    try:
        return json.loads(text, parse_constant=_reject_constant)
    except RecursionError:
        raise _json_error(path, "nested too deeply") from None
    except ValueError as error:
        raise _json_error(path, str(error)) from None


def read_json_object(path: Path) -> dict[str, Any]:
    """The object in ``path``. DataError as ``read_json``, and if it is any other JSON value."""
    value = read_json(path)
    if not isinstance(value, dict):
        raise _json_error(path, f"expected an object, got {type(value).__name__}")
    return value


def _json_error(path: Path, reason: str) -> DataError:
    return DataError(f"cannot be read as JSON ({reason})", where=str(path), hint=DAMAGED_FILE_HINT)


def _reject_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def read_plain_yaml(path: Path) -> Any:
    """The value in ``path``. DataError if it is missing, damaged, too large or not plain YAML."""
    try:
        return parse_plain_yaml(read_regular_text(path, _MAX_YAML_BYTES))
    except (yaml.YAMLError, ValueError, RecursionError, OverflowError) as error:
        raise DataError(
            f"cannot be read ({first_line(error)[:_MAX_REASON_LENGTH]})",
            where=str(path),
            hint=DAMAGED_FILE_HINT,
        ) from None


def parse_plain_yaml(text: str) -> Any:
    """The value of the YAML ``text``. ValueError or yaml.YAMLError if it is not plain YAML."""
    depth = 0
    for event in yaml.parse(text, Loader=_BASE_LOADER):
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise ValueError(f"line {line}: anchors and aliases are not supported")
        if getattr(event, "tag", None) is not None and event.tag != "!":
            raise ValueError(f"line {line}: tags are not supported")
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > _MAX_YAML_DEPTH:
            raise ValueError(f"line {line}: nested more than {_MAX_YAML_DEPTH} levels deep")
    value = yaml.load(text, Loader=_PlainLoader)
    _reject_interpolation(value)
    return value


def _reject_interpolation(value: Any) -> None:
    if isinstance(value, str) and "${" in value:
        raise ValueError(f"interpolations (${{...}}) are not supported: {value[:80]!r}")
    if isinstance(value, Mapping):
        for name, item in value.items():
            _reject_interpolation(name)
            _reject_interpolation(item)
    elif isinstance(value, list):
        for item in value:
            _reject_interpolation(item)


_BASE_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_SCALAR_TAGS = {f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null")}


class _PlainLoader(_BASE_LOADER):  # type: ignore[misc]
    """Numbers as in OmegaConf: 1e-3 is a number, and a date is a text."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> Any:
        line = node.start_mark.line + 1
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if len(names) < len(node.value):
            raise ValueError(f"line {line}: a key is not a name")
        if len(set(names)) < len(names):
            duplicate = next(name for name, count in Counter(names).items() if count > 1)
            raise ValueError(f"line {line}: duplicate key {duplicate!r}")
        return super().construct_mapping(node, deep=deep)


_PlainLoader.yaml_implicit_resolvers = {
    key: [(tag, pattern) for tag, pattern in resolvers if tag in _SCALAR_TAGS]
    for key, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_PlainLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"[-+]?[0-9]+(?:_[0-9]+)*(?:\.[0-9_]*)?[eE][-+]?[0-9]+$"
        r"|\.[0-9]+(?:_[0-9]+)*(?:[eE][-+][0-9]+)?$"
    ),
    list("-+0123456789."),
)
