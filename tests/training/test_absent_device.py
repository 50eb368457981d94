"""The path of a GPU without one: nothing of the CPU among its tensors, and no step that waits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from torch.utils import backend_registration

from bertft.cli.app import main

HERE = Path(__file__).parent
FEW = ["data.max_train_rows=16", "trainer.batch_size=8", "model=tiny"]
CASES = {
    f"{method}, {layout}": [f"method={method}", f"trainer.layout={layout}", *FEW]
    for method in ("full", "svd_lora_prefix")
    for layout in ("unpadded", "packed", "padded")
}
# Autocast where the base trains; frozen weights cast once where it does not.
CASES |= {
    f"{name}, bf16": [*words, "trainer.precision=bf16"]
    for name, words in {
        "full, rows": ["method=full", "trainer.layout=packed", *FEW],
        "bitfit": ["method=bitfit", *FEW],
        "magnitudes": ["method=lora", "method.low_rank.use_dora=true", *FEW],
        "full, answers": ["data=sample_qa", "method=full", *FEW],
    }.items()
}
CASES |= {
    "bitfit": ["method=bitfit", *FEW],
    "penalty, micro-batches": [
        "method=svd_lora", "method.low_rank.orthogonality=0.1", "trainer.micro_batch=4", *FEW
    ],
    "magnitudes": ["method=lora", "method.low_rank.use_dora=true", *FEW],
    "prompt": ["method=prefix", "method.prefix.kind=prompt", *FEW],
    "varlen kernel": ["method=svd_lora_prefix", "trainer.precision=bf16", *FEW],
    "distillation": [
        "method=distill", "method.distill.teacher={teachers}/texts",
        "method.distill.hidden_weight=0.3", "method.distill.attention_weight=0.2",
        "method.distill.relation_weight=0.7", *FEW,
    ],
    "distilled answers": [
        "data=sample_qa", "method=distill", "method.distill.teacher={teachers}/questions", *FEW
    ],
    "distilled tags": [
        "data=sample_ner", "method=distill", "method.distill.teacher={teachers}/tags", *FEW
    ],
    "stored states of all layers": ["method=head", "frozen=2", *FEW],
    "stored states of a layer": ["method=last_k", "method.base.last_k=1", "frozen=1", *FEW],
    "tokens": ["data=sample_ner", "method=lora", *FEW],
    "answers": ["data=sample_qa", "method=svd_lora_prefix", *FEW],
}  # fmt: skip
FAULTS = {f"fault: {kind}": [kind] for kind in ("number", "copy", "constant", "index", "mixed")}


TEACHERS = {"texts": "sample", "questions": "sample_qa", "tags": "sample_ner"}


@pytest.fixture(scope="module")
def teachers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of one step for each kind of task."""
    folder = tmp_path_factory.mktemp("teachers")
    for name, data in TEACHERS.items():
        words = [f"data={data}", f"hydra.run.dir={folder / name}", "trainer.max_steps=1", *FEW]
        assert main(["train", *words, f"data.cache={folder}", "report=false", "quiet=true"]) == 0
    return folder


@pytest.fixture(scope="module")
def results(teachers: Path) -> dict[str, dict]:
    if not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"):
        pytest.skip("this torch takes no device written in Python")
    job = subprocess.run(
        [sys.executable, str(HERE / "absent_job.py"), json.dumps(CASES | FAULTS), str(teachers)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE.parents[1])},
        capture_output=True, text=True,
    )  # fmt: skip
    assert job.returncode == 0, job.stderr[-3000:]
    lines = [json.loads(line) for line in job.stdout.splitlines() if line.startswith("{")]
    return {name: result for line in lines for name, result in line.items()}


def test_no_method_layout_or_task_mixes_devices_or_waits(results):
    """A step reads its losses and norm once; evaluation fetches all that it held at its end."""
    actual = {name: results[name] for name in CASES}
    assert {name: result["error"] for name, result in actual.items() if result["error"]} == {}
    assert {name: result["waits"] for name, result in actual.items() if result["waits"]} == {}
    assert {result["reads"] for result in actual.values()} == {2 + 1}


def test_what_would_wait_is_found_out(results):
    waits = {name: results[f"fault: {name}"]["waits"] for name in ("number", "copy", "constant")}
    assert waits["number"] == ["a number is read: here"]
    assert waits["copy"] == ["a copy is waited for: here"] == waits["constant"]
    assert results["fault: index"]["waits"] == ["indices of the CPU are fetched: here"]
    assert "on the same device" in results["fault: mixed"]["error"]
