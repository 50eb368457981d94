"""Count the files of bertft that one idea passes through, by tracing a tiny run.

    python tools/trace_files.py step    one LoRA step: its batch, forward, backward, optimizer
    python tools/trace_files.py row     a CSV row: from opening its file to the first batch

A file counts if a function defined in it runs while one of ROOTS is on the stack, in any thread.
Code that runs on import does not count. ``--roots`` replaces the functions (by qualified name),
which also counts another commit: put its checkout first in PYTHONPATH.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import os
import runpy
import sys
import tempfile
import threading
from collections import Counter, defaultdict
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

ROOTS = {
    "step": ["Trainer.make_step_batch", "Trainer.run_step"],
    "row": ["load_splits", "build_features", "Trainer.make_step_batch"],
}
SETTINGS = [
    "model=tiny", "method=lora", "trainer.threads=1", "trainer.batch_size=8",
    "trainer.max_steps=1", "trainer.device=cpu", "trainer.precision=fp32",
    "data=files", "data.train=train.csv", "data.validation=validation.csv",
    "report=false", "quiet=true", "hydra.run.dir=run",
]  # fmt: skip
_IS_FUNCTION = 1  # the code flag CO_OPTIMIZED: set for functions, not for modules and class bodies


class FileTracer:
    """Calls for each file below ``folder``, made while a function named in ``roots`` runs."""

    def __init__(self, folder: Path, roots: list[str]) -> None:
        self.prefix, self.roots = f"{folder}{os.sep}", set(roots)
        self.calls: dict[str, Counter[str]] = defaultdict(Counter)
        self.roots_seen: set[str] = set()
        self._thread = threading.local()

    def __enter__(self) -> FileTracer:
        threading.setprofile(self._profile)
        sys.setprofile(self._profile)
        return self

    def __exit__(self, *error: object) -> None:
        sys.setprofile(None)
        threading.setprofile(None)

    def _profile(self, frame: FrameType, event: str, _: Any) -> None:
        if event not in ("call", "return"):
            return
        code, thread = frame.f_code, self._thread
        change = 1 if event == "call" else -1
        if code.co_name == "<module>" and frame.f_globals.get("__name__") != "__main__":
            thread.imports = getattr(thread, "imports", 0) + change
        if not code.co_filename.startswith(self.prefix):
            return
        if code.co_qualname in self.roots:
            self.roots_seen.add(code.co_qualname)
            thread.depth = getattr(thread, "depth", 0) + change
        if event == "call":
            self._count(code)

    def _count(self, code: CodeType) -> None:
        is_inside = getattr(self._thread, "depth", 0) > 0
        is_import = getattr(self._thread, "imports", 0) > 0 or not code.co_flags & _IS_FUNCTION
        if is_inside and not is_import:
            name = code.co_filename.removeprefix(self.prefix)
            self.calls[name][code.co_qualname] += 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("path", choices=tuple(ROOTS))
    parser.add_argument("--roots", nargs="+", help="qualified names of the functions to trace")
    parser.add_argument("--verbose", action="store_true", help="also list the functions called")
    parser.add_argument("settings", nargs="*", help="further settings of the training run")
    arguments = parser.parse_args()
    roots = arguments.roots or ROOTS[arguments.path]
    tracer = trace_training(roots, arguments.settings)
    missing = set(roots) - tracer.roots_seen
    if missing:
        parser.error(f"no function named {', '.join(sorted(missing))} was called")
    for file, functions in sorted(tracer.calls.items()):
        print(f"{file:<40} {functions.total():>6} calls, {len(functions):>3} functions")
        if arguments.verbose:
            print("".join(f"    {name} ({count})\n" for name, count in functions.items()), end="")
    print(f"{len(tracer.calls)} files")
    return 0


def trace_training(roots: list[str], settings: list[str]) -> FileTracer:
    """A run of one step on CSV files, traced, in a temporary folder."""
    os.environ.update(OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1")
    import bertft

    package = Path(bertft.__file__).parent
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        os.environ["BERTFT_CACHE"] = str(Path(folder) / "cache")
        write_rows(Path("train.csv"), 32)
        write_rows(Path("validation.csv"), 16)
        output = io.StringIO()
        tracer = FileTracer(package, roots)
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output), tracer:
            status = run_bertft(["train", *SETTINGS, *settings])
    if status:
        raise SystemExit(f"bertft train ended with status {status}\n{output.getvalue()}")
    return tracer


def run_bertft(arguments: list[str]) -> int:
    """The exit status of ``python -m bertft``, run in this process."""
    sys.argv = ["bertft", *arguments]
    try:
        runpy.run_module("bertft", run_name="__main__")
    except SystemExit as exit_:
        return int(exit_.code or 0)
    return 0


def write_rows(path: Path, count: int) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for number in range(count):
            label = ("good", "bad")[number % 2]
            writer.writerow([f"this is a {label} film, number {number}", label])


if __name__ == "__main__":
    raise SystemExit(main())
