"""What a label, a path or a folder's name holds is shown by a terminal, a table and a page."""

from __future__ import annotations

import csv
import io

from rich.table import Table
from rich.text import Text

from bertft.export.markdown import escape_markdown, inline_code, markdown_table
from bertft.report.console import plain_console
from bertft.report.result_rows import JobResult, group_results
from bertft.report.sweep import print_summary, write_summary
from bertft.training.callbacks.log_file import LogFile
from bertft.utils.terminal import escape_controls, print_warning

EVIL = "a\x1b[2J\x1b]0;t\x07\x9b31m\u202eb\u2028c\r"
SHOWN = r"a\x1b[2J\x1b]0;t\x07\x9b31m\u202eb\u2028c\x0d"


def obeyed(text: str) -> set[str]:
    return set(text) & set("\x1b\x07\x9b\u202e\u2028\r")


def test_a_terminal_obeys_no_text():
    assert escape_controls(EVIL) == SHOWN
    assert escape_controls("naïve 质问 \t\n😀 é") == "naïve 质问 \t\n😀 é"


def test_tables_warnings_and_the_log(tmp_path, capsys):
    out = io.StringIO()
    displayed = Table(EVIL, EVIL)
    displayed.add_row(EVIL, Text(EVIL))
    console = plain_console(file=out, width=200)
    console.print(displayed, EVIL, Text(EVIL))
    # rich itself takes \\a and \\r out of a Text
    assert out.getvalue().count(SHOWN) == 4 and not obeyed(out.getvalue())
    print_warning(EVIL)
    assert SHOWN in capsys.readouterr().err
    with LogFile(tmp_path / "log.txt") as log:
        log.write_line(EVIL)
    assert (tmp_path / "log.txt").read_text(encoding="utf-8").endswith(f"{SHOWN}\n")


def test_a_sweeps_tables_hold_no_formula_and_no_tag(tmp_path, capsys):
    texts = [
        "=1+1",
        "+cmd|' /C x'!A0",
        "@SUM(A1)",
        "-2+3",
        "<img src=x onerror=y> | `z` [a](b)",
        EVIL,
    ]
    jobs = [JobResult(tmp_path, {"data.train": text, "n": "-5"}, None, None) for text in texts]
    jobs.append(JobResult(tmp_path, {"data.train": "-1e-3", "n": "-5"}, None, None))
    lines = group_results(jobs)
    write_summary(tmp_path, lines)
    with open(tmp_path / "summary.csv", encoding="utf-8", newline="") as file:
        cells = [row["data.train"] for row in csv.DictReader(file)]
    assert cells == [*(f"'{text}" for text in texts[:4]), *texts[4:], "-1e-3"]
    markdown = (tmp_path / "summary.md").read_text(encoding="utf-8")
    assert r"| &lt;img src=x onerror=y> \| \`z\` \[a\](b) |" in markdown and not obeyed(markdown)
    widths = {
        row.replace(r"\|", "").count("|") for row in markdown.splitlines() if row.startswith("|")
    }
    assert len(widths) == 1, "no cell makes another one"
    print_summary(lines)
    assert not obeyed(capsys.readouterr().out)


def test_markdown_shows_what_it_is_given():
    assert escape_markdown("<b>&amp;*x*") == r"&lt;b>&amp;amp;\*x\*"
    assert inline_code(EVIL) == f"`{SHOWN}`"
    assert (
        markdown_table([escape_markdown("a|b")], [[escape_markdown("\\|")]]).splitlines()[0]
        == r"| a\|b |"
    )
