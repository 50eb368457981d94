"""Successive halving against a full grid: does it find the best configuration, and at what cost?

    python -m benchmarks.tune --data $BERTFT_DATA --task sst2 --out outputs/tune

A grid of 16 configurations of LoRA is trained to the end with seed 0. Then ``bertft tune`` searches
the same 16 configurations, once per search seed. A search seed is both ``seed`` (initial weights,
order of the rows, dropout) and ``tune.seed`` (order of the proposals). So the runs of search 0 must
be those of the grid, bit for bit, and the others show whether the result depends on the seed.

Each winner is looked up in the grid: its place, and its difference to the grid's best by the paired
bootstrap of ``bertft compare``. Steps are those of the default and of all trials; the searches do
not train further seeds.

Finished runs and searches in ``--out`` are not run again. It leaves grid.jsonl (one line per
configuration, with its evaluations), times.jsonl and table.md there.
"""

from __future__ import annotations

import argparse
import csv
import json
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import bertft
from bertft.config.trainer import step_at
from bertft.runs.run_folder import RunFolder
from bertft.search.halving import RungResult, Trial, promoted, rank, rung_fractions
from bertft.search.outcome import Evaluation, read_evaluations, read_results

__all__ = ["Configuration", "main", "simulate"]

_EVALUATIONS = 8
# 0.3, 1, 3 and 10 times the default learning rate of LoRA on all linear layers.
_GRID = {
    "method.low_rank.learning_rate": ("0.0002", "0.0006667", "0.002", "0.006667"),
    "method.rank": ("4", "8"),
    "method.low_rank.dropout": ("0.05", "0.2"),
}
_SIZE = 16
_DEFAULT = dict(zip(_GRID, ("0.0006667", "8", "0.05"), strict=True))
_METHOD = (
    "method=lora", "method.low_rank.targets=all_linear", f"trainer.evaluations={_EVALUATIONS}",
    "trainer.threads=1", "report=false", "quiet=true",
)  # fmt: skip
_QUICK = (
    "model=tiny", "data.max_train_rows=64", "data.max_validation_rows=64", "trainer.batch_size=4",
)  # fmt: skip


def _task_words(task: str, data: Path) -> list[str]:
    """A sample of the training rows, so that a run takes about a minute on a CPU."""
    if task == "sst2":
        return [
            "data=files", f"data.train={data / 'sst2/train.tsv'}",
            f"data.validation={data / 'sst2/dev.tsv'}", "data.text=sentence",
            "data.max_train_rows=2000",
        ]  # fmt: skip
    return [
        "data=files", "data.task=token_classification",
        f"data.train={data / 'wnut17/wnut17train.conll'}",
        f"data.validation={data / 'wnut17/emerging.dev.conll'}",
        "data.max_train_rows=1000",
    ]  # fmt: skip


@dataclass(frozen=True)
class Configuration:
    """A configuration of the grid, trained to the end.

    Attributes:
        params: setting → value as on the command line.
        value: the metric of its best checkpoint.
        steps: of the complete run.
        evaluations: in the order of their steps.
        results: one per rung.
    """

    params: dict[str, str]
    folder: str
    value: float
    steps: int
    evaluations: list[Evaluation]
    results: list[RungResult]


def _read_grid(folder: Path) -> list[Configuration]:
    """The runs of the grid, best first: by the metric, then by the loss."""
    grid = []
    for file in sorted(folder.glob("*/job.json")):
        run, overrides = RunFolder(file.parent), json.loads(file.read_text())["overrides"]
        results, error = read_results(file.parent, rung_fractions(_EVALUATIONS), False)
        if error is not None:
            sys.exit(f"{file.parent}: {error}")
        params = {key: overrides[key] for key in _GRID}
        steps, evaluations = run.read_manifest()["total_steps"], read_evaluations(run)
        name, value = file.parent.name, results[-1].value
        grid.append(Configuration(params, name, value, steps, evaluations, results))
    trials = [Trial(number, {}, one.results) for number, one in enumerate(grid)]
    last = len(rung_fractions(_EVALUATIONS)) - 1
    return [grid[trial.number] for trial in rank(trials, last, lower_is_better=False)]


