"""``report.html`` and ``plots/*.png`` of a finished run.

The page is one file that asks for nothing: pictures stand in it as SVG, and it forbids itself
every request. Whatever cannot be shown is named in its place and warned of, never raised.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from bertft.reports.material import ReportContext
from bertft.reports.sections import SECTIONS
from bertft.runs.atomic import remove_stale_temporaries, atomic_write_text
from bertft.runs.exhibits import ReportItem, TableItem

__all__ = ["write_report"]


def write_report(context: ReportContext, warn: Callable[[str], object]) -> Path | None:
    """The page's path; None if there is none. ``warn`` is told of all that went wrong."""
    try:
        return _write_page(context, warn)
    except Exception as error:
        warn(f"report.html could not be written ({_error_text(error)}); the run is whole without it")
        return None


def _write_page(context: ReportContext, warn: Callable[[str], object]) -> Path:
    # Both take their time to import, and none but the end of a run needs them.
    from bertft.reports.drawing.draw import Drawing, draw_item
    from bertft.reports.page.render import FailedItem, Picture, RenderedItem, render_run_report

    plots, missing_characters = context.run.plots_dir, set[str]()
    context.run.ensure_no_links()
    plots.mkdir(exist_ok=True)
    for folder in (context.run.path, plots):
        remove_stale_temporaries(folder)  # what a report that was killed left half written

    def show(item: ReportItem) -> RenderedItem:
        if isinstance(item, TableItem):
            return item
        try:
            drawing: Drawing = draw_item(item, plots)
        except Exception as error:
            warn(f"the picture {item.name} could not be drawn ({_error_text(error)})")
            return FailedItem(item.title, _error_text(error))
        missing_characters.update(drawing.missing_characters)
        return Picture(item, drawing.svg)

    sections = []
    for section in SECTIONS:
        rendered_items: list[RenderedItem] = []
        try:
            for exhibit in section.build_items(context):  # what came before a failure stays
                rendered_items.append(show(exhibit))  # noqa: PERF401
        except Exception as error:
            warn(f"the report's part on {section.name} could not be made ({_error_text(error)})")
            rendered_items.append(FailedItem(section.title, _error_text(error)))
        if rendered_items:
            sections.append((section, rendered_items))
    if missing_characters:
        characters = "".join(sorted(missing_characters)[:12])
        warn(
            f"no installed font has {characters!r}: they are boxes in plots/*.png, but not in report.html"
        )
    atomic_write_text(context.run.report_path, render_run_report(context, sections))
    return context.run.report_path


def _error_text(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
