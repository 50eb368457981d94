"""A table as a piece of HTML, for the rich display of Jupyter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from markupsafe import Markup, escape

from bertft.export.result_tables import format_cell
from bertft.tasks.report_items import TableCell, TableItem, replace_unprintable

__all__ = ["facts_table", "html_table"]


def html_table(item: TableItem, notes: Sequence[str] = ()) -> str:
    """The HTML of ``item`` with its title as caption; ``notes`` are lines below it."""
    head = Markup("").join(Markup("<th>{}</th>").format(_text(name)) for name in item.head)
    rows = Markup("").join(
        Markup("<tr{}>{}</tr>").format(
            Markup(' style="font-weight: bold"') if index in item.strong else "",
            Markup("").join(Markup("<td>{}</td>").format(_text(format_cell(c))) for c in row),
        )
        for index, row in enumerate(item.rows)
    )
    lines = Markup("").join(
        Markup("<div><small>{}</small></div>").format(_text(note))
        for note in filter(None, [item.note, *notes])
    )
    return str(
        Markup(
            '<table><caption style="text-align: left">{}</caption>'
            "<thead><tr>{}</tr></thead><tbody>{}</tbody></table>{}"
        ).format(_text(item.title), head, rows, lines)
    )


def facts_table(title: str, facts: Mapping[str, object]) -> str:
    """The HTML of a table with one fact per row; lists are joined with commas."""
    rows: list[list[TableCell]] = [
        [name, ", ".join(map(str, value)) if isinstance(value, list) else str(value)]
        for name, value in facts.items()
    ]
    return html_table(TableItem("facts", title, head=("", ""), rows=rows))


def _text(text: str) -> Markup:
    return escape(replace_unprintable(text))
