"""Wrong labels in SST-2: which of them suspects.csv lists, and what training without them gains.

    python -m benchmarks.suspects --data $BERTFT_DATA/sst2 --out outputs/suspects

A part of the labels of a sample of SST-2 is flipped (seeded). ``bertft cross_validate`` writes
suspects.csv, whose rows are compared with the flipped ones, and with those of cleanlab called by
hand on the probabilities in out_of_fold.jsonl. Then models are trained with and without the listed
rows, with several seeds, and evaluated on the development set, whose labels are as published. The
checkpoint is chosen on held-out training rows, which have flipped labels too. What is in ``--out``
already is not run again. Leaves result.json there.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["flip_labels", "main"]

_CLASSES = ("negative", "positive")


def flip_labels(source: Path, target: Path, rows: int, share: float, seed: int) -> list[int]:
    """Write a sample of a TSV of SST-2 as CSV, with flipped labels.

    Args:
        source: a TSV with the columns ``sentence`` and ``label`` (0 or 1).
        target: the CSV to write, with the columns ``text`` and ``label``.
        rows: the size of the sample.
        share: the part of its labels that is flipped.

    Returns:
        The lines of ``target`` whose label is flipped, ascending.
    """
    draw = random.Random(seed)
    sample = draw.sample(_read_rows(source), rows)
    flipped = set(draw.sample(range(rows), round(share * rows)))
    _write_rows(target, [(text, label ^ (n in flipped)) for n, (text, label) in enumerate(sample)])
    return [number + 2 for number in sorted(flipped)]  # after the header


def _read_rows(source: Path) -> list[tuple[str, int]]:
    with open(source, encoding="utf-8", newline="") as file:
        content = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))[1:]
    return [(text.strip(), int(label)) for text, label in content]


def _write_rows(target: Path, rows: Sequence[tuple[str, int]]) -> None:
    with open(target, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        writer.writerows([text, _CLASSES[label]] for text, label in rows)


def _bertft(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "bertft", *words], check=True)


def _suspects_by_hand(predictions: Path) -> set[int]:
    """The lines of the rows that cleanlab finds in out_of_fold.jsonl."""
    from cleanlab.filter import find_label_issues

    rows = [json.loads(line) for line in predictions.read_text(encoding="utf-8").splitlines()]
    probabilities = np.array([[row["scores"][name] for name in _CLASSES] for row in rows])
    labels = np.array([_CLASSES.index(row["true_label"]) for row in rows])
    is_suspect = find_label_issues(labels, probabilities)
    return {rows[number]["line"] for number in np.flatnonzero(is_suspect)}


def _compare(suspects: Path, flipped: Sequence[int]) -> dict[str, Any]:
    with open(suspects, encoding="utf-8", newline="") as file:
        listed = {int(row["line"]) for row in csv.DictReader(file)}
    right = len(listed & set(flipped))
    return {
        "flipped": len(flipped),
        "listed": len(listed),
        "listed_and_flipped": right,
        "precision": right / len(listed) if listed else None,
        "recall": right / len(flipped),
        "equal_to_cleanlab_by_hand": listed
        == _suspects_by_hand(suspects.with_name("out_of_fold.jsonl")),
    }


def _gain(sweep: Path) -> dict[str, Any]:
    """Accuracy on the development set with and without the listed rows, by seed."""
    accuracy: dict[bool, dict[str, float]] = {True: {}, False: {}}
    for job in sorted(sweep.glob("*/job.json")):
        settings = json.loads(job.read_text(encoding="utf-8"))["overrides"]
        metrics = json.loads(job.with_name("metrics.json").read_text(encoding="utf-8"))
        is_dropped = settings["data.drop_rows"] != "null"
        accuracy[is_dropped][settings["seed"]] = metrics["test"]["accuracy"]
    seeds = sorted(accuracy[True])
    differences = [accuracy[True][seed] - accuracy[False][seed] for seed in seeds]
    return {
        "with": [accuracy[False][seed] for seed in seeds],
        "without": [accuracy[True][seed] for seed in seeds],
        "difference_mean": statistics.fmean(differences),
        "difference_std": statistics.stdev(differences),
    }


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", required=True, help="folder with train.tsv and dev.tsv of SST-2")
    parser.add_argument("--out", default="outputs/suspects")
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--share", type=float, default=0.05)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("settings", nargs="*", help="further settings of bertft")
    args = parser.parse_args(argv)
    data, out = Path(args.data), Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    train, development = out / "train.csv", out / "dev.csv"
    flipped = flip_labels(data / "train.tsv", train, args.rows, args.share, 0)
    _write_rows(development, _read_rows(data / "dev.tsv"))
    folds, suspects = out / "folds", out / "folds" / "suspects.csv"
    common = ["report=false", "quiet=true", *args.settings]
    _bertft("cross_validate", str(train), "folds=5", f"hydra.sweep.dir={folds}", *common)
    result: dict[str, Any] = {"suspects": _compare(suspects, flipped)}
    print(json.dumps(result, indent=1), flush=True)
    seeds = ",".join(map(str, range(args.seeds)))
    _bertft(
        "train", "-m", str(train), f"data.test={development}", f"seed={seeds}",
        f"data.drop_rows=null,{suspects}", f"hydra.sweep.dir={out / 'runs'}", *common,
    )  # fmt: skip
    result["accuracy"] = _gain(out / "runs")
    (out / "result.json").write_text(json.dumps(result, indent=1), encoding="utf-8")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
