"""A comparison as one HTML page: nothing is fetched, light and dark as the reader's system is.

The policy in its head forbids every request, so that it also holds where the page is changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from html import escape

import bertft
from bertft.reports.compare.comparison import Comparison
from bertft.reports.compare.scatter import Point, scatter
from bertft.reports.compare.table import cells, sentences, settings
from bertft.reports.page.style import style

__all__ = ["page"]

# The scatter's own, in the colours of every page.
_STYLE = """
.pictures svg { width: 760px; }
svg text { font-size: 12px; fill: var(--ink); }
svg .name { paint-order: stroke; stroke: var(--page); stroke-width: 3px; }
svg .tick, svg .title { fill: var(--muted); } svg .grid { stroke: var(--rule); }
svg .bar { stroke: var(--muted); stroke-width: 1.5; }
svg .front { fill: none; stroke: var(--accent); stroke-width: 1.5; stroke-dasharray: 5 4; }
svg .dot { fill: var(--second); } svg .dot.best { fill: var(--accent); }
td, th { white-space: nowrap; }
.scroll + figcaption { margin-top: 14px; } figcaption + figcaption { margin-top: -8px; }
"""


def page(comparison: Comparison) -> str:
    """The whole document."""
    sections = [
        _section("Runs", [_figure(_runs_table(comparison), below=sentences(comparison))]),
        _section("Trade-off", _pictures(comparison)),
        *_settings(comparison),
        _section("Each run", [_figure(_folders(comparison))]),
    ]
    head, *more = _leaders(comparison) or ["Nothing was validated"]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta http-equiv="Content-Security-Policy"'
        " content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>bertft compare: {escape(comparison.metric)}</title>\n"
        f"<style>{style()}{_STYLE}</style>\n</head>\n<body>\n<main>\n<header>\n"
        f'<p class="over"><span>bertft compare</span> {escape(_extent(comparison))}'
        f'<span class="date">{datetime.now():%d %B %Y, %H:%M}</span></p>\n'
        f"<h1>{escape(head)}</h1>\n"
        + "".join(f'<p class="about">{escape(text)}</p>\n' for text in more)
        + "</header>\n"
        + "\n".join(sections)
        + "\n</main>\n</body>\n</html>\n"
    )


def _extent(comparison: Comparison) -> str:
    lines, runs = len(comparison.lines), sum(each.line.runs for each in comparison.lines)
    return (
        f"{lines} {'line' if lines == 1 else 'lines'} of {runs} runs, version {bertft.__version__}"
    )


def _section(title: str, figures: Sequence[str]) -> str:
    return (
        f'<section>\n<h2>{escape(title)}</h2>\n<div class="exhibits">\n'
        + "\n".join(figures)
        + "\n</div>\n</section>"
    )


def _figure(content: str, above: Sequence[str] = (), below: Sequence[str] = ()) -> str:
    over, under = (
        "".join(f"<figcaption>{escape(text)}</figcaption>" for text in texts)
        for texts in (above, below)
    )
    return f'<figure class="wide">{over}{content}{under}</figure>'


def _leaders(comparison: Comparison) -> list[str]:
    """The result first: the best of each set of rows, and what is as good with fewer parameters."""
    said = []
    for best in (each for each in comparison.lines if each.line.best):
        text = f"{best.name} is the best: {comparison.metric} {best.line.mean:.4f}"
        if best.line.std is not None:
            text += f" ± {best.line.std:.4f}"
        alike = [
            each.name
            for each in comparison.lines
            if each.against == best.name and each.difference is not None
            and each.kept < best.kept and each.difference.low <= 0 <= each.difference.high
        ]  # fmt: skip
        if alike:
            text += f"; with fewer parameters, and no difference that is told apart: {alike[0]}"
        said.append(f"{text}.")
    return said


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], kinds: Sequence[str]) -> str:
    """``kinds``: the class of each row, or none."""
    lines = []
    for (name, *figures), kind in zip(rows, kinds, strict=True):
        told = "".join(f'<td class="number">{escape(cell)}</td>' for cell in figures)
        lines.append(f'<tr class="{kind}"><td>{escape(name)}</td>{told}</tr>')
    return _scrolled(head, lines, "number")


def _scrolled(head: Sequence[str], lines: Sequence[str], kind: str) -> str:
    first, *rest = head
    titles = f'<th scope="col">{escape(first)}</th>' + "".join(
        f'<th scope="col" class="{kind}">{escape(each)}</th>' for each in rest
    )
    return (
        f'<div class="scroll"><table class="grid"><thead><tr>{titles}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def _runs_table(comparison: Comparison) -> str:
    head, rows = cells(comparison)
    return _table(head, rows, ["strong" if each.line.best else "" for each in comparison.lines])


def _pictures(comparison: Comparison) -> list[str]:
    """A picture for each set of validation rows: values on different ones say nothing together."""
    parts = []
    sets = dict.fromkeys(each.rows for each in comparison.lines)
    way = "lower" if comparison.lower else "higher"
    for number, rows in enumerate(sets, start=1):
        points = [
            Point(each.name, each.kept, each.line.mean, each.line.std)
            for each in comparison.lines
            if each.rows == rows and each.line.mean is not None
        ]
        of = f" Validation rows {number} of {len(sets)}." if len(sets) > 1 else ""
        said = (
            f"{comparison.metric} against the parameters that a method keeps. Dashed: the Pareto"
            f" front, {way} is better; bars: the std over the seeds.{of}"
        )
        parts.append(
            f'<figure class="wide pictures"><figcaption>{escape(said)}</figcaption>'
            f"{scatter(points, comparison.metric, comparison.lower)}</figure>"
        )
    return parts


def _settings(comparison: Comparison) -> list[str]:
    head, rows = settings(comparison)
    if not rows:
        return []
    lines = []
    for name, first, *rest in rows:
        others = "".join(
            f'<td class="{"set" if value != first else ""}">{escape(value)}</td>' for value in rest
        )
        own = f'<td class="name">{escape(name)}</td><td>{escape(first)}</td>'
        lines.append(f"<tr>{own}{others}</tr>")
    told = "Settings in which the lines differ; what is not as in the first line is marked."
    return [_section("What differs", [_figure(_scrolled(head, lines, "word"), above=[told])])]


def _folders(comparison: Comparison) -> str:
    rows = []
    for each in comparison.lines:
        for job in each.line.jobs:
            assert job.metrics is not None
            best = job.metrics["best"]
            seed = job.settings.get("seed", "")
            rows.append(
                [each.name, seed, f"{best['value']:.4f}", f"{best['step']:,}", str(job.folder)]
            )
    return _table(["", "seed", comparison.metric, "step", "folder"], rows, [""] * len(rows))
