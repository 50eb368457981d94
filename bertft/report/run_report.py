"""Writes ``report.html`` and ``plots/*.png`` of a finished run.

The predictions in the report are those of the best model. ``bertft report`` computes them again.

The page is one file that makes no request: pictures are inline SVG, and its content policy forbids
every request. If a picture or section cannot be rendered, the page and a warning name it, and no
error is raised.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bertft.config.command_configs import TrainConfig
from bertft.data.batch import LengthGroupedSampler, split_into_micro_batches
from bertft.models.sequence_layout import pack_rows, packed_row_width
from bertft.pipeline.data import RunData
from bertft.pipeline.task_model import TaskModel
from bertft.report.context import ReportContext
from bertft.report.intervals import Intervals, split_intervals
from bertft.report.sections import SECTIONS, Section
from bertft.runs.metrics_json import RunMetrics
from bertft.runs.run_folder import RunFolder
from bertft.tasks.report_items import ReportItem, TableItem
from bertft.training.evaluate import evaluation_outputs
from bertft.utils.atomic_io import atomic_write_text, remove_stale_temporaries
from bertft.utils.status import show_status

if TYPE_CHECKING:
    from bertft.report.page.render import RenderedItem

__all__ = ["padding_fraction", "render_sections", "write_report", "write_run_report"]

_MAX_PADDING_STEPS = 500  # steps for which padding is counted


def write_run_report(
    run_folder: RunFolder,
    config: TrainConfig,
    data: RunData,
    task_model: TaskModel,
    metrics: RunMetrics,
    outputs: Mapping[str, np.ndarray],
    warn: Callable[[str], object],
    intervals: Mapping[str, Intervals] | None = None,
) -> Path | None:
    """Write the report of a run whose model has the best weights.

    Args:
        run_folder: The run.
        config: Its configuration.
        data: Its data.
        task_model: Its model and task.
        metrics: The content of metrics.json.
        outputs: Split → outputs of the model. Those of other splits with metrics are computed.
        warn: Called with the text of each error; no error is raised.
        intervals: Split → confidence intervals of its metrics; None: they are computed.

    Returns:
        The path of report.html; None if it could not be written.
    """
    try:
        context = _build_context(run_folder, config, data, task_model, metrics, outputs, intervals)
    except Exception as error:
        warn(f"the report could not be prepared ({_error_text(error)}); the run itself is complete")
        return None
    return write_report(context, warn)


def _build_context(
    run_folder: RunFolder,
    config: TrainConfig,
    data: RunData,
    task_model: TaskModel,
    metrics: RunMetrics,
    outputs: Mapping[str, np.ndarray],
    intervals: Mapping[str, Intervals] | None,
) -> ReportContext:
    missing = [
        name
        for name in ("validation", "test")
        if metrics[name] is not None and name in data.features and name not in outputs
    ]
    if metrics["best"]["step"] is None and "validation" in missing:
        missing.remove("validation")  # no evaluation had a finite metric
    outputs = {
        **outputs,
        **{
            name: evaluation_outputs(
                task_model.runner, task_model.task, data.features[name], task_model.precision
            )
            for name in missing
        },
    }
    if intervals is None:
        intervals = split_intervals(task_model.task, outputs, data.features)
    micro_batch = config.trainer.micro_batch or config.trainer.batch_size
    layouts = {"unpadded", "padded", task_model.runner.layout}
    return ReportContext(
        run_folder,
        config,
        metrics,
        task_model.count_parameters(),
        task_model.task,
        task_model.components,
        task_model.model,
        data.training.validation,
        outputs.get("validation"),
        {
            layout: padding_fraction(_iter_pass_lengths(data.training.sampler, micro_batch), layout)
            for layout in layouts
        },
        intervals,
        bool(task_model.unfoldable_components),
    )


def _iter_pass_lengths(sampler: LengthGroupedSampler, micro_batch: int) -> Iterator[np.ndarray]:
    """Sequence lengths of the forward passes of the first steps."""
    for batch in islice(sampler.epoch_batches(0), _MAX_PADDING_STEPS):
        for rows in split_into_micro_batches(batch, micro_batch):
            yield sampler.lengths[rows]


def write_report(context: ReportContext, warn: Callable[[str], object]) -> Path | None:
    """The path of the page, or None if it could not be written. Errors are passed to ``warn``."""
    try:
        return _write_page(context, warn)
    except Exception as error:
        warn(f"report.html could not be written ({_error_text(error)}); the run itself is complete")
        return None


def _write_page(context: ReportContext, warn: Callable[[str], object]) -> Path:
    show_status("drawing report")
    from bertft.report.page.render import render_run_report  # Jinja takes long to import

    context.run.ensure_no_links()
    sections = render_sections(
        [(section, partial(build_items, context)) for section, build_items in SECTIONS],
        context.run.path,
        warn,
    )
    atomic_write_text(context.run.report_path, render_run_report(context, sections))
    return context.run.report_path


def render_sections(
    sections: Iterable[tuple[Section, Callable[[], Iterable[ReportItem]]]],
    folder: Path,
    warn: Callable[[str], object],
) -> list[tuple[Section, list[RenderedItem]]]:
    """Draw the items of each section, also into ``folder``/plots; empty sections are left out.

    ``warn`` is called with each error, which is also shown in place of the item.
    """
    # matplotlib takes long to import, and only the end of a command needs it.
    from bertft.report.page.render import FailedItem, Picture
    from bertft.report.plots.draw import draw_item

    plots, missing_characters = folder / "plots", set[str]()
    plots.mkdir(exist_ok=True)
    for path in (folder, plots):
        remove_stale_temporaries(path)  # from a report that was killed

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

    rendered: list[tuple[Section, list[RenderedItem]]] = []
    for section, build_items in sections:
        items: list[RenderedItem] = []
        try:
            for item in build_items():  # items before an error are kept
                items.append(render_item(item))  # noqa: PERF401
        except Exception as error:
            warn(f"the section {section.title} could not be rendered ({_error_text(error)})")
            items.append(FailedItem(section.title, _error_text(error)))
        if items:
            rendered.append((section, items))
    if missing_characters:
        characters = "".join(sorted(missing_characters)[:12])
        warn(
            f"no installed font has the characters {characters!r}: plots/*.png shows boxes for them"
            " (report.html uses the fonts of the browser)"
        )
    return rendered


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
