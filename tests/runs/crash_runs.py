"""A process of its own for what must not happen to the tests': it forks children and kills them.

    crash_runs.py kill <start> <work> <scenario>
        for n = 1, 2, ...: copy <start> to <work>/n, fork a child that saves there and is killed
        at its n-th point; ends when a child gets through
    crash_runs.py twice <start> <work> <scenario>
        the same to what goes on after a kill
    crash_runs.py fill <run>
        save on a small file system until it is full

Each prints one line of JSON. It imports what it saves with and nothing else, so forks are cheap.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from bertft.errors import SystemResourceError
from bertft.runs.checkpoints import CheckpointStore
from bertft.runs.run_folder import RunFolder
from bertft.utils import failpoints
from bertft.utils.atomic_io import atomic_write_json


def writer(step: int):
    """Files as a trainer has them: some written plainly, one atomically, one a folder below."""

    def write(folder: Path) -> None:
        (folder / "adapter.bin").write_bytes(bytes([step]) * 5000)
        (folder / "tokenizer").mkdir()
        (folder / "tokenizer" / "vocab.txt").write_text("[PAD]\n酒店\n", encoding="utf-8")
        atomic_write_json(folder / "labels.json", ["neg", "pos"])
        failpoints.failpoint("write state.json")
        (folder / "state.json").write_text(json.dumps({"step": step}))

    return write


def tensor_writer(step: int):
    import safetensors.torch  # noqa: F401  (here, and not again in every child)
    import torch

    from bertft.runs.tensor_files import write_tensors

    def write(folder: Path) -> None:
        write_tensors(folder / "adapter.safetensors", {"a": torch.full([64, 8], float(step))})
        write_tensors(folder / "state.safetensors", {"moment": torch.arange(step)})

    return write


def tree(folder: Path) -> dict[str, bytes | str]:
    """Every name in ``folder``: the bytes of a file, where a link points, "/" of a folder."""
    actual: dict[str, bytes | str] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            actual[name] = f"-> {os.readlink(path)}"
        else:
            actual[name] = "/" if path.is_dir() else path.read_bytes()
    return actual


def raised(error: type[Exception], call):
    """What ``call()`` gives, or the ``error`` that it raises."""
    try:
        return call()
    except error as raised_error:
        return raised_error


def no_links(*_, **__):
    raise OSError(1, "Operation not permitted")


def save(run: Path, scenario: str) -> None:
    """What the child of ``scenario`` does; a run that goes on does it again."""
    kind, *options = scenario.split("+")
    if kind == "create":
        RunFolder(run).create("seed: 1\n", {"version": "0.1.0"})
        return
    link = os.symlink
    if "files" in options:
        os.symlink = no_links
    try:
        write = (tensor_writer if "tensors" in options else writer)(30)
        CheckpointStore(run / "checkpoints", keep=1).save(30, write, best=kind == "best")
    finally:
        os.symlink = link


def killed_child(run: Path, scenario: str, number: int) -> int:
    """The wait status of a child that is killed at its ``number``-th point."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            with failpoints.install_hook(failpoints.kill_at_failpoint(number)):
                save(run, scenario)
            status = 0
        finally:
            os._exit(status)
    return os.waitpid(child, 0)[1]


def kill(start: Path, work: Path, scenario: str) -> dict:
    if "tensors" in scenario:
        tensor_writer(1)  # imports once, for all children
    statuses = []
    while not statuses or statuses[-1] == 9:
        run = work / str(len(statuses) + 1)
        shutil.copytree(start, run, symlinks=True)
        statuses.append(killed_child(run, scenario, len(statuses) + 1))
    return {"statuses": statuses}


def kill_twice(start: Path, work: Path, scenario: str) -> dict:
    """Every third point of what goes on after a kill at every second point."""
    statuses, first = [], 1
    while True:
        once = work / f"once-{first}"
        shutil.copytree(start, once, symlinks=True)
        if killed_child(once, scenario, first) != 9:
            shutil.rmtree(once)
            return {"statuses": statuses}
        second, status = 1, 9
        while status == 9:
            run = work / str(len(statuses) + 1)
            shutil.copytree(once, run, symlinks=True)
            status = killed_child(run, scenario, second)
            statuses.append(status)
            second += 3
        shutil.rmtree(once)
        first += 2


def fill(run: Path) -> dict:
    """On a file system of 600 KB: what happens when each kind of writer meets its end."""
    import tokenizers
    import torch

    from bertft.runs.tensor_files import write_tensors

    def plain(folder):
        (folder / "adapter.bin").write_bytes(bytes(900_000))

    def tensors(folder):
        write_tensors(folder / "adapter.safetensors", {"a": torch.zeros(300_000)})

    def tokenizer(folder):
        words = {f"word-{number}": number for number in range(50_000)}
        tokenizers.Tokenizer(tokenizers.models.WordLevel(words, "word-0")).save(
            str(folder / "tokenizer.json")
        )

    RunFolder(run).create("", {})
    checkpoints = CheckpointStore(run / "checkpoints")
    checkpoints.save(10, writer(10), best=True)
    content = {}
    for write in (plain, tensors, tokenizer):
        try:
            checkpoints.save(20, write, best=True)
        except SystemResourceError as error:
            content[write.__name__] = str(error)
    names = sorted(os.listdir(checkpoints.folder))
    checkpoints.save(20, writer(20), best=True)
    os.system(f"mount -o remount,ro {run.parent}")
    try:
        checkpoints.save(30, writer(30), best=True)
    except SystemResourceError as error:
        content["readonly"] = str(error)
    return {"told": content, "names": names, "last": checkpoints.find_checkpoint("last").name}


if __name__ == "__main__":
    _, what, *words = sys.argv
    if what == "fill":
        result = fill(Path(words[0]))
    else:
        start, work, scenario = words
        result = {"kill": kill, "twice": kill_twice}[what](Path(start), Path(work), scenario)
    print(json.dumps(result))