def simulate(grid: Sequence[Configuration]) -> tuple[int, int, list[int]]:
    """Successive halving from the evaluations of the grid: what a search with its seed does.

    Args:
        grid: best first.

    Returns:
        The place of the winner in the grid (from 1), the steps, and the place of the grid's best at
        each rung that it reaches.
    """
    fractions = rung_fractions(_EVALUATIONS)
    trials = [Trial(number, {}, list(one.results)) for number, one in enumerate(grid)]
    steps = [one.steps if one.params == _DEFAULT else 0 for one in grid]
    places = []
    for rung, fraction in enumerate(fractions):
        ranked = rank(promoted(trials, rung, False), rung, lower_is_better=False)
        for place, trial in enumerate(ranked, 1):
            one = grid[trial.number]
            steps[trial.number] = max(steps[trial.number], step_at(fraction, one.steps))
            if trial.number == 0:
                places.append(place)
    return ranked[0].number + 1, sum(steps), places


def _run(name: str, words: Sequence[str], out: Path) -> None:
    """Run a command of bertft, and add its wall and CPU time to times.jsonl, also if it fails."""
    start, cpu = time.perf_counter(), _children_cpu_seconds()
    try:
        subprocess.run([sys.executable, "-m", "bertft", *words], check=True)
    finally:
        record = {
            "name": name,
            "seconds": time.perf_counter() - start,
            "cpu_seconds": _children_cpu_seconds() - cpu,
        }
        with (out / "times.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")


def _children_cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _times(name: str, out: Path) -> tuple[float, float]:
    """Wall and CPU seconds of the commands ``name``; several if it was interrupted."""
    records = map(json.loads, (out / "times.jsonl").read_text(encoding="utf-8").splitlines())
    own = [record for record in records if record["name"] == name]
    return sum(record["seconds"] for record in own), sum(record["cpu_seconds"] for record in own)


def _train_grid(words: Sequence[str], out: Path) -> list[Configuration]:
    file = out / "grid.jsonl"
    if not file.exists():
        values = [f"{key}={','.join(choices)}" for key, choices in _GRID.items()]
        folder = f"hydra.sweep.dir={out / 'grid'}"
        _run("grid", ["train", "-m", *words, *values, "seed=0", folder], out)
    grid = _read_grid(out / "grid")
    assert len(grid) == _SIZE
    lines = [
        {
            "params": one.params,
            "folder": one.folder,
            "value": one.value,
            "steps": one.steps,
            "evaluations": [vars(evaluation) for evaluation in one.evaluations],
        }
        for one in grid
    ]
    file.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    return grid


@dataclass(frozen=True)
class _Search:
    """A finished search: the settings and the folder of its winner, and the steps of all runs."""

    params: dict[str, str]
    value: float
    steps: int
    folders: list[Path]


