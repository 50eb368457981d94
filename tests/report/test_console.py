"""What consoles print in Jupyter."""

from __future__ import annotations

import io

from rich.table import Table
from rich.text import Text

from bertft.report import console as console_module
from bertft.report.console import plain_console, print_wrapped


def test_jupyter_shows_tables_as_html(monkeypatch):
    pages = []
    monkeypatch.setattr(console_module, "display_html", pages.append)
    console = plain_console()
    monkeypatch.setattr(console, "is_jupyter", True)
    table = Table("split", "rows", title="Data", caption="3 rows are <long>")
    table.add_row("train", Text("[bold]"))
    console.print(table)
    (page,) = pages
    assert page.startswith("<table><caption") and ">Data</caption>" in page
    assert "<th>split</th><th>rows</th>" in page
    assert "<td>train</td><td>[bold]</td>" in page
    assert "3 rows are &lt;long&gt;" in page


def test_a_terminal_gets_lines_that_are_broken_between_words(monkeypatch):
    lines = ["findings:", "  - 7 of 30 validation rows are in train (a.csv:14)"]
    stream = io.StringIO()
    console = plain_console(file=stream, width=30)
    print_wrapped(lines, console)
    assert stream.getvalue().splitlines() == lines
    monkeypatch.setattr(console, "_force_terminal", True)
    stream.truncate(0)
    stream.seek(0)
    print_wrapped(lines, console)
    assert stream.getvalue().splitlines() == [
        "findings:",
        "  - 7 of 30 validation rows",
        "    are in train (a.csv:14)",
    ]
