"""HTML pages from templates: the report of a run, and any other page in the same style.

The templates escape every text. A page is one file that requests nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from omegaconf import DictConfig, OmegaConf

from bertft.config.command_configs import TrainConfig
from bertft.config.compose import build_default_settings
from bertft.config.schema import iter_leaves, settings_tree
from bertft.report.context import ReportContext
from bertft.report.sections import Section
from bertft.tasks.report_items import (
    ByteCount,
    Percent,
    ReportItem,
    TableCell,
    TableItem,
    replace_unprintable,
)
from bertft.utils.numbers import format_bytes, format_count, format_duration, format_score

__all__ = [
    "FailedItem",
    "Picture",
    "RenderedItem",
    "ReportedSetting",
    "list_settings",
    "page_style",
    "render_page",
    "render_run_report",
]


_HIDDEN = ("resume", "check", "quiet", "report")  # how a run was watched, not what it is


@dataclass(frozen=True)
class ReportedSetting:
    """``value`` and ``default`` as YAML would say them; ``differs`` where they are not equal."""

    path: str
    value: str
    default: str

    @property
    def differs(self) -> bool:
        return self.value != self.default


def list_settings(config: TrainConfig) -> list[ReportedSetting]:
    """Every setting that ``config`` or the default has, in the order of the schema."""
    run_config, default_config = OmegaConf.structured(config), _default_config()
    reported = []
    for leaf in iter_leaves(settings_tree("train")):
        if leaf.path in _HIDDEN:
            continue
        values = [
            OmegaConf.select(each, leaf.path, default=_ABSENT)
            for each in (run_config, default_config)
        ]
        if any(each is not _ABSENT for each in values):
            reported.append(ReportedSetting(leaf.path, *map(_setting_text, values)))
    return reported


@cache
def _default_config() -> DictConfig:
    """Only read: composing it anew would cost each job of a sweep most of a second."""
    return OmegaConf.structured(build_default_settings("train"))


_ABSENT = object()


def _setting_text(value: Any) -> str:
    if value is _ABSENT:
        return "–"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return str(OmegaConf.to_container(value)) if OmegaConf.is_config(value) else str(value)


@cache
def page_style() -> str:
    """CSS; its colours are variables, which pictures use too."""
    return (Path(__file__).parent / "style.css").read_text(encoding="utf-8")


_HERE = Path(__file__).parent
_TEXT_COLUMN_LENGTH = 28  # characters from which on a column is one of texts


@dataclass(frozen=True)
class Picture:
    """An exhibit and its drawing, which is trusted: all text in it is escaped."""

    exhibit: ReportItem
    svg: str
    kind = "picture"


@dataclass(frozen=True)
class FailedItem:
    """What could not be shown, and why."""

    title: str
    why: str
    kind = "failed"


RenderedItem = TableItem | Picture | FailedItem


def render_run_report(
    context: ReportContext, sections: Sequence[tuple[Section, Sequence[RenderedItem]]]
) -> str:
    """The report of a run."""
    settings = list_settings(context.config)
    return render_page(
        "report.html.j2",
        title=_title(context),
        folder=context.run.path.name,
        begun=datetime.fromisoformat(context.manifest["begun"]).strftime("%d %B %Y, %H:%M UTC"),
        about=_about(context),
        hero=_hero(context),
        facts=_facts(context),
        sections=sections,
        settings=settings,
        changed=[each for each in settings if each.differs],
    )


def render_page(template: str, **values: Any) -> str:
    """The page of ``template``. Raises if a value that the template uses is missing."""
    pages = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_make_printable,
    )
    pages.filters |= {"cell": _format_cell, "columns": _column_kinds, "svg": Markup}
    return pages.get_template(template).render(style=Markup(page_style()), **values)


def _make_printable(value: Any) -> Any:
    """Whatever a text holds, the page is one that a browser reads."""
    return replace_unprintable(value) if type(value) is str else value


def _title(context: ReportContext) -> tuple[str, str]:
    return context.config.method.name, context.config.data.name


def _about(context: ReportContext) -> str:
    manifest = context.manifest
    labels = manifest["labels"]
    words = [
        manifest["task"].replace("_", " "),
        f"{len(labels)} classes" if labels else "",
        f"{manifest['base']['name']}, {format_count(manifest['parameters']['base'])} parameters",
    ]
    return " · ".join(word for word in words if word)


def _hero(context: ReportContext) -> dict[str, Any]:
    """The number that counts, or the loss where nothing was validated."""
    best, train = context.metrics["best"], context.metrics["train"]
    if best["value"] is None:
        return {
            "value": format_score(train["loss"]),
            "name": "mean training loss",
            "test": None,
            "when": f"{format_count(train['steps'])} steps, not validated",
        }
    test = context.metrics["test"]
    end = " (out of patience)" if context.history.stop_reason == "patience" else ""
    return {
        "value": format_score(best["value"]),
        "name": f"{best['metric']} on validation",
        "test": format_score(test[best["metric"]]) if test else None,
        "when": f"step {format_count(best['step'])} of {format_count(train['steps'])}{end}",
    }


def _facts(context: ReportContext) -> list[tuple[str, str, str]]:
    """(name, value, aside) of what one asks next."""
    parameters, train, manifest = (
        context.metrics["parameters"],
        context.metrics["train"],
        context.manifest,
    )
    full = manifest["parameters"]["base"] + parameters["head"]
    layout, padding = manifest["layout"], context.padding_fractions
    padded_note = f", else {padding['padded']:.1%}"
    kept_parameters = parameters["kept"] + parameters["head"]
    pruned = (
        f", {format_count(kept_parameters)} kept"
        if kept_parameters != parameters["trainable"]
        else ""
    )
    return [
        (
            "Trained parameters",
            format_count(parameters["trainable"]),
            f"{parameters['trainable'] / full:.2%} of full fine-tuning{pruned}",
        ),
        (
            "Time in steps",
            format_duration(train["seconds"]),
            f"{format_count(train['steps'])} steps",
        ),
        (
            "Throughput",
            f"{format_count(train['tokens_per_second'])} tokens/s",
            f"{format_count(train['rows_per_second'])} rows/s",
        ),
        ("Peak memory", format_bytes(train["peak_memory_bytes"]), manifest["precision"]),
        (
            "Padding",
            f"{padding[layout]:.1%}",
            f"layout {layout}{padded_note if layout != 'padded' else ''}",
        ),
    ]


def _format_cell(value: TableCell) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, str):
        return value
    if isinstance(value, Percent):
        # Never 0.0 % or 100.0 % of what is not.
        return f"{float(value):.2%}" if 0 < value < 0.01 else f"{float(value):.1%}"
    if isinstance(value, ByteCount):
        return format_bytes(value)
    return format_count(value) if isinstance(value, int) else format_score(value)


def _column_kinds(table: TableItem) -> list[str]:
    """Of each column: number, text (long), or word."""
    if table.kinds:
        return list(table.kinds)
    kinds = []
    for index in range(len(table.head)):
        cells = [row[index] for row in table.rows if row[index] is not None]
        texts = [each for each in cells if isinstance(each, str)]
        if not texts:
            kinds.append("number")
        else:
            kinds.append("text" if max(map(len, texts)) > _TEXT_COLUMN_LENGTH else "word")
    return kinds
