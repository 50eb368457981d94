"""What one field of a row must be, whatever the row is for."""

from __future__ import annotations

import ast
import json
import re
from typing import Any

from bertft.data.bad_rows import UNDECODABLE, Fault

__all__ = ["clean", "listed", "text"]

# Python's own would join 'a' 'b', which numpy prints for two elements, to one.
_ITEM = r"""(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[-+.\w]+)"""
_PYTHON_LIST = re.compile(rf"\[\s*(?:{_ITEM}(?:\s*,\s*{_ITEM})*(?:\s*,)?)?\s*\]", re.DOTALL)
_ESCAPED_BYTE = re.compile("[\udc80-\udcff]")


def text(value: Any, what: str = "text") -> str:
    """A string with something in it. ``what`` names the field in a Fault."""
    if value is None or value == "" or (isinstance(value, str) and value.isspace()):
        raise Fault(f"empty {what}")
    if not isinstance(value, str):
        raise Fault(f"{what} is no string", f"the {what} is a {type(value).__name__}, not a string")
    return clean(value, what)


def clean(value: str, what: str) -> str:
    """A string that UTF-8 can write and that holds no NUL."""
    if "\0" in value:
        raise Fault("NUL byte", f"a NUL byte in the {what}")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            if _ESCAPED_BYTE.search(value):
                raise Fault(UNDECODABLE, f"{UNDECODABLE} in the {what}") from error
            raise Fault("unpaired surrogate", f"an unpaired surrogate in the {what}") from error
    return value


def listed(value: str) -> list[Any] | None:
    """The list that a field spells, as JSON or Python write one; None if it is any other text."""
    value = value.strip()
    if not (value.startswith("[") and value.endswith("]")):
        return None
    try:
        found = json.loads(value)
    except (ValueError, RecursionError):
        if not _PYTHON_LIST.fullmatch(value):
            return None
        try:
            found = ast.literal_eval(value)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            return None
    return found if isinstance(found, list) else None
