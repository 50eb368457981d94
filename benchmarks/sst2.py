"""Training speed on SST-2 against HF Trainer + peft, interleaved in one process.

    python -m benchmarks.sst2 [--data $BERTFT_DATA/sst2] [--quick] [--json FILE]

MiniLM-L6, batch 32, dropout as the model has it. Peers: LoRA r=8 by peft under HF Trainer, padded
to 128 (the classic scripts' default) or to the batch's longest (dynamic), fp32 and, where the
hardware multiplies it, bf16; full fine-tuning likewise. Ours: the same methods, ``bertft train``'s
own loop body, on the same rows.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.rounds import Result, Work, ceiling, interleave, machine
from bertft.assembly.adapted import assemble
from bertft.config.data import DataConfig
from bertft.config.method import MethodConfig
from bertft.config.model import ModelConfig
from bertft.config.parts import part_settings
from bertft.config.trainer import TrainerConfig
from bertft.data.batch import collate
from bertft.data.features import FeatureTable, featurize
from bertft.data.order import TrainOrder
from bertft.data.sources import load
from bertft.methods import groups
from bertft.models.load import load_tokenizer
from bertft.models.precision import choose, multiplies_bf16
from bertft.models.source import find
from bertft.tasks import build
from bertft.tasks.task import BaseTask
from bertft.training import optimizer as adamw
from bertft.training.evaluate import evaluate
from bertft.training.step import Stepper

__all__ = ["main"]

_MODEL = ModelConfig(name="minilm", path="all-MiniLM-L6-v2")
_ENCODER = 10_646_784  # parameters in MiniLM's six layers: those that a token is multiplied by


class _Data:
    """The rows as features, and the task they are of."""

    def __init__(self, folder: Path | None) -> None:
        if folder is None:
            config = DataConfig(name="sample", source="sample", sample="sentiment")
        else:
            config = DataConfig(
                name="sst2", train=str(folder / "train.tsv"), validation=str(folder / "dev.tsv"),
                text="sentence", max_train_rows=8000,
            )  # fmt: skip
        splits = load(config, ("train", "validation"))
        assert splits.train is not None and splits.validation is not None
        self.task: BaseTask = build(config, splits.labels)
        self.tokenizer = load_tokenizer(_MODEL)
        encoder = self.task.encoder(self.tokenizer, 128)
        self.train = featurize(splits.train, encoder, [], None)
        self.validation = featurize(splits.validation, encoder, [], None)


def _method(name: str) -> Any:
    parts = part_settings()
    match name:
        case "full":
            return MethodConfig(name=name, base=parts["base"](), head_learning_rate=1e-4)
        case "svd_lora_prefix":
            low_rank = parts["low_rank"](kind="svd_lora")
            return MethodConfig(name=name, rank=8, low_rank=low_rank, prefix=parts["prefix"]())
        case _:
            return MethodConfig(name=name, rank=8, low_rank=parts["low_rank"]())


def _ours(data: _Data, method: str, precision: str, steps: int) -> tuple[Work, Work]:
    """Training and evaluation."""
    adapted = assemble(
        find("all-MiniLM-L6-v2"), _MODEL, _method(method), data.task, data.tokenizer,
        choose(precision, torch.device("cpu")),
    )  # fmt: skip
    optimizer = adamw.build(groups(adapted.parts, adapted.model), TrainerConfig())
    stepper = Stepper(adapted.runner, data.task, adapted.parts, optimizer, adapted.precision, 1.0)
    order = TrainOrder(data.train.lengths, 32, 0, 50)

    def train(number: int) -> tuple[int, int, float]:
        adapted.model.train()
        batches = order.epoch(0)[number * steps : (number + 1) * steps]
        samples = tokens = 0
        start = time.perf_counter()
        for at, indices in enumerate(batches):
            rows = indices[np.argsort(data.train.lengths[indices], kind="stable")]
            batch = collate(data.train, rows, data.task.label_columns)
            stepper([batch], number * steps + at + 1, 10_000)
            samples, tokens = samples + len(batch), tokens + len(batch.input_ids)
        return samples, tokens, time.perf_counter() - start

    def score(number: int) -> tuple[int, int, float]:
        start = time.perf_counter()
        evaluate(adapted.runner, data.task, data.validation, adapted.precision)
        seconds = time.perf_counter() - start
        return len(data.validation), int(data.validation.lengths.sum()), seconds

    return train, score


class _Rows(torch.utils.data.Dataset[dict[str, Any]]):
    """Features as HF Trainer wants them."""

    def __init__(self, table: FeatureTable) -> None:
        self.table = table

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, row: int) -> dict[str, Any]:
        at = np.asarray([row])
        return {
            "input_ids": self.table.gather("input_ids", at).tolist(),
            "labels": int(self.table.gather("labels", at)[0]),
        }


def _peer(data: _Data, method: str, padding: str, precision: str, steps: int) -> tuple[Work, Work]:
    """HF Trainer as its users write it; its own clock around each step, set-up left out."""
    import peft
    from transformers import (
        AutoModelForSequenceClassification,
        DataCollatorWithPadding,
        Trainer,
        TrainerCallback,
        TrainingArguments,
    )

    torch.manual_seed(0)
    model: Any = AutoModelForSequenceClassification.from_pretrained(
        find("all-MiniLM-L6-v2").load, num_labels=len(data.task.labels or ()), dtype=torch.float32
    )
    if method == "lora":
        config = peft.LoraConfig(
            task_type="SEQ_CLS", r=8, lora_alpha=16, lora_dropout=0.05,
            target_modules=["query", "value"],
        )  # fmt: skip
        model = peft.get_peft_model(model, config)

    class Clock(TrainerCallback):
        """Seconds inside training steps, data loading included."""

        def __init__(self) -> None:
            self.begun = self.seconds = 0.0

        def on_train_begin(self, *_: Any, **__: Any) -> None:
            self.begun = time.perf_counter()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            self.seconds = time.perf_counter() - self.begun

    clock = Clock()
    collator = DataCollatorWithPadding(
        data.tokenizer, **({"padding": "max_length", "max_length": 128} if padding == "128" else {})
    )
    folder = tempfile.mkdtemp()

    def trainer(number: int) -> Any:
        arguments = TrainingArguments(
            output_dir=folder, max_steps=steps, per_device_train_batch_size=32,
            per_device_eval_batch_size=32, learning_rate=1e-3, bf16=precision == "bf16",
            use_cpu=True, report_to=[], save_strategy="no", logging_strategy="no",
            disable_tqdm=True, seed=number,
        )  # fmt: skip
        return Trainer(
            model=model, args=arguments, train_dataset=_Rows(data.train),
            eval_dataset=_Rows(data.validation), data_collator=collator, callbacks=[clock],
        )  # fmt: skip

    def train(number: int) -> tuple[int, int, float]:
        trainer(number).train()
        samples = steps * 32
        return samples, round(samples * float(data.train.lengths.mean())), clock.seconds

    def score(number: int) -> tuple[int, int, float]:
        made = trainer(number)
        start = time.perf_counter()
        made.evaluate()
        seconds = time.perf_counter() - start
        return len(data.validation), int(data.validation.lengths.sum()), seconds

    return train, score


def _contenders(data: _Data, steps: int, bf16: bool) -> tuple[dict[str, Work], dict[str, Work]]:
    training: dict[str, Work] = {}
    evaluation: dict[str, Work] = {}

    def add(name: str, pair: tuple[Work, Work], scored: bool = False) -> None:
        training[name] = pair[0]
        if scored:
            evaluation[name] = pair[1]

    add("padded_fp32", _peer(data, "lora", "128", "fp32", steps))
    add("dynamic_fp32", _peer(data, "lora", "longest", "fp32", steps), scored=True)
    add("full_dynamic_fp32", _peer(data, "full", "longest", "fp32", steps))
    if bf16:
        add("dynamic_bf16", _peer(data, "lora", "longest", "bf16", steps))
        add("full_dynamic_bf16", _peer(data, "full", "longest", "bf16", steps))
    add("bertft_fp32", _ours(data, "lora", "fp32", steps), scored=True)
    add("bertft_svd_lora_prefix_fp32", _ours(data, "svd_lora_prefix", "fp32", steps))
    add("bertft_full_fp32", _ours(data, "full", "fp32", steps))
    if bf16:
        add("bertft_bf16", _ours(data, "lora", "bf16", steps))
        add("bertft_full_bf16", _ours(data, "full", "bf16", steps))
    return training, evaluation


def _report(trained: dict[str, Result], scored: dict[str, Result], bf16: bool) -> dict[str, Any]:
    own = "bf16" if bf16 else "fp32"
    ours = trained[f"bertft_{own}"]
    ratios = {
        name: ours.over(trained[name])
        for name in ("padded_fp32", "dynamic_fp32", "dynamic_bf16")
        if name in trained
    }
    ratios["dynamic_fp32_ours_fp32"] = trained["bertft_fp32"].over(trained["dynamic_fp32"])
    full = f"full_dynamic_{own}"
    ratios[full] = trained[f"bertft_full_{own}"].over(trained[full])
    ratios["evaluation_dynamic_fp32"] = scored["bertft_fp32"].over(scored["dynamic_fp32"])
    peak = ceiling(torch.bfloat16 if bf16 else torch.float32)
    return {
        "ratios": ratios,
        "samples_per_second": {
            name: {"median": each.median, "min": min(each.samples), "max": max(each.samples)}
            for name, each in trained.items()
        },
        "evaluation_samples_per_second": {name: each.median for name, each in scored.items()},
        "tokens_per_second": {
            name: statistics.median(each.tokens) for name, each in trained.items()
        },
        # Forward and the gradients of activations: 4 operations a parameter and real token.
        "mfu": 4 * _ENCODER * statistics.median(ours.tokens) / peak,
        "machine": machine(),
    }


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    known = os.environ.get("BERTFT_DATA")
    parser.add_argument("--data", type=Path, default=Path(known) / "sst2" if known else None)
    parser.add_argument("--quick", action="store_true", help="within five minutes on two cores")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(argv)
    data, bf16 = _Data(args.data), multiplies_bf16(torch.device("cpu"))
    steps, rounds = (4, 3) if args.quick else (15, 7)
    training, evaluation = _contenders(data, steps, bf16)
    result = _report(
        interleave(training, rounds), interleave(evaluation, 2 if args.quick else 3), bf16
    )
    text = json.dumps(result, indent=1)
    if args.json:
        args.json.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
