"""Consoles that print text as it is.

Rich reads ``[bold]`` as a style and ``:smile:`` as an emoji, and drops tags that it does not know.
Names of classes, columns and folders may contain both.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from functools import partial
from typing import IO, Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from bertft.report.html_table import html_table
from bertft.tasks.report_items import TableItem
from bertft.utils.notebook import display_html
from bertft.utils.terminal import escape_controls

__all__ = [
    "condensed_output",
    "is_condensed",
    "is_new_output",
    "line_printer",
    "plain_console",
    "print_wrapped",
    "wide_console",
]

_FILE_WIDTH = 200  # columns of a wide table in a file or pipe

# Adds a key to those printed in a sweep and returns whether it is new; None outside of a sweep.
_add_printed: ContextVar[Callable[[str], bool] | None] = ContextVar("add_printed", default=None)


@contextlib.contextmanager
def condensed_output(add_printed: Callable[[str], bool]) -> Iterator[None]:
    """The output of a job of a sweep: a short result, and nothing that an earlier job printed.

    Args:
        add_printed: Records a key; returns False if an earlier job has recorded it.
    """
    token = _add_printed.set(add_printed)
    try:
        yield
    finally:
        _add_printed.reset(token)


def is_condensed() -> bool:
    """Whether the output is that of a job of a sweep."""
    return _add_printed.get() is not None


def is_new_output(key: str) -> bool:
    """Whether to print the tables with ``key``: False if an earlier job of the sweep did."""
    add_printed = _add_printed.get()
    return add_printed is None or add_printed(key)


def plain_console(
    *,
    file: IO[str] | None = None,
    stderr: bool = False,
    width: int | None = None,
    quiet: bool = False,
) -> Console:
    """A console without markup and emoji that escapes control characters."""
    return _PlainConsole(
        file=file, stderr=stderr, width=width, quiet=quiet, markup=False, emoji=False
    )


def wide_console(console: Console | None = None) -> Console:
    """``console`` (None: stdout) for tables with many columns: at least 200 columns wide in a file.

    A terminal keeps its own width.
    """
    console = console or plain_console()
    if console.is_terminal or console.width >= _FILE_WIDTH:
        return console
    return plain_console(file=console.file, width=_FILE_WIDTH)


def line_printer(console: Console) -> Callable[[str], None]:
    """A function that prints a text as one line, so that a path in it can be copied."""
    return partial(console.print, soft_wrap=True)


class _PlainConsole(Console):
    """Escapes control characters in texts before they are measured, and in all other output."""

    def print(self, *objects: Any, **settings: Any) -> None:
        """As in rich, but Jupyter displays a table, or an object with ``_repr_html_``, as HTML."""
        if self.is_jupyter and len(objects) == 1:
            if isinstance(objects[0], Table):
                display_html(_table_html(objects[0]))
                return
            if hasattr(objects[0], "_repr_html_"):
                display_html(objects[0]._repr_html_())
                return
        super().print(*objects, **settings)

    def render_str(self, text: str, **settings: Any) -> Text:
        return super().render_str(escape_controls(text), **settings)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            if segment.control is None:
                segment = segment._replace(text=escape_controls(segment.text))
            yield segment


def _table_html(table: Table) -> str:
    head = [str(column.header) for column in table.columns]
    rows = zip(*([str(cell) for cell in column.cells] for column in table.columns), strict=True)
    item = TableItem(
        "table", str(table.title or ""), str(table.caption or ""), head=head, rows=list(rows)
    )
    return html_table(item)


def print_wrapped(lines: Iterable[str], console: Console | None = None) -> None:
    """Print ``lines``; a terminal gets them broken between words, with the indent of list items.

    ``console``: None: stdout.
    """
    console = console or plain_console()
    for line in lines:
        indent = len(line) - len(line.lstrip(" -"))
        if not console.is_terminal or console.width <= indent:
            console.print(Text(line), soft_wrap=True)
            continue
        wrapped = Text(escape_controls(line[indent:])).wrap(console, console.width - indent)
        for number, text in enumerate(wrapped):
            start = line[:indent] if number == 0 else " " * indent
            console.print(Text(f"{start}{text.plain.rstrip()}"), soft_wrap=True)
