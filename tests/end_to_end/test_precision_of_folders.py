"""Which precision each kind of folder is opened in, whatever the CPU: one rule for all commands."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from small_runs import QUICK, answers, read, run_bertft, write_csv

from bertft.export.equivalence import score_rows
from bertft.models import precision as module
from bertft.pipeline.check_rows import read_check_rows
from bertft.pipeline.open_model import open_model
from bertft.runs.run_folder import RunFolder


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


def test_the_difference_between_bf16_and_fp32_is_stated(run, work_dir):
    """It is that of the scores of the check rows, which predict gives for both folders."""
    result = run_bertft("merge", f"run={run}", "out=merged")
    assert result.status == 0, result
    stated = re.search(r"bf16, merged predicts in fp32: max \|Δlogit\| (\S+)", result.out)
    if read(run / "manifest.json")["precision"] == "fp32":
        assert stated is None
        return
    logits = []
    for folder in (run, "merged"):
        loaded = open_model(str(folder), device="cpu", data=open_model(str(run)).data)
        rows = read_check_rows(RunFolder(run).check_rows_path)
        logits.append(score_rows(loaded, rows)[0])
    difference = np.abs(logits[0] - logits[1]).max()
    assert difference > 1e-5 and float(stated[1]) == pytest.approx(difference, rel=0.1)
    assert "predicts in fp32" in run_bertft("export", f"run={run}", "out=adapter").out


def test_train_states_the_precision_once(work_dir):
    write_csv(work_dir / "a.csv", ("text", "label"), [("good", "x"), ("bad", "y")] * 10)
    words = ["a.csv", *QUICK, "check=true"]
    for precision in ("fp32", "bf16", "auto"):
        out = run_bertft(
            "train", *words, f"trainer.precision={precision}", "trainer.device=cpu"
        ).out
        (line,) = (line for line in out.splitlines() if "device cpu" in line)
        used = module.choose_precision(precision, module.resolve_device("cpu")).name
        assert line.startswith(f"model tiny, device cpu, precision {used}")
        assert ("trainer.precision=auto" in line) == (precision == "auto")


def test_a_run_of_fp16_states_what_to_do_without_cuda(copied, work_dir):
    run = copied("classification", "method=lora")
    manifest = run / "manifest.json"
    manifest.write_text(json.dumps({**read(manifest), "precision": "fp16"}))
    result = run_bertft("eval", f"run={run}", "device=cpu")
    assert result.refused and "was trained in fp16, which needs CUDA" in result.err
    assert (
        run_bertft("predict", f"run={run}", "precision=fp32", stdin='{"text": "a"}\n').status == 0
    )
