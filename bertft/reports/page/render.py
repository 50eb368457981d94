"""HTML pages from templates: the report of a run, and any other page in the same style.

The templates escape every text. A page is one file that requests nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from bertft.formats.figures import count, duration, score, size
from bertft.reports.material import Material
from bertft.reports.page.style import style
from bertft.reports.sections import Section
from bertft.reports.settings import settings_of_run
from bertft.runs.exhibits import Cell, Exhibit, Share, Size, Table, printable

__all__ = ["Failed", "Picture", "Shown", "render", "render_page"]

_HERE = Path(__file__).parent
_LONG = 28  # characters from which on a column is one of texts


@dataclass(frozen=True)
class Picture:
    """An exhibit and its drawing, which is trusted: all text in it is escaped."""

    exhibit: Exhibit
    svg: str
    kind = "picture"


@dataclass(frozen=True)
class Failed:
    """What could not be shown, and why."""

    title: str
    why: str
    kind = "failed"


Shown = Table | Picture | Failed


def render(material: Material, sections: Sequence[tuple[Section, Sequence[Shown]]]) -> str:
    """The report of a run."""
    settings = settings_of_run(material.config)
    return render_page(
        "report.html.j2",
        title=_title(material),
        folder=material.run.path.name,
        begun=datetime.fromisoformat(material.manifest["begun"]).strftime("%d %B %Y, %H:%M UTC"),
        about=_about(material),
        hero=_hero(material),
        facts=_facts(material),
        sections=sections,
        settings=settings,
        changed=[each for each in settings if each.differs],
    )


def render_page(template: str, **values: Any) -> str:
    """The page of ``template``. Raises if a value that the template uses is missing."""
    pages = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, finalize=_finally,
    )  # fmt: skip
    pages.filters |= {"cell": _cell, "columns": _columns, "svg": Markup}
    return pages.get_template(template).render(style=Markup(style()), **values)


def _finally(value: Any) -> Any:
    """Whatever a text holds, the page is one that a browser reads."""
    return printable(value) if type(value) is str else value


def _title(material: Material) -> tuple[str, str]:
    return material.config.method.name, material.config.data.name


def _about(material: Material) -> str:
    manifest = material.manifest
    labels = manifest["labels"]
    words = [
        manifest["task"].replace("_", " "),
        f"{len(labels)} classes" if labels else "",
        f"{manifest['base']['name']}, {count(manifest['parameters']['base'])} parameters",
    ]
    return " · ".join(word for word in words if word)


def _hero(material: Material) -> dict[str, Any]:
    """The number that counts, or the loss where nothing was validated."""
    best, train = material.metrics["best"], material.metrics["train"]
    if best["value"] is None:
        return {
            "value": score(train["loss"]), "name": "mean training loss", "test": None,
            "when": f"{count(train['steps'])} steps, not validated",
        }  # fmt: skip
    test = material.metrics["test"]
    end = " (out of patience)" if material.history.reason == "patience" else ""
    return {
        "value": score(best["value"]),
        "name": f"{best['metric']} on validation",
        "test": score(test[best["metric"]]) if test else None,
        "when": f"step {count(best['step'])} of {count(train['steps'])}{end}",
    }


def _facts(material: Material) -> list[tuple[str, str, str]]:
    """(name, value, aside) of what one asks next."""
    own, train, manifest = (
        material.metrics["parameters"], material.metrics["train"], material.manifest,
    )  # fmt: skip
    full = manifest["parameters"]["base"] + own["head"]
    layout, padding = manifest["layout"], material.padding
    else_padded = f", else {padding['padded']:.1%}"
    kept = own["kept"] + own["head"]
    pruned = f", {count(kept)} kept" if kept != own["trainable"] else ""
    return [
        (
            "Trained parameters", count(own["trainable"]),
            f"{own['trainable'] / full:.2%} of full fine-tuning{pruned}",
        ),
        ("Time in steps", duration(train["seconds"]), f"{count(train['steps'])} steps"),
        (
            "Throughput", f"{count(train['tokens_per_second'])} tokens/s",
            f"{count(train['rows_per_second'])} rows/s",
        ),
        ("Peak memory", size(train["peak_memory_bytes"]), manifest["precision"]),
        (
            "Padding", f"{padding[layout]:.1%}",
            f"layout {layout}{else_padded if layout != 'padded' else ''}",
        ),
    ]  # fmt: skip


def _cell(value: Cell) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, str):
        return value
    if isinstance(value, Share):
        # Never 0.0 % or 100.0 % of what is not.
        return f"{float(value):.2%}" if 0 < value < 0.01 else f"{float(value):.1%}"
    if isinstance(value, Size):
        return size(value)
    return count(value) if isinstance(value, int) else score(value)


def _columns(table: Table) -> list[str]:
    """Of each column: number, text (long), or word."""
    if table.kinds:
        return list(table.kinds)
    kinds = []
    for place in range(len(table.head)):
        cells = [row[place] for row in table.rows if row[place] is not None]
        texts = [each for each in cells if isinstance(each, str)]
        if not texts:
            kinds.append("number")
        else:
            kinds.append("text" if max(map(len, texts)) > _LONG else "word")
    return kinds
