"""A process of its own for runs that are killed: it imports once, and forks a child for each run.

    crash_training.py    stdin: [{"words": [...], "fault": null | "<signal>:<number>"}, ...]

A child runs ``bertft.cli.main(words)``; before the numbered write point the signal is sent to it.
Prints one line of JSON, for each run: status (negative: the signal that ended it), stderr, and
the points that it met.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

# What a child would import is imported here, and not again in each of them.
import hydra.main  # noqa: F401
import torch
import transformers.models.bert.modeling_bert  # noqa: F401
from transformers import AutoModelForSequenceClassification, AutoTokenizer  # noqa: F401

import bertft.commands.train  # noqa: F401
from bertft.cli import main
from bertft.runs import faults

torch.set_num_threads(1)


def child(words: list[str], fault: str | None, points: Path, err: Path) -> int:
    name, _, number = (fault or "").partition(":")
    met = 0

    def hook(point: str) -> None:
        nonlocal met
        met += 1
        with open(points, "a", encoding="utf-8") as file:
            file.write(f"{point}\n")
        if str(met) == number:
            os.kill(os.getpid(), getattr(signal, name))

    with (
        open(err, "w", encoding="utf-8") as file,
        contextlib.redirect_stderr(file),
        contextlib.redirect_stdout(file),
        faults.installed(hook),
    ):
        return main(words)


def run(words: list[str], fault: str | None, work: Path) -> dict:
    points, err = work / "points", work / "err"
    points.write_text("")
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            status = child(words, fault, points, err)
        finally:
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return {
        "status": status,
        "said": err.read_text(encoding="utf-8"),
        "points": points.read_text(encoding="utf-8").splitlines(),
    }


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        told = [run(job["words"], job["fault"], Path(folder)) for job in json.load(sys.stdin)]
    print(json.dumps(told))
