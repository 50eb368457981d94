"""Tables for the terminal that fit its width without breaking words or numbers.

A table that is too wide is made narrower in this order:

1. Texts wrap between words.
2. Columns that may be left out are dropped; a line below the table names them.
3. Numbers wrap at their spaces (``0.91 ± 0.01``).
4. Words are broken, after ``_``, ``.`` or ``/`` if possible.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from bertft.export.result_tables import format_cell
from bertft.tasks.report_items import TableItem
from bertft.utils.terminal import escape_controls

__all__ = ["FittedTable", "move_constant_columns"]

_COLUMN_OVERHEAD, _TABLE_OVERHEAD = 3, 1  # padding and rule of a column; the last rule
_MAX_WORD = 24  # a longer word, such as a path, may be broken
_EMPTY = ("", "–")
_AFTER_SEPARATOR = r"(?<=[ _./=-])"


class FittedTable:
    """A renderable for rich.

    Args:
        item: The table. Its ``kinds`` distinguish numbers from texts; if they are empty, the first
            column and every column with a text in a row are texts.
        droppable: Names of columns that may be left out, the least important one first.
    """

    def __init__(self, item: TableItem, droppable: Sequence[str] = ()) -> None:
        self.item, self._droppable = item, droppable
        self._cells = [[escape_controls(format_cell(cell)) for cell in row] for row in item.rows]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        item = self.item
        columns, widths = self._fit(options.max_width)
        title = Text(item.title) if item.title else None
        table = Table(title=title, title_justify="left")
        for column, width in zip(columns, widths, strict=True):
            is_number = self._is_number(column)
            table.add_column(
                Text(_break_words(item.head[column], width)),
                justify="right" if is_number and column else "left",
                width=width,
                overflow="fold",
                vertical="top",
            )
        for index, row in enumerate(self._cells):
            style = "bold" if index in item.strong else None
            cells = zip(columns, widths, strict=True)
            table.add_row(*(Text(_break_words(row[c], width)) for c, width in cells), style=style)
        yield table
        if item.note:
            yield Text(item.note)
        left_out = [name for index, name in enumerate(item.head) if index not in columns]
        if left_out:
            yield Text(f"Not shown at this width: {', '.join(left_out)}.")

    def _repr_html_(self) -> str:
        """The table in Jupyter, with all columns."""
        from bertft.report.html_table import html_table

        return html_table(self.item)

    def _is_number(self, column: int) -> bool:
        kinds = self.item.kinds
        if kinds:
            return kinds[column] == "number"
        return column > 0 and not any(isinstance(row[column], str) for row in self.item.rows)

    def _texts(self, column: int) -> Iterable[str]:
        return (row[column] for row in self._cells)

    def _natural_width(self, column: int) -> int:
        return max(map(cell_len, [self.item.head[column], *self._texts(column)]), default=0)

    def _smallest_width(self, column: int, wrap_numbers: bool) -> int:
        """The width at which no word, and without ``wrap_numbers`` no number, is broken."""
        words = [*self.item.head[column].split()]
        keep_whole = self._is_number(column) and not wrap_numbers
        for text in self._texts(column):
            words += [text] if keep_whole else text.split()
        longest = max(map(cell_len, words), default=0)
        return longest if keep_whole else min(longest, _MAX_WORD)

    def _fit(self, width: int) -> tuple[list[int], list[int]]:
        """The columns to show, and their widths."""
        columns = list(range(len(self.item.head)))
        droppable = [self.item.head.index(n) for n in self._droppable if n in self.item.head]
        smallest = {column: self._smallest_width(column, False) for column in columns}
        while droppable and _table_width(smallest.values()) > width:
            column = droppable.pop(0)
            columns.remove(column)
            del smallest[column]
        if _table_width(smallest.values()) > width:
            smallest = {column: self._smallest_width(column, True) for column in columns}
        while _table_width(smallest.values()) > width:  # words are broken
            widest = max(columns, key=lambda column: smallest[column])
            if smallest[widest] <= 1:
                break
            smallest[widest] -= 1
        spare = width - _table_width(smallest.values())
        numbers_first = sorted(columns, key=lambda column: (not self._is_number(column), column))
        for column in numbers_first:
            extra = max(0, min(spare, self._natural_width(column) - smallest[column]))
            smallest[column] += extra
            spare -= extra
        return columns, [smallest[column] for column in columns]


def _break_words(text: str, width: int) -> str:
    """``text`` with line ends in words that are longer than ``width``, after a separator."""
    if all(cell_len(word) <= width for word in text.split()):
        return text
    lines = [""]
    for piece in re.split(_AFTER_SEPARATOR, text):
        if cell_len((lines[-1] + piece).rstrip()) > width:
            lines.append(piece)
        else:
            lines[-1] += piece
    return "\n".join(line.strip() for line in lines if line.strip())


def _table_width(widths: Iterable[int]) -> int:
    widths = list(widths)
    return sum(widths) + _COLUMN_OVERHEAD * len(widths) + _TABLE_OVERHEAD


def move_constant_columns(item: TableItem, names: Sequence[str]) -> TableItem:
    """``item`` without those of the columns ``names`` in which all rows are equal.

    A column without values is dropped. If several rows have the same value, it moves to the note.
    """
    dropped, facts = set[int](), []
    for index, name in enumerate(item.head):
        values = {format_cell(row[index]) for row in item.rows}
        if name not in names or not item.rows:
            continue
        if values <= set(_EMPTY):
            dropped.add(index)
        elif len(values) == 1 and len(item.rows) > 1:
            dropped.add(index)
            facts.append(f"{name} {values.pop()}")
    if not dropped:
        return item
    remaining = [index for index in range(len(item.head)) if index not in dropped]
    note = f"Equal in all rows: {', '.join(facts)}." if facts else ""
    return replace(
        item,
        note=f"{item.note} {note}".strip(),
        head=[item.head[index] for index in remaining],
        rows=[[row[index] for index in remaining] for row in item.rows],
        kinds=[item.kinds[index] for index in remaining] if item.kinds else (),
    )
