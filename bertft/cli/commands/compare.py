"""``bertft compare``: compare finished runs, in the terminal and as one HTML page."""

from __future__ import annotations

from pathlib import Path

from bertft.config.command_configs import CompareConfig
from bertft.errors import UsageError
from bertft.report.compare.comparison import compare_runs
from bertft.report.compare.page import render_comparison
from bertft.report.compare.read import check_comparable, read_runs
from bertft.report.compare.row_statistics import load_row_statistics
from bertft.report.compare.table import print_comparison
from bertft.utils.atomic_io import atomic_write_text, convert_write_errors
from bertft.utils.messages import display_path
from bertft.utils.status import show_status
from bertft.utils.terminal import print_escaped, print_warning

__all__ = ["run"]

_PAGE_NAME = "compare.html"


def run(config: CompareConfig, folder: Path) -> None:
    """Print the tables and write the page; the last line is its path."""
    page_path = _page_path(config.out, folder)
    run_folders = config.runs if isinstance(config.runs, list) else [config.runs]
    show_status("reading runs")
    runs = read_runs([str(compared_run) for compared_run in run_folders], print_warning)
    check_comparable(runs)
    comparison = compare_runs(
        runs,
        config.against,
        config.draws,
        lambda run: load_row_statistics(
            run.folder, config.device, _print_progress, config.trust_remote_code
        ),
    )
    print_comparison(comparison)
    show_status("drawing page")
    with convert_write_errors(page_path):
        page_path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write_text(page_path, render_comparison(comparison))
    print_escaped(f"page: {display_path(page_path)}")


def _print_progress(text: str) -> None:
    print_escaped(text, stderr=True)


def _page_path(out: str | None, folder: Path) -> Path:
    """The path of the page. UsageError if ``out`` cannot be a page or a folder."""
    if out is None:
        return folder / _PAGE_NAME
    path = Path(out).expanduser()
    page = path if path.suffix.casefold() in (".html", ".htm") else path / _PAGE_NAME
    if page.is_dir() or any(parent.exists() and not parent.is_dir() for parent in page.parents):
        raise UsageError(
            "is not a valid path for a page",
            where=f"out={out}",
            hint="Use a file name that ends in .html, or a folder",
        )
    return page
