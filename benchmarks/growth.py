"""Cost of more rows: time to the first step and memory, next to a script with HF Trainer and peft.

    python -m benchmarks.growth [--quick] [--rows 1000 100000 1000000] [--alone] [--json FILE]

Made rows of 5 to 20 words with two labels, as TSV; MiniLM with LoRA, batch 32. The file is given
alone: a tenth is cut off for validation, of which 1,000 rows are used; the peer trains on all. Each
number of rows is begun twice, as whole processes in turn with the peer: cold (the file is read and
tokenised) and warm. ``anonymous``: the largest sum of pages that no file backs, so that the system
cannot drop them, in a run of 20 steps; of the peer until its first step. ``grown``: that of the
warm run, less the one with the fewest rows.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.rounds import arguments, machine, tell

__all__ = ["main"]

_SCRIPT = Path(__file__).with_name("trainer_script.py")
_SYLLABLES = [a + b for a in "bdfgklmnprstvw" for b in ("a", "e", "i", "o", "u", "an", "er", "in")]


def _texts(count: int, seed: int) -> Iterator[str]:
    draw = random.Random(seed)
    words = ["".join(draw.choices(_SYLLABLES, k=draw.randint(1, 3))) for _ in range(20_000)]
    for _ in range(count):
        yield " ".join(draw.choices(words, k=draw.randint(5, 20)))


def _write(path: Path, count: int, seed: int) -> Path:
    with path.open("w") as file:
        file.write("sentence\tlabel\n")
        for number, text in enumerate(_texts(count, seed)):
            file.write(f"{text}\t{number % 2}\n")
    return path


def _anonymous(pid: int) -> int:
    """Bytes of the process that no file backs; 0 once it is gone."""
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8") as lines:
            matches = [line for line in lines if line.startswith("RssAnon:")]
    except (OSError, ProcessLookupError):
        return 0
    return int(matches[0].split()[1]) * 1024 if matches else 0


def _watched(command: list[str], output: Path, log: Path, mark: str) -> dict[str, float]:
    """Seconds until ``mark`` stands in ``log``, and the largest ``_anonymous`` until the end.

    The output of the process goes to the file ``output``.
    """
    start, first, peak = time.perf_counter(), 0.0, 0
    with output.open("w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
        while process.poll() is None:
            peak = max(peak, _anonymous(process.pid))
            if not first and log.exists() and mark in log.read_text():
                first = time.perf_counter() - start
            time.sleep(0.02)
    if process.returncode or not log.exists() or mark not in log.read_text():
        raise SystemExit(f"{' '.join(command)}\n{output.read_text()[-2000:]}")
    return {"first_step_seconds": first or time.perf_counter() - start, "anonymous_bytes": peak}


def _measure(folder: Path, rows: int, alone: bool) -> dict[str, Any]:
    from bertft.models.source import find_model_source

    model = find_model_source("all-MiniLM-L6-v2").load
    train = _write(folder / f"train{rows}.tsv", rows, 0)
    measurements: dict[str, Any] = {}
    for state in ("cold", "warm"):
        run = folder / f"run{rows}{state}"
        command = [
            sys.executable, "-m", "bertft", "train", "data=files", f"data.train={train}",
            "data.max_validation_rows=1000", "data.text=sentence", "data.max_length=128",
            f"data.cache={folder}/cache", "trainer.max_steps=20", "trainer.log_every=1",
            "report=false", f"hydra.run.dir={run}",
        ]  # fmt: skip
        output = folder / f"{rows}{state}.out"
        measurements[f"bertft_{state}"] = _watched(command, output, run / "timings.jsonl", '"step"')
        if not alone:
            command = [sys.executable, str(_SCRIPT), model, str(train)]
            measurements[f"trainer_peft_{state}"] = _watched(command, output, output, "first step")
    train.unlink()
    return measurements


def main(argv: Sequence[str] | None = None) -> None:
    parser = arguments(__doc__, "five minutes")
    parser.add_argument("--rows", type=int, nargs="+", help="how many, the fewest first")
    parser.add_argument("--alone", action="store_true", help="without the peer")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    sizes = args.rows or ([1_000, 100_000] if args.quick else [1_000, 100_000, 1_000_000])
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        results = {rows: _measure(Path(folder), rows, args.alone) for rows in sizes}
    fewest, most = results[sizes[0]], results[sizes[-1]]
    result: dict[str, Any] = {"rows": results, "grown_bytes": {}, "machine": machine()}
    for name in fewest:
        if name.endswith("_warm"):
            grown = most[name]["anonymous_bytes"] - fewest[name]["anonymous_bytes"]
            result["grown_bytes"][name.removesuffix("_warm")] = grown
    if not args.alone:
        result["ratios"] = {
            f"first_step_{state}": most[f"trainer_peft_{state}"]["first_step_seconds"]
            / most[f"bertft_{state}"]["first_step_seconds"]
            for state in ("cold", "warm")
        }
    tell(result, args.json)


if __name__ == "__main__":
    main()
