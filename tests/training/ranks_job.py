"""Two processes over gloo and one alone: prints a line of JSON, what each case came to.

    ranks_job.py <port>

The parent imports, then forks its ranks; they write what they found into files, and it compares
them with what it gets alone.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
import pyarrow as pa
import torch
from conftest import NAMES, TASKS, Everything
from transformers import (
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    BertConfig,
)

from bertft.config.data import DataConfig
from bertft.config.trainer import TrainerConfig
from bertft.data.features import FeatureTable, make_record_batch
from bertft.errors import SystemResourceError
from bertft.models.precision import Precision
from bertft.models.runner import EncoderRunner
from bertft.tasks.masked_lm.encoding import MaskingVocabulary
from bertft.tasks.masked_lm.task import MaskedLMTask as MaskedLM
from bertft.training import optim as adamw
from bertft.training import random_state
from bertft.training.distributed import SINGLE_PROCESS, DistributedContext
from bertft.training.evaluate import evaluate, predict_logits
from bertft.training.step import TrainStep, build_step_batch

SIZE = 2
KINDS = {**TASKS, "masked_lm": MaskedLM}
# (task, type, rows of the step, rows a forward pass): uneven shares, and a rank without any row.
CASES = [
    ("classification", "float64", 8, 8), ("classification", "float64", 7, 2),
    ("classification", "float64", 1, 4), ("multi_label", "float64", 5, 1),
    ("tagging", "float64", 7, 2), ("tagging", "float64", 2, 2),
    ("classification", "float32", 7, 2), ("tagging", "float32", 7, 4),
    ("masked_lm", "float64", 7, 2),
]  # fmt: skip


def table(task: str) -> FeatureTable:
    generator = np.random.default_rng(3)
    lengths = [3, 9, 5, 7, 4, 6, 8, 5]
    ids = [generator.integers(5, 59, length).astype(np.int32) for length in lengths]
    labels: Any = generator.integers(0, 3, len(lengths))
    if task == "multi_label":
        labels = generator.integers(0, 2, (len(lengths), 3)).astype(np.float32)
    elif task == "tagging":  # the first row has no term at all
        labels = [np.where(np.arange(n) < row, 1, -100) for row, n in enumerate(lengths)]
    columns = {"row": np.arange(len(lengths)), "input_ids": ids}
    if task == "masked_lm":
        columns["word"] = [np.arange(n, dtype=np.int32) for n in lengths]
    else:
        columns["labels"] = labels
    batch = make_record_batch(columns)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return FeatureTable(sink.getvalue())


def stepper(name: str, kind: str, ranks: DistributedContext, dropout: float = 0.0) -> TrainStep:
    torch.manual_seed(0)
    task = KINDS[name](DataConfig(name="test"), NAMES)
    config = BertConfig(
        vocab_size=60, hidden_size=12, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=20, max_position_embeddings=32, initializer_range=0.3,
        hidden_dropout_prob=dropout, attention_probs_dropout_prob=0.0, **task.head_config(),
    )  # fmt: skip
    auto: Any = AutoModelForSequenceClassification
    if name == "masked_lm":
        auto = AutoModelForMaskedLM
        task.vocabulary = MaskingVocabulary(
            4, np.arange(5), np.arange(5, 60)
        )  # as an encoder leaves it
    elif task.level == "token":
        auto = AutoModelForTokenClassification
    model = auto.from_config(config).to(getattr(torch, kind))
    model.register_parameter("idle", torch.nn.Parameter(torch.ones(3)))
    component = Everything(weight=0.1)
    component.attach(model)
    component.extra_loss = lambda: (
        0.05 * sum(p.square().sum() for n, p in component.named if n != "idle")
    )
    component.before_step = lambda step, total: None
    optimizer = adamw.build_optimizer(list(component.param_groups(model)), TrainerConfig())
    runner = EncoderRunner(model, task.level)
    precision = Precision("fp32", torch.device("cpu"))
    return TrainStep(runner, task, [component], optimizer, precision, 1.0, ranks)


def run_cases(ranks: DistributedContext) -> dict[str, Any]:
    """Everything that is compared, as a rank (or one process alone) has it."""
    content: dict[str, Any] = {}
    for name, kind, rows, micro in CASES:
        made, data = stepper(name, kind, ranks), table(name)
        window = build_step_batch(data, 1, np.arange(rows), micro, made.task, 3, ranks)
        loss, penalty, _ = made.compute_gradients(window.micro_batches)
        gradients = [parameter.grad for parameter in made.parameters]
        outcome = stepper(name, kind, ranks)(window.micro_batches, 1, 10)
        content[f"{name} {kind} {rows} {micro}"] = {
            "rows": sum(len(batch) for batch in window.micro_batches),
            "none": sum(gradient is None for gradient in gradients),
            "numbers": torch.cat(
                [loss.reshape(1).double(), penalty.reshape(1).double()]
                + [torch.tensor([outcome.loss, outcome.gradient_norm]).double()]
                + [gradient.flatten().double() for gradient in gradients if gradient is not None]
            ),
        }
    for name in ("classification", "tagging"):
        made, data = stepper(name, "float32", ranks), table(name)
        logits = predict_logits(made.runner, data, made.precision, max_tokens=10, distributed=ranks)
        content[f"logits of {name}"] = torch.from_numpy(logits)
        few = predict_logits(made.runner, data, made.precision, distributed=ranks)  # a batch in all
        content[f"few logits of {name}"] = torch.from_numpy(few)
    for name in ("classification", "masked_lm"):
        made, data = stepper(name, "float32", ranks), table(name)
        content[f"metrics of {name}"] = evaluate(
            made.runner, made.task, data, made.precision, ranks
        )
    random_state.seed_all(5)
    random_state.seed_per_rank(5, ranks.rank)
    content["draw"] = torch.rand(4)
    content["signal"] = ranks.all_reduce_max(15 if ranks.rank == 1 else 0)
    return content


def rank(number: int, port: str, file: Path) -> None:
    os.environ |= {
        "RANK": str(number), "LOCAL_RANK": str(number), "WORLD_SIZE": str(SIZE),
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port,
    }  # fmt: skip
    ranks = DistributedContext.initialize()
    content = run_cases(ranks)
    torch.save(content, file)
    ranks.barrier()
    if number == 1:
        os._exit(0)  # without a word to the other one
    try:
        ranks.barrier()
    except SystemResourceError as error:
        content["gone"] = str(error)
    torch.save(content, file)


def main(port: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder, str(number)) for number in range(SIZE)]
        children = []
        for number, file in enumerate(files):
            child = os.fork()
            if child == 0:
                try:
                    rank(number, port, file)
                finally:
                    os._exit(0)
            children.append(child)
        for child in children:
            os.waitpid(child, 0)
        alone = run_cases(SINGLE_PROCESS)
        both = [torch.load(file, weights_only=False) for file in files]
    result: dict[str, Any] = {"gone": both[0]["gone"], "cases": {}}
    for case in alone:
        one, many = alone[case], [results[case] for results in both]
        if isinstance(one, dict) and "numbers" in one:
            result["cases"][case] = {
                "shares": [result["rows"] for result in many],
                "none": [result["none"] for result in (one, *many)],
                "equal": bool(torch.equal(many[0]["numbers"], many[1]["numbers"])),
                "off": float((many[0]["numbers"] - one["numbers"]).abs().max()),
                "norm": float(one["numbers"][3]),
            }  # fmt: skip
        elif case == "draw":
            result["draw"] = [bool(torch.equal(tensor, one)) for tensor in many]
        elif isinstance(one, torch.Tensor):
            result[case] = [bool(torch.equal(tensor, one)) for tensor in many]
        else:
            result[case] = [one, *many]
    return result


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps(main(sys.argv[1])))
