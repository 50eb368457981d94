"""Averages of runs on SST-2 with MiniLM: which runs average well, and is the average better?

    python -m benchmarks.soups --data $BERTFT_DATA/sst2 [--quick] [--runs FOLDER] [--json FILE]

2,000 training rows, the 872 dev rows in two halves. Groups of runs, each averaged with ``mean`` and
with ``greedy``:

    settings    one seed, so one new head; learning rate and batch size vary
    seeds       default settings, seeds 0, 1 and 2: three new heads
    start       seeds 0, 1 and 2 from a merged folder with a trained head

``--runs`` keeps the runs in a folder, and the next call uses those that are finished.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.rounds import arguments, machine, tell

__all__ = ["main"]

_EPOCHS = {"svd_lora": 3, "full": 1}
_RATES = {
    "svd_lora": "method.low_rank.learning_rate=4e-3",
    "full": "method.base.learning_rate=5e-5",
}


def _bertft(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "bertft", *words], check=True, capture_output=True)


def _train(folder: Path, data: Path, rows: int, *words: str) -> Path:
    if not (folder / "metrics.json").is_file():
        _bertft(
            "train", "data=files", f"data.train={data / 'train.tsv'}",
            f"data.validation={data / 'dev.tsv'}", "data.text=sentence", "data.label=label",
            f"data.max_train_rows={rows}", "trainer.threads=1", "report=false", "quiet=true",
            f"hydra.run.dir={folder}", "resume=auto", *words,
        )  # fmt: skip
        print(folder.name, file=sys.stderr, flush=True)
    return folder


def train_groups(
    folder: Path, data: Path, rows: int, methods: Sequence[str], start: bool
) -> dict[str, list[Path]]:
    """``<method> <group>`` → the runs of the group."""
    groups: dict[str, list[Path]] = {}
    for method in methods:
        common = (f"method={method}", f"trainer.epochs={_EPOCHS[method]}")
        by_seed = [
            _train(folder / f"{method}-seed{seed}", data, rows, *common, f"seed={seed}")
            for seed in range(3)
        ]
        groups[f"{method} settings"] = [
            by_seed[0],
            _train(folder / f"{method}-rate", data, rows, *common, _RATES[method]),
            _train(folder / f"{method}-batch", data, rows, *common, "trainer.batch_size=16"),
        ]
        groups[f"{method} seeds"] = by_seed
    if start:
        head = _train(folder / "head", data, rows, "method=head", "trainer.epochs=3")
        if not (folder / "start").is_dir():
            _bertft("merge", f"run={head}", f"out={folder / 'start'}")
        method = methods[0]
        common = (f"method={method}", f"trainer.epochs={_EPOCHS[method]}")
        groups[f"{method} start"] = [
            _train(
                folder / f"{method}-start{seed}", data, rows, *common, f"seed={seed}",
                f"model.path={folder / 'start'}",
            )
            for seed in range(3)
        ]  # fmt: skip
    return groups


def average(runs: Sequence[Path], how: str) -> dict[str, Any]:
    """The metric on the rows that report, and the difference to the best run, of an average."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "soup"
        _bertft("merge", f"runs=[{','.join(map(str, runs))}]", f"how={how}", f"out={out}")
        record = json.loads((out / "soup.json").read_text(encoding="utf-8"))
    best = next(run for run in record["runs"] if run["run"] == record["best_run"])
    return {
        "best_run": best["reported"],
        "soup": record["soup"]["reported"],
        "ensemble": record["ensemble"]["reported"],
        "averaged": sum(run["averaged"] for run in record["runs"]),
        "differences": record["differences_to_best_run"],
        "runs": {run["run"]: (run["choosing"], run["reported"]) for run in record["runs"]},
    }


def main(argv: Sequence[str] | None = None) -> None:
    parser = arguments(__doc__, "the runs of svd_lora with 500 rows", "sst2")
    parser.add_argument("--runs", type=Path, help="folder that keeps the runs")
    args = parser.parse_args(argv)
    if args.data is None:
        parser.error("give --data, the folder with train.tsv and dev.tsv of SST-2")
    with ExitStack() as stack:
        folder = args.runs or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        methods = ("svd_lora",) if args.quick else tuple(_EPOCHS)
        groups = train_groups(folder, args.data, 500 if args.quick else 2000, methods, True)
        results = {
            f"{name} {how}": average(runs, how)
            for name, runs in groups.items()
            for how in ("mean", "greedy")
        }
    tell({"groups": results, "machine": machine()}, args.json)


if __name__ == "__main__":
    main()
