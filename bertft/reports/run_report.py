"""``report.html`` and ``plots/*.png`` of a finished run.

The page is one file that asks for nothing: pictures stand in it as SVG, and it forbids itself
every request. Whatever cannot be shown is named in its place and warned of, never raised.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from bertft.reports.material import Material
from bertft.reports.sections import SECTIONS
from bertft.runs.atomic import clean, write_text
from bertft.runs.exhibits import Exhibit, Table

__all__ = ["leave_report"]


def leave_report(material: Material, warn: Callable[[str], object]) -> Path | None:
    """The page's path; None if there is none. ``warn`` is told of all that went wrong."""
    try:
        return _leave(material, warn)
    except Exception as error:
        warn(f"report.html could not be written ({_what(error)}); the run is whole without it")
        return None


def _leave(material: Material, warn: Callable[[str], object]) -> Path:
    # Both take their time to import, and none but the end of a run needs them.
    from bertft.reports.drawing.draw import Drawn, draw
    from bertft.reports.page.render import Failed, Picture, Shown, render

    plots, unknown = material.run.plots, set[str]()
    material.run.refuse_links()
    plots.mkdir(exist_ok=True)
    for folder in (material.run.path, plots):
        clean(folder)  # what a report that was killed left half written

    def show(exhibit: Exhibit) -> Shown:
        if isinstance(exhibit, Table):
            return exhibit
        try:
            drawn: Drawn = draw(exhibit, plots)
        except Exception as error:
            warn(f"the picture {exhibit.name} could not be drawn ({_what(error)})")
            return Failed(exhibit.title, _what(error))
        unknown.update(drawn.unknown)
        return Picture(exhibit, drawn.svg)

    sections = []
    for section in SECTIONS:
        shown: list[Shown] = []
        try:
            for exhibit in section.exhibits(material):  # what came before a failure stays
                shown.append(show(exhibit))  # noqa: PERF401
        except Exception as error:
            warn(f"the report's part on {section.name} could not be made ({_what(error)})")
            shown.append(Failed(section.title, _what(error)))
        if shown:
            sections.append((section, shown))
    if unknown:
        some = "".join(sorted(unknown)[:12])
        warn(
            f"no installed font has {some!r}: they are boxes in plots/*.png, but not in report.html"
        )
    write_text(material.run.report, render(material, sections))
    return material.run.report


def _what(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
