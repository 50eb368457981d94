"""The benchmark that waits for a GPU runs: on one, or with narrow layers on a CPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]


@pytest.mark.long
@pytest.mark.skipif("BERTFT_DATA" not in os.environ, reason="BERTFT_DATA names no data")
def test_the_benchmark_of_a_gpu_compares_like_with_like(tmp_path):
    device = "cuda" if torch.cuda.is_available() else "cpu"
    options = ["--shape", "narrow", "--batch", "8", "--rows", "sst2", "--quick", "--json"]
    command = [
        sys.executable, "-W", "ignore", "-m", "benchmarks.gpu", "--device", device, *options,
        str(tmp_path / "found.json"),
    ]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    result = json.loads((tmp_path / "found.json").read_text())
    [actual] = result["results"].values()
    speeds, ratios = actual["samples_per_second"], actual["ratios"]
    assert len(speeds) == 7 and len(ratios) == 5 and 0 < actual["mfu"] < 1
    against = {name: "peer_full" if name == "bertft_full" else "peer_lora" for name in ratios}
    for name, ratio in ratios.items():  # of medians of rounds, within what the rounds allow
        peer = speeds[against[name]]
        assert speeds[name]["min"] / peer["max"] <= ratio <= speeds[name]["max"] / peer["min"]
    assert (result["machine"]["gpu"] is None) == (device == "cpu")
