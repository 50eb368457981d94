"""``report.html`` and ``plots/*.png`` of a finished run.

The page is one file that asks for nothing: pictures stand in it as SVG, and it forbids itself
every request. Whatever cannot be shown is named in its place and warned of, never raised.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from bertft.models.sequence_layout import pack_rows, packed_row_width
from bertft.report.context import ReportContext
from bertft.report.sections import SECTIONS
from bertft.tasks.report_items import ReportItem, TableItem
from bertft.utils.atomic_io import atomic_write_text, remove_stale_temporaries

__all__ = [
    "padding_fraction",
    "write_report",
]


def padding_fraction(batch_lengths: Iterable[np.ndarray], layout: str) -> float:
    """``batch_lengths``: the lengths in tokens of the sequences of each forward pass."""
    tokens = slots = 0
    for lengths in batch_lengths:
        tokens += int(lengths.sum())
        slots += _count_token_slots(lengths, layout)
    return 1 - tokens / slots if slots else 0.0


def _count_token_slots(lengths: np.ndarray, layout: str) -> int:
    if layout == "unpadded":
        return int(lengths.sum())
    if layout == "padded":
        return len(lengths) * int(lengths.max())
    width = packed_row_width(lengths.tolist())
    return width * pack_rows(lengths.tolist(), width)[2]


def write_report(context: ReportContext, warn: Callable[[str], object]) -> Path | None:
    """The page's path; None if there is none. ``warn`` is told of all that went wrong."""
    try:
        return _write_page(context, warn)
    except Exception as error:
        warn(
            f"report.html could not be written ({_error_text(error)}); the run is whole without it"
        )
        return None


def _write_page(context: ReportContext, warn: Callable[[str], object]) -> Path:
    # Both take their time to import, and none but the end of a run needs them.
    from bertft.report.page.render import FailedItem, Picture, RenderedItem, render_run_report
    from bertft.report.plots.draw import Drawing, draw_item

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
            f"no installed font has {characters!r}: they are boxes in plots/*.png, but not in"
            " report.html"
        )
    atomic_write_text(context.run.report_path, render_run_report(context, sections))
    return context.run.report_path


def _error_text(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
