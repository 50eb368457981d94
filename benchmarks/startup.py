"""Time from the command to the end of the first step, next to a script with HF Trainer and peft.

    python -m benchmarks.startup --data $BERTFT_DATA/sst2 [--quick] [--json FILE]

Whole processes in turn, caches of tokenised rows warm (the first round fills them and is not
counted): bertft train with a validation file, LoRA, MiniLM, batch 32; the peer as
``benchmarks/trainer_script.py``. Also the time of ``bertft --help`` and of a configuration error.
Memory is the largest resident set of the process.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.rounds import arguments, machine, tell

__all__ = ["main"]

_SCRIPT = Path(__file__).with_name("trainer_script.py")


def _until(command: list[str], done: Callable[[subprocess.Popen[str]], bool]) -> float:
    """Seconds until ``done`` says so; the process is then ended."""
    start = time.perf_counter()
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        if not done(process):
            raise SystemExit(f"ended before its first step: {' '.join(command)}")
        return time.perf_counter() - start
    finally:
        process.kill()
        process.communicate()


def _line(text: str) -> Callable[[subprocess.Popen[str]], bool]:
    def wait(process: subprocess.Popen[str]) -> bool:
        assert process.stdout is not None
        return any(text in line for line in process.stdout)

    return wait


def _written(file: Path) -> Callable[[subprocess.Popen[str]], bool]:
    """A step's line in a run's timings, looked for every two milliseconds."""

    def wait(process: subprocess.Popen[str]) -> bool:
        while process.poll() is None:
            if file.exists() and '"step"' in file.read_text().partition("\n")[2]:
                return True
            time.sleep(0.002)
        return False

    return wait


def _whole(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, capture_output=True, check=False)
    return time.perf_counter() - start


def measure(data: Path, rounds: int) -> dict[str, list[float]]:
    from bertft.models.source import find_model_source

    bertft = [sys.executable, "-m", "bertft"]
    model = find_model_source("all-MiniLM-L6-v2").load
    seconds: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:

        def train(number: int) -> float:
            run = Path(folder) / f"run{number}"
            command = [
                *bertft, "train", "method=lora", "data=files", f"data.train={data / 'train.tsv'}",
                f"data.validation={data / 'dev.tsv'}", "data.text=sentence", "data.max_length=128",
                f"data.cache={folder}/cache", "trainer.log_every=1", f"hydra.run.dir={run}",
            ]  # fmt: skip
            return _until(command, _written(run / "timings.jsonl"))

        def peer(_: int) -> float:
            command = [sys.executable, str(_SCRIPT), model, str(data / "train.tsv")]
            return _until(command, _line("first step"))

        contenders: dict[str, Callable[[int], float]] = {
            "bertft": train,
            "trainer_peft": peer,
            "bertft_help": lambda _: _whole([*bertft, "train", "--help"]),
            "bertft_mistake": lambda _: _whole([*bertft, "train", "method=lorra"]),
        }
        for number in range(rounds + 1):
            for name, work in contenders.items():
                took = work(number)
                if number:
                    seconds.setdefault(name, []).append(took)
    return seconds


def main(argv: Sequence[str] | None = None) -> None:
    parser = arguments(__doc__, "two minutes", "sst2")
    args = parser.parse_args(argv)
    if args.data is None:
        parser.error("give --data, the folder with train.tsv and dev.tsv of SST-2")
    seconds = measure(args.data, 3 if args.quick else 7)
    pairs = zip(seconds["trainer_peft"], seconds["bertft"], strict=True)
    result: dict[str, Any] = {
        "ratios": {"first_step": statistics.median(peer / ours for peer, ours in pairs)},
        "seconds": {
            name: {"median": statistics.median(values), "min": min(values), "max": max(values)}
            for name, values in seconds.items()
        },
        "machine": machine(),
    }
    tell(result, args.json)


if __name__ == "__main__":
    main()
