"""A JSON file of a run as a value, or DataError that names the file and what is wrong.

Only JSON proper is read: no NaN, no BOM, no more than 256 MB.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NoReturn

from bertft.config.regular_file import read_regular_text
from bertft.errors import DataError

__all__ = ["read_json", "read_object"]

_LARGEST = 1 << 28


def read_json(path: Path) -> Any:
    """The value in ``path``."""
    text = read_regular_text(path, _LARGEST)
    if not text.strip():
        raise DataError("is empty", where=str(path), hint=_HINT)
    try:
        return json.loads(text, parse_constant=_refuse)
    except RecursionError:
        raise _damaged(path, "nested too deeply") from None
    except ValueError as error:
        raise _damaged(path, str(error)) from None


def read_object(path: Path) -> dict[str, Any]:
    """The object in ``path``; any other JSON is an error."""
    value = read_json(path)
    if not isinstance(value, dict):
        raise _damaged(path, f"a {type(value).__name__} where an object belongs")
    return value


_HINT = "Was it edited or cut short?"


def _damaged(path: Path, why: str) -> DataError:
    return DataError(f"cannot be read as JSON ({why})", where=str(path), hint=_HINT)


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")
