"""What consoles print in Jupyter."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from bertft.report import console as console_module
from bertft.report.console import plain_console


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
