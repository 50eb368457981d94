"""A JSON file of a run as a value, or DataError that names the file and what is wrong.

Only JSON proper is read: no NaN, no BOM, no more than 256 MB.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NoReturn

from bertft.config.regular_file import read_regular_text
from bertft.errors import DataError

__all__ = ["read_json", "read_json_object"]

_MAX_JSON_BYTES = 1 << 28


def read_json(path: Path) -> Any:
    """The value in ``path``."""
    text = read_regular_text(path, _MAX_JSON_BYTES)
    if not text.strip():
        raise DataError("is empty", where=str(path), hint=_JSON_HINT)
    try:
        return json.loads(text, parse_constant=_reject_constant)
    except RecursionError:
        raise _json_error(path, "nested too deeply") from None
    except ValueError as error:
        raise _json_error(path, str(error)) from None


def read_json_object(path: Path) -> dict[str, Any]:
    """The object in ``path``; any other JSON is an error."""
    value = read_json(path)
    if not isinstance(value, dict):
        raise _json_error(path, f"a {type(value).__name__} where an object belongs")
    return value


_JSON_HINT = "Was it edited or cut short?"


def _json_error(path: Path, reason: str) -> DataError:
    return DataError(f"cannot be read as JSON ({reason})", where=str(path), hint=_JSON_HINT)


def _reject_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")
