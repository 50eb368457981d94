"""Command lines and small files: what the tests of real runs say, write and read."""

from __future__ import annotations

import atexit
import contextlib
import csv
import io
import json
import os
import random
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import IO, Any

from bertft.cli.app import main

# Few steps of a tiny model, on one thread and so with the same bits everywhere.
QUICK = (
    "model=tiny", "trainer.threads=1", "trainer.batch_size=8", "report=false", "trainer.epochs=2",
)  # fmt: skip
CRASH = Path(__file__).with_name("crash_training.py")
_GOOD = ("good", "great", "fine", "lovely", "superb")
_BAD = ("bad", "awful", "poor", "dull", "horrid")
_THINGS = ("film", "book", "meal", "room", "song", "plot")


class CliResult:
    """What a command line printed and ended with."""

    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err

    def __repr__(self) -> str:
        return f"status {self.status}\n{self.out}\n{self.err}"

    @property
    def refused(self) -> bool:
        """Wrong use, reported in one message and without a traceback."""
        one = self.err.count("error: ") == 1 and "Traceback" not in self.err
        return self.status == 2 and one and self.out == ""


class Stdin(io.StringIO):
    """Text as a program has it on its standard input."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.buffer = io.BytesIO(text.encode())


def run_bertft(*words: object, stdin: str = "") -> CliResult:
    """Run a command line given as words."""
    out, err = io.StringIO(), io.StringIO()
    before, sys.stdin = sys.stdin, Stdin(stdin)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = main([str(word) for word in words])
    finally:
        sys.stdin = before
    return CliResult(status, out.getvalue(), err.getvalue())


def opinion(rng: random.Random, positive: bool) -> str:
    """A short text that a bag of words can tell."""
    word = rng.choice(_GOOD if positive else _BAD)
    return f"the {rng.choice(_THINGS)} was {word}, {rng.choice(_THINGS)} {rng.randrange(1000)}"


def write_csv(path: Path, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Path:
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([columns, *rows])
    return path


def write_classes(path: Path, count: int, seed: int, names=("neg", "pos")) -> Path:
    rng = random.Random(seed)
    rows = [(opinion(rng, bool(n % 2)), names[n % 2]) for n in range(count)]
    return write_csv(path, ("text", "label"), rows)


def write_task(folder: Path, task: str) -> list[str]:
    """Files for ``task`` in ``folder``, and the words that train on them."""
    if task == "question_answering":
        return ["data=sample_qa", "data.max_train_rows=40", "data.max_validation_rows=30"]
    if task == "token_classification":
        return ["data=sample_ner", "data.max_train_rows=40", "data.max_validation_rows=30"]
    rng = random.Random(7)
    words = ["data=files", f"data.train={folder / 'train.csv'}", f"data.test={folder / 'test.csv'}"]
    for name, count in (("train", 64), ("validation", 24), ("test", 16)):
        kinds = [bool(n % 2) for n in range(count)]
        texts = [opinion(rng, kind) for kind in kinds]
        if task == "classification":
            columns, rows = ("text", "label"), [
                (text, "pos" if kind else "neg")
                for text, kind in zip(texts, kinds, strict=True)
            ]  # fmt: skip
        elif task == "pair":
            columns, rows = ("one", "two", "label"), [
                (text, opinion(rng, n % 3 == 0), "same" if kind == (n % 3 == 0) else "other")
                for n, (text, kind) in enumerate(zip(texts, kinds, strict=True))
            ]  # fmt: skip
        elif task == "multi_label":
            columns, rows = ("text", "label"), [
                (text, "|".join([*["pos"] * kind, *["long"] * (n % 3 == 0)]))
                for n, (text, kind) in enumerate(zip(texts, kinds, strict=True))
            ]  # fmt: skip
        else:
            columns, rows = ("text", "label"), [
                (text, round(rng.random() + 2 * kind, 3))
                for text, kind in zip(texts, kinds, strict=True)
            ]  # fmt: skip
        write_csv(folder / f"{name}.csv", columns, rows)
    if task == "pair":
        words.append("data.text=[one,two]")
    elif task != "classification":
        words.append(f"data.task={task}")
    return [*words, f"data.validation={folder / 'validation.csv'}"]


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]


def answers(result: CliResult) -> list[dict[str, Any]]:
    """The answers on stdout."""
    assert result.status == 0, result
    return [json.loads(line) for line in result.out.splitlines()]


@cache
def _crashing() -> tuple[subprocess.Popen[str], IO[str]]:
    """The process and its stderr, a file since a pipe may fill up.

    Started once, for it takes seconds to import what a run needs.
    """
    errors = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115
    process = subprocess.Popen(
        [sys.executable, CRASH], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=errors, env={**os.environ, "OMP_NUM_THREADS": "1"}, process_group=0,
    )  # fmt: skip
    atexit.register(process.communicate)  # its input ends, and so does it
    return process, errors


# For one job, which takes seconds on an idle core: only what hangs takes as long on a loaded one.
JOB_LIMIT = 900


def crash(jobs: Sequence[tuple[Any, ...]], limit: float = JOB_LIMIT) -> list[Any]:
    """What became of each ``(words, fault)``, or ``(words, fault, ranks)``, one after the other.

    AssertionError names the job that takes more than ``limit`` seconds.
    """
    try:
        return [_result(*job, limit=limit) for job in jobs]
    except BaseException:
        process, _ = _crashing()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # and the runs that it forked
        _crashing.cache_clear()  # the next call starts another one
        raise


def _result(
    words: Sequence[object],
    fault: str | None,
    ranks: int | None = None,
    *,
    limit: float,
) -> Any:
    """What the process says of one job."""
    process, errors = _crashing()
    assert process.stdin and process.stdout
    job = {
        "folder": os.getcwd(),
        "environment": {**os.environ, "OMP_NUM_THREADS": "1"},
        "words": [str(word) for word in words], "fault": fault, "ranks": ranks,
    }  # fmt: skip
    process.stdin.write(json.dumps(job) + "\n")
    process.stdin.flush()
    answered, _, _ = select.select([process.stdout], [], [], limit)
    what = f"{' '.join(job['words'])} (fault: {fault}, ranks: {ranks})"
    assert answered, f"took more than {limit} s and was killed: {what}"
    line = process.stdout.readline()
    if not line:
        errors.seek(0)
        raise AssertionError(f"ended the process that ran it: {what}\n{errors.read()}")
    return json.loads(line)


def outcome(run: Path) -> dict[str, object]:
    """All that a run leaves and that does not depend on the clock."""
    actual: dict[str, object] = {}
    for name in ("last", "best"):
        folder = (run / "checkpoints" / name).resolve()
        actual[name] = folder.name
        for file in sorted(folder.iterdir()):
            if file.name not in ("files.json", "state.json"):
                actual[f"{name}/{file.name}"] = file.read_bytes()
    actual["steps"] = sorted(path.name for path in (run / "checkpoints").iterdir())
    actual["metrics.jsonl"] = (run / "metrics.jsonl").read_bytes()
    metrics = read(run / "metrics.json")
    actual["result"] = {name: metrics[name] for name in ("best", "validation", "test")}
    actual["train"] = (metrics["train"]["steps"], metrics["train"]["loss"])
    actual["files"] = sorted(path.name for path in run.iterdir())
    return actual
