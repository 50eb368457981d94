"""Which precision each kind of folder is opened in, whatever the CPU: one rule for all commands."""

from __future__ import annotations

import json

import numpy as np
import pytest
from small_runs import answers, read, run_bertft

from bertft.models import precision as module
from bertft.pipeline.open_model import open_model


@pytest.fixture(params=["fp32", "bf16"])
def run(request, trained):
    return trained("classification", "method=lora", f"trainer.precision={request.param}")


@pytest.fixture(params=[set(), {"avx512_bf16"}], ids=["CPU without bf16", "CPU with bf16"])
def cpu(request, monkeypatch):
    monkeypatch.setattr(module, "cpu_flags", lambda: request.param)
    monkeypatch.setattr(module.platform, "machine", lambda: "x86_64")


def name_of(folder, **settings):
    return open_model(str(folder), device="cpu", **settings).task_model.precision.name


def test_a_run_opens_in_its_own_precision_and_other_folders_in_fp32(run, cpu, work_dir):
    run_precision = read(run / "manifest.json")["precision"]
    assert run_bertft("merge", f"run={run}", "out=merged").status == 0
    assert run_bertft("export", f"run={run}", "out=adapter").status == 0
    assert name_of(run) == run_precision
    assert name_of("merged") == name_of("adapter") == "fp32"
    auto = module.choose_precision("auto", module.resolve_device("cpu")).name
    for folder in (run, "merged", "adapter"):
        assert name_of(folder, precision="bf16") == "bf16"
        assert name_of(folder, precision="auto") == auto


def test_every_folder_answers_in_either_precision(run, work_dir):
    """bf16 has 8 bits: what it answers is near to what fp32 answers, and is not the same."""
    assert run_bertft("merge", f"run={run}", "out=merged").status == 0
    assert run_bertft("export", f"run={run}", "out=adapter").status == 0
    stdin = "".join(json.dumps({"text": f"the film was {n} good"}) + "\n" for n in range(5))
    actual = {
        (folder, precision): np.array([
            list(answer["scores"].values())
            for answer in answers(
                run_bertft("predict", f"run={folder}", f"precision={precision}", stdin=stdin)
            )
        ])
        for folder in (run, "merged", "adapter")
        for precision in ("fp32", "bf16")
    }  # fmt: skip
    exact = actual[run, "fp32"]
    for (_, precision), scores in actual.items():
        near = precision == "bf16"
        np.testing.assert_allclose(scores, exact, rtol=0, atol=2e-2 if near else 1e-5)
        assert near != np.array_equal(np.round(scores, 5), np.round(exact, 5))


def test_a_run_of_fp16_says_what_to_do_without_cuda(copied, work_dir):
    run = copied("classification", "method=lora")
    manifest = run / "manifest.json"
    manifest.write_text(json.dumps({**read(manifest), "precision": "fp16"}))
    result = run_bertft("eval", f"run={run}", "device=cpu")
    assert result.refused and "was trained in fp16, which needs CUDA" in result.err
    assert (
        run_bertft("predict", f"run={run}", "precision=fp32", stdin='{"text": "a"}\n').status == 0
    )
