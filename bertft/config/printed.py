"""Text on its way to a terminal: what a label or a file name holds is shown, never obeyed.

ESC [ ... colours, clears or retitles a terminal, and marks of direction let a text read as another
one. They are shown as an escape, ``\\x1b``. Line ends and tabs stay.
"""

from __future__ import annotations

import re
import sys

__all__ = ["escape_controls", "print_escaped"]

# C0 and C1 controls, DEL, line and paragraph separators, marks of direction, lone surrogates.
_CONTROL_CHARACTERS = re.compile(
    "[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u2028-\\u202e\\u2066-\\u2069\\ud800-\\udfff]"
)


def escape_controls(text: str) -> str:
    """``text`` without a character that a terminal obeys."""
    return _CONTROL_CHARACTERS.sub(_escape_match, text)


def print_escaped(text: object, *, stderr: bool = False) -> None:
    """Print a line of which a part may come from a file."""
    print(escape_controls(str(text)), file=sys.stderr if stderr else sys.stdout)


def _escape_match(match: re.Match[str]) -> str:
    number = ord(match[0])
    return f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}"
