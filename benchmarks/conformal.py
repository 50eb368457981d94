"""Coverage of prediction sets on the dev rows of SST-2 over random splits, with MiniLM.

    python -m benchmarks.conformal --data $BERTFT_DATA/sst2 [--quick] [--run RUN] [--json FILE]

One run (method=svd_lora, 2,000 training rows) gives the logits of the 872 dev rows. For each
coverage, 200 random halves of the rows calibrate, and the others report. The number of covered rows
follows the beta-binomial distribution, so that the mean coverage of 200 splits is in the band
mean ± 1.96 · std / √200, and about 90 % of the splits are between its 5 % and 95 % quantiles.
"""

from __future__ import annotations

import math
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import betabinom

from benchmarks.rounds import arguments, machine, tell
from bertft.pipeline.open_model import open_model
from bertft.pipeline.recorded_rows import load_split
from bertft.tasks.shared.conformal import ConformalSets, conformal_quantile, conformal_rank

__all__ = ["main"]

_COVERAGES = (0.8, 0.9, 0.95, 0.98)
_SPLITS = 200


def train(folder: Path, data: Path, rows: int) -> None:
    """Train the run whose logits are used."""
    words = [
        "data=files", f"data.train={data / 'train.tsv'}", f"data.validation={data / 'dev.tsv'}",
        "data.text=sentence", "data.label=label", f"data.max_train_rows={rows}", "method=svd_lora",
        "trainer.threads=1", "report=false", "quiet=true", f"hydra.run.dir={folder}",
    ]  # fmt: skip
    subprocess.run([sys.executable, "-m", "bertft", "train", *words], check=True)


def measure(run: Path) -> dict[str, dict[str, Any]]:
    """Coverage → observed coverage and set sizes over the splits."""
    loaded = open_model(str(run), device="cpu")
    task = loaded.task_model.task
    table = loaded.build_features("validation", load_split(loaded, "validation"))
    kept: list[np.ndarray] = []
    accuracy = loaded.evaluate(table, kept.append)["accuracy"]
    logits, rows = kept[0], len(table)
    scores = task.conformal_scores(logits, table)
    generator = np.random.default_rng(0)
    results: dict[str, dict[str, Any]] = {"accuracy": {"value": accuracy, "rows": rows}}
    for coverage in _COVERAGES:
        observed = []
        for _ in range(_SPLITS):
            calibrates = np.zeros(rows, bool)
            calibrates[generator.permutation(rows)[: rows // 2]] = True
            quantile = conformal_quantile(scores[calibrates], coverage)
            task.set_conformal(ConformalSets(coverage, quantile, rows // 2, 0, ""))
            observed.append(task.set_metrics(logits, table, ~calibrates))
        task.set_conformal(None)
        results[str(coverage)] = _summarize(observed, rows // 2, rows - rows // 2, coverage)
    return results


def _summarize(
    observed: Sequence[dict[str, float]], calibration: int, test: int, coverage: float
) -> dict[str, Any]:
    rank = conformal_rank(calibration, coverage)
    law = betabinom(test, rank, calibration + 1 - rank)
    values = np.array([one["coverage"] for one in observed])
    low, high = law.ppf([0.05, 0.95]) / test
    mean, error = law.mean() / test, 1.96 * law.std() / test / math.sqrt(len(values))
    return {
        "mean_coverage": float(values.mean()),
        "band_of_the_mean": [mean - error, mean + error],
        "smallest": float(values.min()),
        "largest": float(values.max()),
        "share_in_90_percent_band": float(((values >= low) & (values <= high)).mean()),
        "mean_set_size": float(np.mean([one["mean_set_size"] for one in observed])),
        "abstention": float(np.mean([one["abstention"] for one in observed])),
    }


def main(argv: Sequence[str] | None = None) -> None:
    parser = arguments(__doc__, "500 training rows", "sst2")
    parser.add_argument("--run", type=Path, help="a finished run on SST-2 to use")
    args = parser.parse_args(argv)
    if args.data is None and args.run is None:
        parser.error("give --data, the folder with train.tsv and dev.tsv of SST-2, or --run")
    with ExitStack() as stack:
        run = args.run
        if run is None:
            run = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "run"
            train(run, args.data, 500 if args.quick else 2000)
        tell({"coverage": measure(run), "machine": machine()}, args.json)


if __name__ == "__main__":
    main()
