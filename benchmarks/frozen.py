"""Training with the frozen layers computed once and in every step, on SST-2 with MiniLM.

    python -m benchmarks.frozen --data $BERTFT_DATA/sst2 [--quick] [--json FILE]

Whole commands, one after the other: method=head and method=last_k with two layers, 4,000 rows,
three epochs, three seeds, with an empty cache of states before the first seed. ``cpu`` is the CPU
time of the command, ``samples/s`` that of training alone, and the accuracy is that on dev.
"""

from __future__ import annotations

import itertools
import json
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.rounds import arguments, machine, tell

__all__ = ["main"]

_METHODS = {"head": ["method=head"], "last_k": ["method=last_k", "method.base.last_k=2"]}


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _train(words: list[str], run: Path) -> dict[str, float]:
    before = _cpu_seconds()
    command = [sys.executable, "-m", "bertft", "train", *words, f"hydra.run.dir={run}"]
    subprocess.run(command, check=True, capture_output=True)
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    return {
        "cpu": _cpu_seconds() - before,
        "samples_per_second": metrics["train"]["rows_per_second"],
        "accuracy": metrics["validation"]["accuracy"],
    }


def measure(data: Path, rows: int, seeds: int) -> dict[str, list[dict[str, float]]]:
    """``<method> <cache_frozen>`` → the measurements of each seed."""
    results: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        common = [
            "data=files", f"data.train={data / 'train.tsv'}", f"data.max_train_rows={rows}",
            f"data.validation={data / 'dev.tsv'}", "data.text=sentence",
            "report=false", f"data.cache={folder}/cache",
        ]  # fmt: skip
        # The rows are read and tokenized first.
        _train([*common, "trainer.max_steps=1"], Path(folder) / "warm")
        for seed, (method, words), setting in itertools.product(
            range(seeds), _METHODS.items(), ("false", "true")
        ):
            chosen = [*words, "trainer.epochs=3", f"trainer.cache_frozen={setting}", f"seed={seed}"]
            figures = _train([*common, *chosen], Path(folder) / f"{method}-{setting}-{seed}")
            print(method, setting, seed, figures, file=sys.stderr, flush=True)
            results.setdefault(f"{method} {setting}", []).append(figures)
    return results


def main(argv: Sequence[str] | None = None) -> None:
    parser = arguments(__doc__, "five minutes", "sst2")
    args = parser.parse_args(argv)
    if args.data is None:
        parser.error("give --data, the folder with train.tsv and dev.tsv of SST-2")
    results = measure(args.data, 1000 if args.quick else 4000, 3)
    summary: dict[str, Any] = {}
    for name, seeds in results.items():
        first, *others = seeds
        accuracies = [seed["accuracy"] for seed in seeds]
        summary[name] = {
            "cpu_of_first_seed": first["cpu"],
            "cpu_of_other_seeds": statistics.fmean(seed["cpu"] for seed in others),
            "samples_per_second": statistics.median(seed["samples_per_second"] for seed in seeds),
            "accuracy": statistics.fmean(accuracies),
            "accuracies": accuracies,
        }
    tell({"runs": summary, "machine": machine()}, args.json)


if __name__ == "__main__":
    main()
