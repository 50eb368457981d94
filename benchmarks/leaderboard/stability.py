"""Whether runs with default settings collapse: every method, targets and rank, on 2,000 rows.

    python -m benchmarks.leaderboard.stability --data $BERTFT_DATA [--seeds 0 1] [--minutes 60]

Each run adds a line to ``benchmarks/leaderboard/stability.jsonl``; what is in the file is not run
again. ``python -m benchmarks.leaderboard --page`` writes the table. A run collapsed if bertft says
so, or if its last accuracy is below ``COLLAPSED_BELOW``: the larger class has 50.9 % of SST-2's
dev rows.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.leaderboard.results import run_training

__all__ = ["COLLAPSED_BELOW", "Case", "cases", "main", "stability_section"]

RESULTS = Path(__file__).parent / "stability.jsonl"
COLLAPSED_BELOW = 0.6
RANKS = (2, 8, 32)

_LOW_RANK = {
    "lora": ("method=lora",),
    "rslora": ("method=lora", "method.low_rank.use_rslora=true"),
    "dora": ("method=lora", "method.low_rank.use_dora=true"),
    "pissa": ("method=lora", "method.low_rank.start=principal"),
    "lora+": ("method=lora", "method.low_rank.b_rate_ratio=4"),
    "svd_lora": ("method=svd_lora",),
    "svd_lora, gradient": ("method=svd_lora", "method.low_rank.start=gradient"),
    "lora, activations": ("method=lora", "method.low_rank.start=activations"),
    "svd_lora_prefix": ("method=svd_lora_prefix",),
    "lora_prefix": ("method=lora_prefix",),
}
_TARGETS = {"query and value": (), "all linear": ("method.low_rank.targets=[all_linear]",)}
_WITHOUT_RANK = ("full", "head", "last_k", "bitfit", "ia3", "vera", "prefix")


class Case(NamedTuple):
    """A row of the table: ``settings`` are the words of ``bertft train``."""

    name: str
    rank: int | None
    settings: tuple[str, ...]


def cases() -> Iterator[Case]:
    """Every method, each with its default targets and with all linear layers, at three ranks."""
    for method in _WITHOUT_RANK:
        yield Case(method, None, (f"method={method}",))
    for method, words in _LOW_RANK.items():
        for targets, target_words in _TARGETS.items():
            for rank in RANKS:
                settings = (*words, *target_words, f"method.rank={rank}")
                yield Case(f"{method}, {targets}", rank, settings)


def main(argv: Sequence[str] | None = None) -> int:
    known = os.environ.get("BERTFT_DATA")
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, default=Path(known) if known else None)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--precision", choices=["auto", "fp32", "bf16"], default="auto")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="start no run later")
    parser.add_argument("--methods", nargs="+", help="names of rows, without targets")
    args = parser.parse_args(argv)
    if args.data is None:
        parser.error("--data is missing: the folder with sst2")
    recorded = {(record["name"], record["rank"], record["seed"]) for record in read(args.results)}
    end = time.monotonic() + 60 * args.minutes
    for seed in args.seeds:
        for case in cases():
            if args.methods and case.name.rpartition(", ")[0] not in args.methods:
                continue
            if (case.name, case.rank, seed) in recorded or time.monotonic() > end:
                continue
            words = [*case.settings, *_data(args.data), f"seed={seed}"]
            record = {
                "name": case.name, "rank": case.rank, "seed": seed,
                **run_training(words, args.threads, args.precision),
            }  # fmt: skip
            with args.results.open("a", encoding="utf-8") as out:
                out.write(json.dumps(record) + "\n")
            print(case.name, case.rank, seed, record["last_value"], record["events"], flush=True)
    return 0


def _data(folder: Path) -> list[str]:
    return [
        "data=files", "data.text=sentence", "data.max_train_rows=2000",
        f"data.train={folder}/sst2/train.tsv", f"data.validation={folder}/sst2/dev.tsv",
    ]  # fmt: skip


def read(file: Path) -> list[dict[str, Any]]:
    """The recorded runs."""
    if not file.exists():
        return []
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def has_collapsed(record: dict[str, Any]) -> bool:
    return "collapsed" in record["events"] or record["last_value"] < COLLAPSED_BELOW


def stability_section(records: Sequence[dict[str, Any]]) -> str:
    """The table: collapsed runs, and accuracy after the last epoch over the seeds."""
    if not records:
        return ""
    rows: dict[tuple[str, int | None], list[dict[str, Any]]] = defaultdict(list)
    for record in records:
        rows[record["name"], record["rank"]].append(record)
    collapsed = sum(map(has_collapsed, records))
    lines = [
        "## Stability of the defaults",
        "",
        f"SST-2 with 2,000 training rows, default settings: {collapsed} of {len(records)} runs"
        " collapsed. Accuracy is that after the last epoch.",
        "",
        "| method | rank | collapsed | accuracy | lowest |",
        "|---|---|---|---|---|",
    ]
    for (name, rank), runs in rows.items():
        values = [run["last_value"] for run in runs]
        spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
        lines.append(
            f"| {name} | {rank or ''} | {sum(map(has_collapsed, runs))} of {len(runs)} |"
            f" {statistics.fmean(values):.3f}{spread} | {min(values):.3f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
