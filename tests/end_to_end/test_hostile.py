"""A run or a model that somebody else made, with malice: refused by name, and nothing is run."""

from __future__ import annotations

import json
import os
import pickle
import resource
import shutil
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_runs import QUICK, CliResult, read, run_bertft, write_task

from bertft.runs.files_json import write_files_json

LINE = '{"text": "the film was good"}\n'
RUN = ("classification", "method=lora")


def best(run: Path) -> Path:
    return (run / "checkpoints" / "best").resolve()


def resealed(folder: Path) -> None:
    """Its author knows how to write a listing too."""
    (folder / "files.json").unlink()
    write_files_json(folder)


def tried(run: Path) -> list[CliResult]:
    """Every command that loads from a run; a file of a few bytes costs little memory."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result = [
        run_bertft("predict", f"run={run}", stdin=LINE),
        run_bertft("eval", f"run={run}", "hydra.run.dir=scored"),
        run_bertft("merge", f"run={run}", "out=merged"),
    ]
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before  # kB
    assert grown < 500_000
    return result


def header(shape, size=0):
    content = {"x": {"dtype": "F32", "shape": shape, "data_offsets": [0, size]}}
    text = json.dumps(content).encode()
    return struct.pack("<Q", len(text)) + text


@pytest.mark.parametrize(
    "content",
    [
        header([1 << 40, 1 << 40]), header([-1]), header([1 << 62], 1 << 62),
        struct.pack("<Q", 1 << 60) + b"{}", struct.pack("<Q", 2) + b"[]", b"\0" * 7, b"",
        struct.pack("<Q", 200_000) + b"[" * 200_000,
    ],
    ids=["huge", "negative", "huge offsets", "huge header", "list", "short", "empty", "nested"],
)  # fmt: skip
def test_tensors_that_are_none(copied, content):
    run = copied(*RUN)
    (best(run) / "adapter.safetensors").write_bytes(content)
    resealed(best(run))
    for result in tried(run):
        assert result.refused and "adapter.safetensors" in result.err, result


def test_a_pickle_is_never_opened(copied, work_dir):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(work_dir / "bomb"),)

    run = copied(*RUN)
    (best(run) / "adapter.safetensors").write_bytes(pickle.dumps(Bomb()))
    torch.save({"x": torch.zeros(1)}, best(run) / "adapter.bin")
    resealed(best(run))
    for result in tried(run):
        assert result.refused and "adapter.safetensors" in result.err, result
    assert not (work_dir / "bomb").exists()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(copied, value):
    run = copied(*RUN)
    file = best(run) / "adapter.safetensors"
    tensors = load_file(file)
    tensors[max(tensors)].view(-1)[0] = value
    save_file(tensors, file)
    resealed(best(run))
    for result in tried(run):
        assert result.refused and f"{max(tensors)} is not finite" in result.err, result


def test_a_merged_model_that_is_not_finite(copied, work_dir):
    assert run_bertft("merge", f"run={copied(*RUN)}", "out=merged").status == 0
    file = work_dir / "merged" / "model.safetensors"
    tensors = load_file(file)
    tensors[min(tensors)].view(-1)[0] = float("nan")
    save_file(tensors, file, metadata={"format": "pt"})
    result = run_bertft("predict", "run=merged", stdin=LINE)
    assert result.refused and f"{min(tensors)} is not finite" in result.err, result


def test_tensors_of_another_shape_or_name(copied):
    run = copied(*RUN)
    file = best(run) / "adapter.safetensors"
    whole = load_file(file)
    for name, tensors in (
        ("shape", {**whole, max(whole): torch.zeros(3)}),
        ("has no", {name: whole[name] for name in whole if name != max(whole)}),
        ("unknown", {**whole, "../../x": torch.zeros(1)}),
    ):
        save_file(tensors, file)
        resealed(best(run))
        result = run_bertft("predict", f"run={run}", stdin=LINE)
        assert result.refused and name in result.err, result


def test_a_link_out_of_the_folder(copied, work_dir):
    run = copied(*RUN)
    file = best(run) / "adapter.safetensors"
    shutil.move(file, work_dir / "elsewhere.safetensors")
    file.symlink_to(work_dir / "elsewhere.safetensors")
    for result in tried(run):
        assert result.refused and "adapter.safetensors: is a link" in result.err, result
    shutil.move(best(run), work_dir / "step-99")
    os.unlink(run / "checkpoints" / "best")
    for target in (work_dir / "step-99", "../../step-99", "step-16/../../../step-99"):
        (run / "checkpoints" / "best").symlink_to(target)
        result = run_bertft("predict", f"run={run}", stdin=LINE)
        assert result.refused and "which is not a checkpoint" in result.err, result
        os.unlink(run / "checkpoints" / "best")


@pytest.mark.parametrize(
    "change",
    [
        {"max_length": 1 << 60}, {"max_length": -1}, {"max_length": "9"}, {"task": "../../tasks"},
        {"task": "os"}, {"labels": ["neg", "pos", "x"]}, {"labels": 3}, {"more": 1}, {"step": None},
    ],
    ids=str,
)  # fmt: skip
def test_facts_that_cannot_be(copied, change):
    run = copied(*RUN)
    facts = best(run) / "bertft.json"
    facts.write_text(json.dumps({**read(facts), **change}))
    resealed(best(run))
    result = run_bertft("predict", f"run={run}", stdin=LINE)
    assert result.refused, result


@pytest.mark.parametrize(
    "change",
    [
        {"base": {"name": "x", "kind": "folder", "load": "../../../etc", "revision": None,
                  "sha256": None}},
        {"base": {"name": "x", "kind": "odd", "load": "/", "revision": None, "sha256": None}},
        {"base": []}, {"base": {"name": 3, "kind": "folder", "load": 3, "revision": None,
                                "sha256": 3}},
        {"labels": None}, {"precision": "fp8"}, {"layout": "odd"}, {"data": None},
    ],
    ids=lambda change: str(change)[:40],
)  # fmt: skip
def test_a_manifest_that_cannot_be(copied, change):
    run = copied(*RUN)
    manifest = run / "manifest.json"
    manifest.write_text(json.dumps({**read(manifest), **change}))
    result = run_bertft("predict", f"run={run}", stdin=LINE)
    assert result.refused, result


@pytest.mark.parametrize(
    "text",
    ["!!python/object/apply:os.mkdir [bomb]", "model: ${oc.env:HOME}\n",
     "data: {name: '${oc.env:HOME}'}\n", "data: {name: 'a ${seed}'}\n", "seed: [", "x: 1\n",
     "a: &a [*a]\n", "method: {name: ${oc.decode:'[1'}}\n"],
)  # fmt: skip
def test_a_config_that_cannot_be(copied, work_dir, text):
    run = copied(*RUN)
    (run / "config.yaml").write_text(text)
    result = run_bertft("predict", f"run={run}", stdin=LINE)
    assert result.status == 2 and result.out == "" and "Traceback" not in result.err, result
    assert not (work_dir / "bomb").exists()


def test_code_next_to_a_model_is_not_run(work_dir):
    """trust_remote_code is false unless somebody says so."""
    folder = work_dir / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({
        "model_type": "mine", "architectures": ["Mine"],
        "auto_map": {"AutoConfig": "mine.Config", "AutoModel": "mine.Model"},
    }))  # fmt: skip
    (folder / "mine.py").write_text(f"import os\nos.mkdir({str(work_dir / 'bomb')!r})\n")
    save_file({"x": torch.zeros(1)}, folder / "model.safetensors")
    data = write_task(work_dir, "classification")
    result = run_bertft("train", *QUICK[1:], *data, f"model.path={folder}", "model.name=mine")
    assert result.refused and not (work_dir / "bomb").exists(), result