def _search(seed: int, words: Sequence[str], out: Path) -> _Search:
    folder = out / f"search-{seed}"
    if not (folder / "best.yaml").exists():
        space = [f"{key}=choice({','.join(choices)})" for key, choices in _GRID.items()]
        settings = [f"tune.trials={_SIZE}", f"tune.seeds=[{seed}]", f"tune.seed={seed}"]
        place = [f"seed={seed}", f"hydra.sweep.dir={folder}"]
        _run(f"search {seed}", ["tune", *words, *space, *settings, *place], out)
    with (folder / "summary.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    best = next(row for row in rows if "best" in row["note"])
    last = next(key for key in best if key.endswith(" all"))
    folders = [folder / row["folder"] for row in rows]
    steps = sum(read_evaluations(RunFolder(run))[-1].step for run in folders)
    return _Search({key: best[key] for key in _GRID}, float(best[last]), steps, folders)


def _different_runs(search: _Search, grid: Sequence[Configuration]) -> list[str]:
    """The runs of a search that differ from the run of the grid with the same configuration."""
    curves = {one.folder: one.evaluations for one in grid}
    different = []
    for folder in search.folders:
        own = read_evaluations(RunFolder(folder))
        expected = curves[folder.name][: len(own)]
        if [(e.step, e.value, e.loss) for e in own] != [
            (e.step, e.value, e.loss) for e in expected
        ]:
            different.append(folder.name)
    return different


def _report(grid: Sequence[Configuration], searches: dict[int, _Search], out: Path) -> str:
    total, best = sum(one.steps for one in grid), grid[0]
    seconds, cpu = _times("grid", out)
    lines = [
        "| | winner | place in the grid | difference to the grid's best | steps | minutes"
        " | CPU minutes |",
        "|---|---|---|---|---|---|---|",
        f"| grid of {len(grid)} | {_describe(best.params)} | 1 ({best.value:.4f}) | | {total:,}"
        f" | {seconds / 60:.1f} | {cpu / 60:.1f} |",
    ]
    for seed, search in searches.items():
        place = next(n for n, one in enumerate(grid, 1) if one.params == search.params)
        seconds, cpu = _times(f"search {seed}", out)
        lines.append(
            f"| search {seed} | {_describe(search.params)} | {place} ({grid[place - 1].value:.4f})"
            f" | {_difference(grid[place - 1], best, out)} | {search.steps:,}"
            f" ({search.steps / total:.1%}) | {seconds / 60:.1f} | {cpu / 60:.1f} |"
        )
    place, steps, places = simulate(grid)
    lines += [
        "",
        f"Simulated from the evaluations of the grid: winner in place {place}, {steps / total:.1%}"
        f" of the steps; the grid's best is in place {', '.join(map(str, places))} at the rungs.",
        f"The grid, best first: {', '.join(f'{one.value:.4f}' for one in grid)}",
    ]
    if 0 in searches:
        different = _different_runs(searches[0], grid)
        lines.append(f"Runs of search 0 that differ from those of the grid: {different or 'none'}")
    return "\n".join(lines)


def _describe(params: dict[str, str]) -> str:
    return ", ".join(f"{key.rpartition('.')[2]} {float(text):.3g}" for key, text in params.items())


def _difference(one: Configuration, best: Configuration, out: Path) -> str:
    if one is best:
        return "the same"
    folders = [str(out / "grid" / configuration.folder) for configuration in (one, best)]
    rows = bertft.compare(folders, against=folders[1]).rows
    found = next(row.difference for row in rows if row.difference is not None)
    return f"{found.value:+.4f} [{found.low:+.4f}, {found.high:+.4f}]"


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with sst2 and wnut17")
    parser.add_argument("--task", choices=("sst2", "wnut17"), default="sst2")
    parser.add_argument("--out", type=Path, default=Path("outputs/tune_benchmark"))
    parser.add_argument("--seeds", default="0,1,2", help="of the searches")
    parser.add_argument("--epochs", default="null", help="null: as many as the method's default")
    parser.add_argument("--quick", action="store_true", help="64 rows and the smallest model")
    args = parser.parse_args(argv)
    out = args.out / args.task
    out.mkdir(parents=True, exist_ok=True)
    words = [*_METHOD, *_task_words(args.task, args.data), f"trainer.epochs={args.epochs}"]
    words += _QUICK if args.quick else ()
    grid = _train_grid(words, out)
    searches = {int(seed): _search(int(seed), words, out) for seed in args.seeds.split(",")}
    table = _report(grid, searches, out)
    (out / "table.md").write_text(table + "\n", encoding="utf-8")
    print(table)


if __name__ == "__main__":
    main()
