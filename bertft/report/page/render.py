"""Renders HTML pages from templates: the report of a run, and other pages in the same style.

The templates escape every text. A page is one file that makes no request.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from omegaconf import DictConfig, OmegaConf

from bertft.config.command_configs import TrainConfig
from bertft.config.compose import build_default_config
from bertft.config.dataset_title import dataset_title
from bertft.config.schema import iter_leaves, settings_tree
from bertft.errors import BertftError
from bertft.export.result_tables import format_cell, format_interval
from bertft.report.context import ReportContext
from bertft.report.next_commands import new_rows_file, next_commands
from bertft.report.sections import Section
from bertft.runs.run_folder import RunFolder
from bertft.tasks.report_items import ReportItem, TableItem, replace_unprintable
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

_FOLDER = Path(__file__).parent
_TEXT_COLUMN_LENGTH = 28  # a column with a longer cell wraps its text
_ABSENT = object()


@dataclass(frozen=True)
class Picture:
    """A report item and its drawing. The SVG is trusted: all text in it is escaped."""

    item: ReportItem
    svg: str
    kind = "picture"


@dataclass(frozen=True)
class FailedItem:
    """An item that could not be rendered."""

    title: str
    reason: str
    kind = "failed"


RenderedItem = TableItem | Picture | FailedItem


def render_run_report(
    context: ReportContext, sections: Sequence[tuple[Section, Sequence[RenderedItem]]]
) -> str:
    """The HTML of a run's report."""
    settings = list_settings(context.config)
    return render_page(
        "report.html.j2",
        method=context.config.method.name,
        dataset=dataset_title(context.config.data),
        folder=context.run.path.name,
        date=datetime.fromisoformat(context.manifest["begun"]).strftime("%d %B %Y, %H:%M UTC"),
        description=_description(context),
        headline=_headline(context),
        facts=_facts(context),
        findings=context.findings,
        commands=_commands(context),
        sections=sections,
        settings=settings,
        changed=[setting for setting in settings if setting.differs],
    )


def render_page(template: str, **values: Any) -> str:
    """The HTML of ``template``. Raises if a value that the template uses is missing."""
    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_replace_unprintable_text,
    )
    environment.filters |= {"cell": format_cell, "columns": _column_kinds, "svg": Markup}
    return environment.get_template(template).render(style=Markup(page_style()), **values)


@cache
def page_style() -> str:
    """The style sheet. Its colours are variables that pictures use too."""
    return (_FOLDER / "style.css").read_text(encoding="utf-8")


def _replace_unprintable_text(value: object) -> object:
    """Browsers cannot read control characters. Markup, a subclass of str, is left as it is."""
    return replace_unprintable(value) if type(value) is str else value


def _column_kinds(table: TableItem) -> list[str]:
    """The CSS class of each column: "number", "word", or "text" if a cell is long."""
    if table.kinds:
        return list(table.kinds)
    kinds = []
    for index in range(len(table.head)):
        texts = [row[index] for row in table.rows if isinstance(row[index], str)]
        longest = max((len(str(text)) for text in texts), default=0)
        is_text = longest > _TEXT_COLUMN_LENGTH
        kinds.append(("text" if is_text else "word") if texts else "number")
    return kinds


def _description(context: ReportContext) -> str:
    manifest = context.manifest
    labels, base = manifest["labels"], manifest["base"]["name"]
    facts = [
        manifest["task"].replace("_", " "),
        f"{len(labels)} classes" if labels else "",
        f"{base}, {format_count(manifest['parameters']['base'])} parameters",
    ]
    return " · ".join(filter(None, facts))


def _headline(context: ReportContext) -> dict[str, str | None]:
    """The selection metric, or the training loss of a run without validation."""
    best, train = context.metrics["best"], context.metrics["train"]
    steps = format_count(train["steps"])
    if best["value"] is None:
        return {
            "value": format_score(train["loss"]),
            "name": "mean training loss",
            "interval": None,
            "test": None,
            "test_interval": None,
            "step": f"{steps} steps, no validation",
        }
    test = context.metrics["test"]
    suffix = ", stopped early" if context.history.stop_reason == "patience" else ""
    return {
        "value": format_score(best["value"]),
        "name": f"{best['metric']} on validation",
        "interval": _interval_text(context, "validation", best["metric"]),
        "test": format_score(test[best["metric"]]) if test else None,
        "test_interval": _interval_text(context, "test", best["metric"]),
        "step": f"best step {format_count(best['step'])} of {steps}{suffix}",
    }


