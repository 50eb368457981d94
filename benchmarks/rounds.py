"""Interleaved rounds: every contender works a little in turn, so that a noisy machine hits all.

A contender is a function ``work(round) -> Turn``. Medians over the rounds are quoted, with the
smallest and largest; a ratio is the median of the round-by-round ratios.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F

__all__ = [
    "CPU", "Result", "Stopwatch", "Turn", "Work", "arguments", "ceiling", "interleave", "machine",
    "now", "tell",
]  # fmt: skip

CPU = torch.device("cpu")


class Turn(NamedTuple):
    """What a contender processed in one round, and the wall and CPU seconds that it took."""

    samples: int
    tokens: int
    seconds: float
    cpu_seconds: float


Work = Callable[[int], Turn]


class Stopwatch:
    """Wall time of a device and CPU time of this process since it was made."""

    def __init__(self, device: torch.device = CPU) -> None:
        self._device = device
        self._wall, self._cpu = now(device), time.process_time()

    def turn(self, samples: int, tokens: int) -> Turn:
        return Turn(
            samples, tokens, now(self._device) - self._wall, time.process_time() - self._cpu
        )


@dataclass(frozen=True)
class Result:
    """Samples and tokens per second, and samples per second of CPU time, in each round."""

    samples: list[float]
    tokens: list[float]
    samples_per_cpu_second: list[float]

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    def over(self, other: Result) -> float:
        """How many times as fast as ``other``."""
        return _median_ratio(self.samples, other.samples)

    def over_in_cpu_time(self, other: Result) -> float:
        """How much more ``other`` needs of the CPU per sample; other processes change it less."""
        return _median_ratio(self.samples_per_cpu_second, other.samples_per_cpu_second)

    def summary(self) -> dict[str, float]:
        return {
            "median": self.median,
            "min": min(self.samples),
            "max": max(self.samples),
            "per_cpu_second": statistics.median(self.samples_per_cpu_second),
        }


def _median_ratio(rates: list[float], other_rates: list[float]) -> float:
    pairs = zip(rates, other_rates, strict=True)
    return statistics.median(rate / other_rate for rate, other_rate in pairs)


def interleave(contenders: Mapping[str, Work], rounds: int) -> dict[str, Result]:
    """Round 0 warms up and is not counted."""
    results: dict[str, Result] = {name: Result([], [], []) for name in contenders}
    for number in range(rounds + 1):
        for name, work in contenders.items():
            turn = work(number)
            if number:
                results[name].samples.append(turn.samples / turn.seconds)
                results[name].tokens.append(turn.tokens / turn.seconds)
                results[name].samples_per_cpu_second.append(turn.samples / turn.cpu_seconds)
    return results


def ceiling(
    dtype: torch.dtype,
    shape: tuple[int, int, int] = (1024, 384, 1536),
    device: torch.device = CPU,
    seconds: float = 1.0,
) -> float:
    """FLOP/s of a linear layer over ``shape`` = (tokens, in, out), the best of many."""
    tokens, inner, outer = shape
    x = torch.randn(tokens, inner, dtype=dtype, device=device)
    weight = torch.randn(outer, inner, dtype=dtype, device=device)
    best, until = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < until:
        start = now(device)
        F.linear(x, weight)
        best = min(best, now(device) - start)
    return 2 * tokens * inner * outer / best


def now(device: torch.device) -> float:
    """Seconds on a clock, once the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    name = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            cpu_info = {
                line.split(":")[0].strip(): line.split(":")[1].strip()
                for line in lines
                if ":" in line
            }
        name = (
            f"{cpu_info['model name']}, family {cpu_info['cpu family']}, model {cpu_info['model']}"
        )
    except (OSError, KeyError):
        pass
    return {
        "cpu": name,
        "threads": torch.get_num_threads(),
        "instruction_set": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def arguments(doc: str | None, within: str, inside: str = "") -> argparse.ArgumentParser:
    """--data (``inside`` of $BERTFT_DATA where that is set), --quick and --json."""
    parser = argparse.ArgumentParser(description=(doc or "").split("\n")[0])
    known = os.environ.get("BERTFT_DATA")
    parser.add_argument("--data", type=Path, default=Path(known) / inside if known else None)
    parser.add_argument("--quick", action="store_true", help=f"within {within} on two cores")
    parser.add_argument("--json", type=Path)
    return parser


def tell(result: Mapping[str, Any], file: Path | None) -> None:
    """Print ``result``, and write it to ``file`` if there is one."""
    text = json.dumps(result, indent=1)
    if file:
        file.write_text(text + "\n")
    print(text)
