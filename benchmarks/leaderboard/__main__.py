"""Train the runs that the leaderboard lacks, and write its page.

    python -m benchmarks.leaderboard --data $BERTFT_DATA [--tasks sst2 stsb] [--minutes 60]
    python -m benchmarks.leaderboard --page

The first command adds a line per run to ``benchmarks/leaderboard/results.jsonl``; it can be
interrupted and repeated. The second writes docs/leaderboard.md and its plot from this file.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.leaderboard import stability
from benchmarks.leaderboard.entries import BUDGETS, METHODS, TASKS
from benchmarks.leaderboard.page import write_page
from benchmarks.leaderboard.results import Results, RunFailed, pending_runs, train

__all__ = ["main"]

_HERE = Path(__file__).parent
_DOCS = _HERE.parents[1] / "docs"


def main(argv: Sequence[str] | None = None) -> int:
    known = os.environ.get("BERTFT_DATA")
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--page", action="store_true", help="write the page, train nothing")
    parser.add_argument("--data", type=Path, default=Path(known) if known else None)
    parser.add_argument("--results", type=Path, default=_HERE / "results.jsonl")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=["sst2", "stsb", "wnut17"])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--budgets", nargs="+", choices=BUDGETS, default=list(BUDGETS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--precision", choices=["auto", "fp32", "bf16"], default="auto")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="start no run later")
    args = parser.parse_args(argv)
    results = Results(args.results)
    if args.page:
        write_page(results.records, _DOCS, stability.read(stability.RESULTS))
        return 0
    if args.data is None:
        parser.error("--data is missing: the folder with sst2, stsb and wnut17")
    end = time.monotonic() + 60 * args.minutes
    pending = pending_runs(
        results, [TASKS[name] for name in args.tasks], [METHODS[name] for name in args.methods],
        args.budgets, args.seeds,
    )  # fmt: skip
    for run in pending:
        if time.monotonic() > end:
            break
        try:
            results.add(run, train(run, args.data, args.threads, args.precision))
        except RunFailed as failure:
            print(failure, file=sys.stderr)
            return 1
        print(*run.key, f"{results.value(run):.4f}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
