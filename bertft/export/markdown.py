"""Tables, text and code in Markdown, with every special character escaped."""

from __future__ import annotations

import re
from collections.abc import Sequence

from bertft.export.result_tables import format_cell
from bertft.tasks.report_items import TableItem
from bertft.utils.terminal import escape_controls

__all__ = ["escape_cell", "escape_markdown", "inline_code", "item_to_markdown", "markdown_table"]


def item_to_markdown(table: TableItem) -> str:
    """A report table without its title and note."""
    return markdown_table(
        [escape_markdown(name) for name in table.head],
        [[escape_markdown(format_cell(cell)) for cell in row] for row in table.rows],
    )


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose cells are Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(escape_cell, line))} |" for line in lines)


def escape_cell(text: str) -> str:
    """Markdown for a table cell: a vertical bar does not end the cell."""
    return text.replace("|", "\\|")


def escape_markdown(text: str) -> str:
    """One line of Markdown that shows ``text`` as it is, without tags, links or images."""
    line = " ".join(escape_controls(text).split()).replace("&", "&amp;").replace("<", "&lt;")
    return re.sub(r"([\\`*\[\]])", r"\\\1", line)


def inline_code(text: str) -> str:
    """``text`` as inline code, with as many backticks as it needs."""
    line = " ".join(escape_controls(text).split())
    longest = max((len(ticks) for ticks in re.findall("`+", line)), default=0)
    if longest == 0:
        return f"`{line}`"
    fence = "`" * (longest + 1)
    return f"{fence} {line} {fence}"
