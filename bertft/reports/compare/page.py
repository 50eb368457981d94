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

__all__ = ["page"]

_STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1c2024; --faint: #667078;
  --line: #d9dee2; --row: #f4f6f8; --mark: #0b6bcb; --best: #0b7a3e; }
@media (prefers-color-scheme: dark) { :root { --paper: #14171a; --ink: #e6e9ec; --faint: #98a2ab;
  --line: #343b41; --row: #1d2226; --mark: #6cb2ff; --best: #5fd08d; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1.25rem 4rem; max-width: 78rem; background: var(--paper);
  color: var(--ink); font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans",
  "PingFang SC", "Microsoft YaHei", "Noto Sans CJK SC", sans-serif; }
h1 { font-size: 1.5rem; margin: 0; } h2 { font-size: 1.1rem; margin: 2.2rem 0 .6rem; }
p.lead { font-size: 1.1rem; margin: .4rem 0 0; } .faint { color: var(--faint); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .8rem; border-bottom: 1px solid var(--line); text-align: right;
  white-space: nowrap; }
th { font-weight: 600; color: var(--faint); vertical-align: bottom; }
th:first-child, td:first-child { text-align: left; color: var(--ink); }
tr.best td { font-weight: 600; } tr.best td:first-child { color: var(--best); }
tbody tr:hover { background: var(--row); }
table.settings td, table.settings th { text-align: left; }
td.other { color: var(--mark); }
ul { padding-left: 1.2rem; } code { font: .92em ui-monospace, Menlo, Consolas, monospace; }
svg { width: 100%; max-width: 57rem; height: auto; display: block; }
svg text { font: 12px system-ui, "Noto Sans", "PingFang SC", "Microsoft YaHei",
  "Noto Sans CJK SC", sans-serif; fill: var(--ink); }
svg .name { paint-order: stroke; stroke: var(--paper); stroke-width: 3px; }
svg .tick, svg .title { fill: var(--faint); } svg .grid { stroke: var(--line); }
svg .bar { stroke: var(--faint); stroke-width: 1.5; }
svg .front { fill: none; stroke: var(--best); stroke-width: 1.5; stroke-dasharray: 5 4; }
svg .dot { fill: var(--mark); } svg .dot.best { fill: var(--best); }
"""


def page(comparison: Comparison) -> str:
    """The whole document."""
    body = [
        f"<h1>{len(comparison.lines)} lines of {_runs(comparison)} runs</h1>",
        *(f'<p class="lead">{escape(text)}</p>' for text in _leaders(comparison)),
        "<h2>Runs</h2>",
        _runs_table(comparison),
        f"<ul>{''.join(f'<li>{escape(text)}</li>' for text in sentences(comparison))}</ul>",
        *_pictures(comparison),
        *_settings(comparison),
        *_folders(comparison),
        f'<p class="faint">bertft {bertft.__version__}, {datetime.now():%Y-%m-%d %H:%M}</p>',
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta http-equiv="Content-Security-Policy"'
        " content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>bertft compare: {escape(comparison.metric)}</title>\n"
        f"<style>{_STYLE}</style>\n</head>\n<body>\n" + "\n".join(body) + "\n</body>\n</html>\n"
    )


def _runs(comparison: Comparison) -> int:
    return sum(each.line.runs for each in comparison.lines)


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
    titles = "".join(f"<th>{escape(each)}</th>" for each in head)
    lines = [
        f'<tr class="{kind}">{"".join(f"<td>{escape(cell)}</td>" for cell in row)}</tr>'
        for row, kind in zip(rows, kinds, strict=True)
    ]
    return (
        f'<div class="wide"><table><thead><tr>{titles}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def _runs_table(comparison: Comparison) -> str:
    head, rows = cells(comparison)
    return _table(head, rows, ["best" if each.line.best else "" for each in comparison.lines])


def _pictures(comparison: Comparison) -> list[str]:
    """A picture for each set of validation rows: values on different ones say nothing together."""
    parts = [f"<h2>{escape(comparison.metric)} against parameters</h2>"]
    sets = dict.fromkeys(each.rows for each in comparison.lines)
    for number, rows in enumerate(sets, start=1):
        points = [
            Point(each.name, each.kept, each.line.mean, each.line.std)
            for each in comparison.lines
            if each.rows == rows and each.line.mean is not None
        ]
        if len(sets) > 1:
            parts.append(f'<p class="faint">validation rows {number} of {len(sets)}</p>')
        parts.append(scatter(points, comparison.metric, comparison.lower))
    way = "lower" if comparison.lower else "higher"
    return [
        *parts,
        f'<p class="faint">Dashed: the Pareto front, {way} is better; bars: the std over the'
        " seeds.</p>",
    ]


def _settings(comparison: Comparison) -> list[str]:
    head, rows = settings(comparison)
    if not rows:
        return []
    titles = "".join(f"<th>{escape(each)}</th>" for each in head)
    lines = []
    for name, first, *rest in rows:
        others = [f'<td class="{"other" if c != first else ""}">{escape(c)}</td>' for c in rest]
        lines.append(
            f"<tr><td><code>{escape(name)}</code></td><td>{escape(first)}</td>{''.join(others)}</tr>"
        )
    return [
        "<h2>What differs</h2>",
        f'<div class="wide"><table class="settings"><thead><tr>{titles}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>",
    ]


def _folders(comparison: Comparison) -> list[str]:
    rows = []
    for each in comparison.lines:
        for job in each.line.jobs:
            assert job.metrics is not None
            best = job.metrics["best"]
            seed = job.settings.get("seed", "")
            rows.append(
                [each.name, seed, f"{best['value']:.4f}", f"{best['step']:,}", str(job.folder)]
            )
    table = _table(["", "seed", comparison.metric, "step", "folder"], rows, [""] * len(rows))
    return ["<h2>Each run</h2>", table]
