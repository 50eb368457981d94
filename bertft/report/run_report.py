"""Writes ``report.html`` and ``plots/*.png`` of a finished run.

The page is one file that makes no request: pictures are inline SVG, and its content policy forbids
every request. What cannot be rendered is named in the page and reported as a warning; no error is
raised.
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

__all__ = ["padding_fraction", "write_report"]


def write_report(context: ReportContext, warn: Callable[[str], object]) -> Path | None:
    """The path of the page, or None if it could not be written. Errors are passed to ``warn``."""
    try:
        return _write_page(context, warn)
    except Exception as error:
        warn(f"report.html could not be written ({_error_text(error)}); the run itself is complete")
        return None


def _write_page(context: ReportContext, warn: Callable[[str], object]) -> Path:
    # matplotlib and Jinja take long to import, and only the end of a run needs them.
    from bertft.report.page.render import FailedItem, Picture, RenderedItem, render_run_report
    from bertft.report.plots.draw import draw_item

    plots, missing_characters = context.run.plots_dir, set[str]()
    context.run.ensure_no_links()
    plots.mkdir(exist_ok=True)
    for folder in (context.run.path, plots):
        remove_stale_temporaries(folder)  # from a report that was killed

    def render_item(item: ReportItem) -> RenderedItem:
        if isinstance(item, TableItem):
            return item
        try:
            drawing = draw_item(item, plots)
        except Exception as error:
            warn(f"the picture {item.name} could not be drawn ({_error_text(error)})")
            return FailedItem(item.title, _error_text(error))
        missing_characters.update(drawing.missing_characters)
        return Picture(item, drawing.svg)

    sections = []
    for section in SECTIONS:
        rendered_items: list[RenderedItem] = []
        try:
            for item in section.build_items(context):  # items before an error are kept
                rendered_items.append(render_item(item))  # noqa: PERF401
        except Exception as error:
            warn(f"the section {section.title} could not be rendered ({_error_text(error)})")
            rendered_items.append(FailedItem(section.title, _error_text(error)))
        if rendered_items:
            sections.append((section, rendered_items))
    if missing_characters:
        characters = "".join(sorted(missing_characters)[:12])
        warn(
            f"no installed font has the characters {characters!r}: plots/*.png shows boxes for them"
            " (report.html uses the fonts of the browser)"
        )
    atomic_write_text(context.run.report_path, render_run_report(context, sections))
    return context.run.report_path


def _error_text(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def padding_fraction(batch_lengths: Iterable[np.ndarray], layout: str) -> float:
    """The fraction of token positions that are padding.

    ``batch_lengths`` holds, for each forward pass, the lengths of its sequences in tokens.
    """
    tokens = positions = 0
    for lengths in batch_lengths:
        tokens += int(lengths.sum())
        positions += _count_token_positions(lengths, layout)
    return 1 - tokens / positions if positions else 0.0


def _count_token_positions(lengths: np.ndarray, layout: str) -> int:
    if layout == "unpadded":
        return int(lengths.sum())
    if layout == "padded":
        return len(lengths) * int(lengths.max())
    width = packed_row_width(lengths.tolist())
    return width * pack_rows(lengths.tolist(), width)[2]
