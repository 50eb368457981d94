"""A process of its own for runs that are killed: it imports once, and forks a child for each run.

    crash_training.py    each line of stdin:
        {"folder": ..., "environment": {...},
         "words": [...], "fault": null | "<signal>:<number>", "ranks": null | n}

A child runs ``bertft.cli.main(words)``; before the numbered write point the signal is sent to it.
``forward:<number>`` kills before that forward pass of a training step instead (``forward
SIGTERM:<number>`` sends another signal),
``moment:<number>:<seconds>`` so long after it began, at whatever it is then: a loaded machine is
slower and faster by turns, and a share of a run's time would miss it. ``<signal>@<lines>`` comes
from outside, once the run's metrics.jsonl has so many lines.
With ``ranks`` there are so many children, with torchrun's variables: a list of results a job.
Prints a line of JSON for each of them, with status (negative: the signal that ended it),
stderr, and the points that it met.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2]))

# What a child would import is imported here, and not again in each of them.
import hydra.main  # noqa: F401
import matplotlib.figure  # noqa: F401
import torch
import transformers.models.bert.modeling_bert  # noqa: F401
from pretended_cpu import pretend
from transformers import AutoModelForSequenceClassification, AutoTokenizer  # noqa: F401

from bertft.cli.app import main
from bertft.models.runner import EncoderRunner
from bertft.utils import failpoints

torch.set_num_threads(1)
pretend()


def child(words: list[str], fault: str | None, points: Path, err: Path) -> int:
    name, _, number = (fault or "").partition(":")
    if name.startswith("forward"):
        signum = getattr(signal, name.partition(" ")[2] or "SIGKILL")
        at_pass(int(number), lambda: os.kill(os.getpid(), signum))
    if name == "moment":
        before, _, seconds = number.partition(":")
        at_pass(int(before), lambda: kill_in(float(seconds)))
    met = 0

    def hook(point: str) -> None:
        nonlocal met
        met += 1
        with open(points, "a", encoding="utf-8") as file:
            file.write(f"{point}\n")
        if name.startswith("SIG") and str(met) == number:
            os.kill(os.getpid(), getattr(signal, name))

    with (
        open(err, "w", encoding="utf-8") as file,
        contextlib.redirect_stderr(file),
        contextlib.redirect_stdout(file),
        failpoints.install_hook(hook),
    ):
        return main(words)


def at_pass(number: int, do: Callable[[], None]) -> None:
    """``do()`` before that forward pass of training."""
    call, met = EncoderRunner.__call__, 0

    def counted(self, *inputs, **others):
        nonlocal met
        if torch.is_grad_enabled():
            met += 1
            if met == number:
                do()
        return call(self, *inputs, **others)

    EncoderRunner.__call__ = counted


def kill_in(seconds: float) -> None:
    """A child of its own sends the signal: no thread of this process need get its turn."""
    pid = os.getpid()
    if os.fork() == 0:
        time.sleep(seconds)
        os.kill(pid, signal.SIGKILL)
        os._exit(0)


def forked(words: list[str], fault: str | None, work: Path, env: dict[str, str]) -> int:
    points, err = work / "points", work / "err"
    points.write_text("")
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.environ |= env
            status = child(words, fault, points, err)
        finally:
            os._exit(status)
    return pid


def ended(pid: int, work: Path) -> dict:
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return {
        "status": status,
        "output": (work / "err").read_text(encoding="utf-8"),
        "points": (work / "points").read_text(encoding="utf-8").splitlines(),
    }


def run(words: list[str], fault: str | None, work: Path) -> dict:
    pid = forked(words, fault, work, {})
    name, outside, lines = (fault or "").partition("@")
    if outside:
        (folder,) = (word.partition("=")[2] for word in words if word.startswith("hydra.run.dir="))
        log = Path(folder) / "metrics.jsonl"
        while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            if log.is_file() and log.read_bytes().count(b"\n") >= int(lines):
                os.kill(pid, getattr(signal, name))
                break
            time.sleep(0.01)
    return ended(pid, work)


def run_ranks(words: list[str], fault: str | None, size: int, work: Path) -> list[dict]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    job = {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    places = [work / str(rank) for rank in range(size)]
    pids = []
    for rank, folder in enumerate(places):
        folder.mkdir(exist_ok=True)
        env = {**job, "RANK": str(rank), "LOCAL_RANK": str(rank)}
        pids.append(forked(words, fault, folder, env))
    return [ended(pid, work_dir) for pid, work_dir in zip(pids, places, strict=True)]


def run_job(job: dict, work: Path) -> dict | list[dict]:
    if job["ranks"] is not None:
        return run_ranks(job["words"], job["fault"], job["ranks"], work)
    return run(job["words"], job["fault"], work)


def serve() -> None:
    for line in sys.stdin:
        job = json.loads(line)
        os.chdir(job["folder"])
        os.environ.clear()
        os.environ.update(job["environment"])
        tempfile.tempdir = None  # it may be another one
        with tempfile.TemporaryDirectory() as folder:
            answer = json.dumps(run_job(job, Path(folder)))
        print(answer, flush=True)  # once nothing of the job is left


if __name__ == "__main__":
    serve()
