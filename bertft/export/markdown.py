"""Tables, words and code in Markdown, whatever characters they hold."""

from __future__ import annotations

import re
from collections.abc import Sequence

from bertft.utils.terminal import escape_controls

__all__ = ["escape_cell", "escape_markdown", "inline_code", "markdown_table"]


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of Markdown texts."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(escape_cell, line))} |" for line in lines)


def escape_cell(text: str) -> str:
    """Markdown for a cell of a table: a bar in it does not end the cell."""
    return text.replace("|", "\\|")


def escape_markdown(text: str) -> str:
    """One line of Markdown that shows ``text``: no tag, link or picture in it."""
    line = " ".join(escape_controls(text).split()).replace("&", "&amp;").replace("<", "&lt;")
    return re.sub(r"([\\`*\[\]])", r"\\\1", line)


def inline_code(text: str) -> str:
    """``text`` as code, within as many backticks as it needs."""
    line = " ".join(escape_controls(text).split())
    longest = max((len(run) for run in re.findall("`+", line)), default=0)
    if longest == 0:
        return f"`{line}`"
    fence = "`" * (longest + 1)
    return f"{fence} {line} {fence}"
