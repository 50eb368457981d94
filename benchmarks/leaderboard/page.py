"""docs/leaderboard.md and its plot, from the recorded runs.

A table per task and budget. The last column compares each method with ``lora`` on all linear layers
at the same budget: the mean of the differences per seed, with a 95 % interval of Student's t. The
same seed has the same rows in the same order, so differences vary less than the values.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.leaderboard.entries import BUDGETS, METHODS, RATE_FACTORS, TASKS
from benchmarks.leaderboard.stability import stability_section
from benchmarks.picture import THEMES, save
from bertft.utils.numbers import format_compact

__all__ = ["difference", "write_page"]

_REFERENCE = "lora, all linear"
_INTRODUCTION = Path(__file__).parent / "introduction.md"

Record = dict[str, Any]


def difference(values: dict[int, float], reference: dict[int, float]) -> tuple[float, float] | None:
    """Mean difference over the common seeds and half the width of its 95 % interval.

    None with fewer than two common seeds, where the difference has no interval.
    """
    from scipy import stats

    seeds = sorted(values.keys() & reference.keys())
    if len(seeds) < 2:
        return None
    differences = [values[seed] - reference[seed] for seed in seeds]
    error = statistics.stdev(differences) / len(differences) ** 0.5
    return statistics.fmean(differences), float(stats.t.ppf(0.975, len(seeds) - 1)) * error


def write_page(records: Sequence[Record], docs: Path, stability: Sequence[Record] = ()) -> None:
    """Write ``docs/leaderboard.md``, the introduction and the tables, and draw the plots."""
    final = _final_records(records)
    sections = [_section(task, budget, final) for task in TASKS for budget in BUDGETS]
    sections += [_machine(final), stability_section(stability)]
    text = "\n\n".join(section for section in sections if section)
    page = f"{_INTRODUCTION.read_text(encoding='utf-8').rstrip()}\n\n{text}\n"
    (docs / "leaderboard.md").write_text(page, encoding="utf-8")
    for theme in THEMES:
        _draw(final, theme, docs / "images" / f"leaderboard-{theme}.svg")


def _final_records(records: Sequence[Record]) -> list[Record]:
    """The runs of the table, with the rate that the trials of their cell select."""
    trials: dict[tuple[str, ...], tuple[float, float]] = {}
    for record in records:
        if record["tuning"]:
            # The lowest of equally good rates, as ``pending_runs`` selects it.
            trial = (record["value"], -record["rate_factor"])
            trials[_cell(record)] = max(trials.get(_cell(record), trial), trial)
    return [
        record
        for record in records
        if not record["tuning"]
        and trials.get(_cell(record), (0.0, -record["rate_factor"]))[1] == -record["rate_factor"]
    ]


def _cell(record: Record) -> tuple[str, ...]:
    return record["task"], record["method"], record["budget"]


def _by_method(task: str, budget: str, records: Sequence[Record]) -> dict[str, list[Record]]:
    rows: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        if record["task"] == task and record["budget"] in (budget, "any"):
            rows[record["method"]].append(record)
    return rows


def _values(records: Sequence[Record]) -> dict[int, float]:
    return {record["seed"]: record["value"] for record in records}


def _mean(values: dict[int, float]) -> float:
    return statistics.fmean(values.values())


def _section(task: str, budget: str, records: Sequence[Record]) -> str:
    rows = _by_method(task, budget, records)
    if not rows:
        return ""
    reference = _values(rows.get(_REFERENCE, []))
    lines = [
        f"### {task}, {TASKS[task].metric}, budget {budget} ({BUDGETS[budget]:,} parameters)",
        "",
        f"| method | parameters kept | rate | {TASKS[task].metric} | seeds | CPU time |"
        f" minus `{_REFERENCE}` |",
        "|---|---|---|---|---|---|---|",
    ]
    for method in sorted(rows, key=lambda name: -_mean(_values(rows[name]))):
        runs, values = rows[method], _values(rows[method])
        spread = f" ± {statistics.stdev(values.values()):.4f}" if len(values) > 1 else ""
        compared = difference(values, reference) if method != _REFERENCE else None
        lines.append(
            f"| {method} | {statistics.fmean(run['parameters']['kept'] for run in runs):,.0f} |"
            f" {runs[0]['rate']:g} | {_mean(values):.4f}{spread} | {len(values)} |"
            f" {statistics.median(run['cpu_seconds'] for run in runs):.0f} s |"
            f" {f'{compared[0]:+.4f} ± {compared[1]:.4f}' if compared else ''} |"
        )
    return "\n".join(lines)


def _machine(records: Sequence[Record]) -> str:
    if not records:
        return ""
    precisions = sorted({str(record["precision"]) for record in records})
    versions = {
        f"{name} {record['versions'][name]}"
        for record in records
        for name in ("torch", "transformers")
        if name in record["versions"]
    }
    return (
        f"{len(records)} runs; precision: {', '.join(precisions)}; versions:"
        f" {', '.join(sorted(versions))}. Rates that were tried:"
        f" {', '.join(map(str, RATE_FACTORS))} times the default of each method, and beyond while"
        " the lowest or the highest was the best."
    )


def _draw(records: Sequence[Record], theme: str, file: Path) -> None:
    """A panel per task: each method's mean over the seeds, at the parameters that it kept."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    inks = THEMES[theme]
    tasks = [task for task in TASKS if any(record["task"] == task for record in records)]
    if not tasks:
        return
    with mpl.rc_context({"font.size": 9, "svg.hashsalt": theme, "text.color": inks["ink"]}):
        figure = Figure(figsize=(4.2 * len(tasks), 3.8), layout="constrained")
        for axes, task in zip(figure.subplots(1, len(tasks), squeeze=False)[0], tasks, strict=True):
            for method in METHODS:
                points = []
                for budget in BUDGETS:
                    runs = _by_method(task, budget, records).get(method, [])
                    if runs:
                        kept = statistics.fmean(run["parameters"]["kept"] for run in runs)
                        values = _values(runs)
                        spread = statistics.stdev(values.values()) if len(values) > 1 else 0.0
                        points.append((max(kept, 1), _mean(values), spread))
                if points:
                    ink = inks["muted"] if method.startswith("peft") else inks["ours"]
                    x, y, error = zip(*points, strict=True)
                    axes.errorbar(
                        x, y, yerr=error, fmt="o-", color=ink, capsize=2, markersize=4, linewidth=1
                    )
                    axes.annotate(method, (x[-1], y[-1]), xytext=(5, 0), color=ink, fontsize=6,
                                  textcoords="offset points", va="center")  # fmt: skip
            axes.set_xscale("log")
            low, high = axes.get_xlim()
            ticks = [tick for power in range(9) for tick in (10**power, 3 * 10**power)]
            axes.set_xticks(ticks, [format_compact(tick) for tick in ticks])
            axes.set_xlim(low / 1.8, high * 3)  # with room for the names
            axes.minorticks_off()
            axes.set_title(task, color=inks["ink"])
            axes.set_xlabel("parameters kept", color=inks["ink"])
            axes.set_ylabel(TASKS[task].metric, color=inks["ink"])
            axes.grid(color=inks["rule"])
            axes.tick_params(colors=inks["ink"], which="both", length=0)
            axes.spines[:].set_visible(False)
        save(figure, file, f"{len(records)} runs")
