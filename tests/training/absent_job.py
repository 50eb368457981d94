"""Steps and a pass of evaluation on a device that is not there; a line of JSON a case.

python absent_job.py '{"name": ["method=lora", ...], ...}' <folder of the teachers' runs>
"""

from __future__ import annotations

import json
import sys
import tempfile
import traceback
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from absent import DEVICE, Watch
from torch.nn.functional import scaled_dot_product_attention

from bertft.config.compose import ComposeRequest, compose_config, to_dataclass
from bertft.data.features import FeatureTable
from bertft.models.attention import varlen
from bertft.models.frozen_layers import FrozenLayers
from bertft.models.runner import EncoderRunner
from bertft.pipeline import open_model, run_context
from bertft.pipeline.build import prepare_run
from bertft.runs.run_folder import RunFolder
from bertft.training import evaluate
from bertft.training.distributed import SINGLE_PROCESS
from bertft.training.step import build_step_batch, step_indices

STEPS = 2

for module in (run_context, open_model):
    module.resolve_device = lambda *_, **__: DEVICE  # type: ignore[attr-defined]
varlen.is_varlen_available = lambda device: (
    device == DEVICE
)  # torch knows the kernel's shapes on any device
# Under inference mode .to() is no operation that could be watched.
evaluate.torch = SimpleNamespace(**{**vars(torch), "inference_mode": torch.no_grad})  # type: ignore[attr-defined]


class Zeros:
    """Stored states without values, as the device has none: one vector per ``sizes``."""

    def __init__(self, sizes: np.ndarray, width: int) -> None:
        self.sizes, self.width = sizes, width

    def gather(self, indices: np.ndarray) -> torch.Tensor:
        return torch.zeros(int(self.sizes[indices].sum()), self.width)


def begin_after(layers: int, runner: EncoderRunner, table: FeatureTable) -> None:
    """Let batches of ``table`` begin after the first ``layers`` layers."""
    runner.frozen = FrozenLayers(runner.model, layers)
    lengths = np.asarray(table.lengths)
    sizes = np.ones_like(lengths) if runner.frozen.includes_all else lengths
    table.frozen_states = Zeros(sizes, runner.model.config.hidden_size)


def steps(words: list[str], watch: Watch) -> None:
    frozen = [int(word.partition("=")[2]) for word in words if word.startswith("frozen=")]
    words = [word for word in words if not word.startswith("frozen=")]
    with tempfile.TemporaryDirectory() as folder:
        # A cache of its own: what a teacher seems to answer here must not be found elsewhere.
        if not any(word.startswith("trainer.precision=") for word in words):
            words = [*words, "trainer.precision=fp32"]  # not what the CPU multiplies
        request = ComposeRequest(
            "train", (*words, f"hydra.run.dir={folder}/run", f"data.cache={folder}")
        )
        config = to_dataclass("train", compose_config(request))
        with Watch():
            context = run_context.RunContext.create(
                config, RunFolder(Path(folder) / "run"), lambda line: None
            )
            prepared = prepare_run(context)
    train_step, training = prepared.optimization.train_step, prepared.data.training
    task, micro = train_step.task, config.trainer.micro_batch or config.trainer.batch_size
    for layers in frozen:
        begin_after(layers, train_step.runner, training.train)
    train_step.runner.model.train()
    for number, (epoch, indices) in enumerate(step_indices(training.sampler, 0, STEPS), 1):
        window = build_step_batch(training.train, epoch, indices, micro, task, 0, SINGLE_PROCESS)
        with watch:
            assert train_step(window.micro_batches, number, STEPS).applied
    with watch:
        evaluate.evaluation_outputs(train_step.runner, task, training.train, train_step.precision)


def faults(words: list[str], watch: Watch) -> None:
    """Faults that must be detected, one by one."""
    with watch:
        there = torch.zeros(4, 4).to(DEVICE, non_blocking=True)
        scaled_dot_product_attention(there[None], there[None], there[None]).sum().tolist()
        match words[0]:
            case "number":
                float(there.sum())
            case "copy":
                there + torch.zeros(4).to(DEVICE)
            case "constant":
                there + torch.tensor([1.0, 2, 3, 4], device=DEVICE)
            case "index":
                there[torch.tensor([0, 2])]
            case "mixed":
                there + torch.zeros(4)


def main() -> None:
    for name, words in json.loads(sys.argv[1]).items():
        words = [word.replace("{teachers}", sys.argv[2]) for word in words]
        watch, result = Watch(), dict[str, Any](error=None)
        try:
            (faults if name.startswith("fault") else steps)(words, watch)
        except Exception as error:
            result["error"] = f"{error!r}\n{traceback.format_exc()[-2000:]}"
        print(json.dumps({name: {**result, "waits": watch.waits, "reads": watch.reads}}))


if __name__ == "__main__":
    main()
