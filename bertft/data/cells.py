"""What one field of a row must be, whatever the row is for."""

from __future__ import annotations

import ast
import json
import re
from typing import Any

from bertft.data.bad_rows import UNDECODABLE, RowError

__all__ = ["check_characters", "parse_list", "require_text"]

# Python's own would join 'a' 'b', which numpy prints for two elements, to one.
_LIST_ITEM = r"""(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[-+.\w]+)"""
_PYTHON_LIST = re.compile(rf"\[\s*(?:{_LIST_ITEM}(?:\s*,\s*{_LIST_ITEM})*(?:\s*,)?)?\s*\]", re.DOTALL)
_ESCAPED_BYTE = re.compile("[\udc80-\udcff]")


def require_text(value: Any, field_name: str = "text") -> str:
    """A string with something in it. ``field_name`` names the field in a Fault."""
    if value is None or value == "" or (isinstance(value, str) and value.isspace()):
        raise RowError(f"empty {field_name}")
    if not isinstance(value, str):
        raise RowError(f"{field_name} is no string", f"the {field_name} is a {type(value).__name__}, not a string")
    return check_characters(value, field_name)


def check_characters(value: str, field_name: str) -> str:
    """A string that UTF-8 can write and that holds no NUL."""
    if "\0" in value:
        raise RowError("NUL byte", f"a NUL byte in the {field_name}")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            if _ESCAPED_BYTE.search(value):
                raise RowError(UNDECODABLE, f"{UNDECODABLE} in the {field_name}") from error
            raise RowError("unpaired surrogate", f"an unpaired surrogate in the {field_name}") from error
    return value


def parse_list(value: str) -> list[Any] | None:
    """The list that a field spells, as JSON or Python write one; None if it is any other text."""
    value = value.strip()
    if not (value.startswith("[") and value.endswith("]")):
        return None
    try:
        parsed = json.loads(value)
    except (ValueError, RecursionError):
        if not _PYTHON_LIST.fullmatch(value):
            return None
        try:
            parsed = ast.literal_eval(value)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            return None
    return parsed if isinstance(parsed, list) else None
