"""``bertft compare``: finished runs beside each other, in the terminal and as one HTML page."""

from __future__ import annotations

from pathlib import Path

from bertft.assembly.row_scores import row_scores
from bertft.assembly.warn import warn
from bertft.config.commands import CompareConfig
from bertft.config.printed import say
from bertft.errors import UsageError
from bertft.reports.compare.comparison import compare
from bertft.reports.compare.page import page
from bertft.reports.compare.read import comparable, read_runs
from bertft.reports.compare.table import show
from bertft.runs.atomic import environment, write_text

__all__ = ["run"]

_PAGE = "compare.html"


def run(config: CompareConfig, folder: Path) -> None:
    """Print the tables and leave the page; its path is the last line."""
    out = _place(config.out, folder)
    given = config.runs if isinstance(config.runs, list) else [config.runs]
    runs = read_runs([str(each) for each in given], warn)
    comparable(runs)
    found = compare(
        runs, config.against, config.draws,
        lambda each: row_scores(each.folder, config.device, _tell, config.trust_remote_code),
    )  # fmt: skip
    show(found)
    with environment(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        write_text(out, page(found))
    say(out)


def _tell(text: str) -> None:
    say(text, stderr=True)


def _place(out: str | None, folder: Path) -> Path:
    """``out`` is the page, or a folder for it."""
    if out is None:
        return folder / _PAGE
    path = Path(out).expanduser()
    page = path if path.suffix.casefold() in (".html", ".htm") else path / _PAGE
    if page.is_dir() or any(each.exists() and not each.is_dir() for each in page.parents):
        raise UsageError(
            "cannot be the page, or a folder for it", where=f"out={out}",
            hint="Give a file that ends in .html, or a folder",
        )  # fmt: skip
    return page