def _interval_text(context: ReportContext, split: str, metric: str) -> str | None:
    ends = context.intervals.get(split, {}).get(metric)
    return None if ends is None else f"95% interval {format_interval(ends)}"


def _commands(context: ReportContext) -> dict[str, str]:
    """Purpose → command to run next; it names existing rows and an existing run if possible."""
    folder, splits = context.run.path, context.manifest["data"]["splits"]
    files = [
        file for name in ("test", "validation") for file in splits.get(name, {}).get("files", ())
    ]
    rows = (
        files[0]
        if context.config.data.source == "files" and files
        else new_rows_file(context.config.data)
    )
    return next_commands(
        folder,
        prefix=context.has_prefix,
        merged=f"{folder}-merged",
        rows=rows,
        other=_other_run(context) or "OTHER_RUN",
    )


def _other_run(context: ReportContext) -> Path | None:
    """The newest other finished run in the same folder with the same validation rows."""
    folder, candidates = context.run.path, []
    fingerprint = _validation_fingerprint(context.manifest)
    if fingerprint is None:
        return None
    for path in folder.parent.glob("*/metrics.json"):
        try:
            manifest = RunFolder(path.parent).read_manifest()
            if path.parent != folder and _validation_fingerprint(manifest) == fingerprint:
                candidates.append((path.stat().st_mtime, path.parent))
        except (OSError, BertftError, AttributeError):  # not a run
            continue
    return max(candidates)[1] if candidates else None


def _validation_fingerprint(manifest: Mapping[str, Any]) -> Any:
    return manifest.get("data", {}).get("splits", {}).get("validation", {}).get("fingerprint")


def _facts(context: ReportContext) -> list[tuple[str, str, list[str]]]:
    """(name, value, phrases of the detail) of the most important costs."""
    parameters, train = context.metrics["parameters"], context.metrics["train"]
    manifest, padding = context.manifest, context.padding_fractions
    full = manifest["parameters"]["base"] + parameters["head"]
    after_pruning = parameters["kept"] + parameters["head"]
    fraction = [f"{parameters['trainable'] / full:.2%} of full fine-tuning"]
    if after_pruning != parameters["trainable"]:
        fraction = [f"{fraction[0]},", f"{format_count(after_pruning)} after pruning"]
    layout = manifest["layout"]
    layout_detail = [f"layout {layout}"]
    if layout != "padded":
        layout_detail = [f"layout {layout},", f"{padding['padded']:.1%} if padded"]
    return [
        ("Trainable parameters", format_count(parameters["trainable"]), fraction),
        (
            "Training time",
            format_duration(train["seconds"]),
            [f"{format_count(train['steps'])} steps"],
        ),
        (
            "Throughput",
            f"{format_count(train['tokens_per_second'])} tokens/s",
            [f"{format_count(train['rows_per_second'])} rows/s"],
        ),
        ("Peak memory", format_bytes(train["peak_memory_bytes"]), [manifest["precision"]]),
        ("Padding", f"{padding[layout]:.1%}", layout_detail),
    ]


@dataclass(frozen=True)
class ReportedSetting:
    """``value`` and ``default`` as in YAML."""

    path: str
    value: str
    default: str

    @property
    def differs(self) -> bool:
        return self.value != self.default


def list_settings(config: TrainConfig) -> list[ReportedSetting]:
    """Every setting of ``config`` or of the defaults that affects results, in schema order."""
    configs = OmegaConf.structured(config), _default_config()
    settings = []
    for leaf in iter_leaves(settings_tree("train")):
        if not leaf.affects_result:
            continue
        values = [OmegaConf.select(source, leaf.path, default=_ABSENT) for source in configs]
        if any(value is not _ABSENT for value in values):
            settings.append(ReportedSetting(leaf.path, *map(_setting_text, values)))
    return settings


@cache
def _default_config() -> DictConfig:
    """The defaults of train, composed once, which takes most of a second. Do not modify them."""
    return OmegaConf.structured(build_default_config())


def _setting_text(value: object) -> str:
    if value is _ABSENT:
        return "–"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return str(OmegaConf.to_container(value)) if OmegaConf.is_config(value) else str(value)
