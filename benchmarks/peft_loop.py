"""peft in a plain training loop, over the same rows and the same batches as bertft.

    python -m benchmarks.peft_loop --train sst2/train.tsv --validation sst2/dev.tsv \
        --text sentence --rows 8000 --method lora --rate 2e-3 --seed 0

Everything else is what a peft user writes: BertForSequenceClassification, get_peft_model, AdamW at
one learning rate, linear decay after 6 % warm-up, clipping at 1, dropout as the model has it, the
dev accuracy of the best epoch. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import contextlib
import inspect
import json
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from bertft.config.data import DataConfig
from bertft.config.model import ModelConfig
from bertft.data.batch import Batch, LengthGroupedSampler, collate, evaluation_batches
from bertft.data.features import FeatureTable, featurize
from bertft.data.splits import load_splits
from bertft.models.source import find_model_source
from bertft.models.tokenizer import load_tokenizer
from bertft.tasks.task import build_task
from bertft.training.step import lr_lambda

__all__ = ["main", "train"]


def _model(method: str, rank: int, length: int, labels: int) -> nn.Module:
    import peft
    from transformers import AutoModelForSequenceClassification

    folder = find_model_source("all-MiniLM-L6-v2").load
    base = AutoModelForSequenceClassification.from_pretrained(
        folder, num_labels=labels, dtype=torch.float32
    )
    if method == "full":
        return base
    if method == "lora":
        config: Any = peft.LoraConfig(
            task_type="SEQ_CLS", r=rank, lora_alpha=16, lora_dropout=0.05,
            target_modules=["query", "value"],
        )  # fmt: skip
    else:
        config = peft.PrefixTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=length)
        _name_the_cache(base.base_model)
    return peft.get_peft_model(base, config)


def _name_the_cache(encoder: nn.Module) -> None:
    """transformers 5.24 calls ``cache`` what peft 0.21 still passes as ``past_key_values``."""
    names = inspect.signature(encoder.forward).parameters
    if "past_key_values" in names or "cache" not in names:
        return
    forward = encoder.forward

    def renamed(*inputs: Any, past_key_values: Any = None, **others: Any) -> Any:
        return forward(*inputs, cache=past_key_values, **others)

    encoder.forward = renamed


def _padded(batch: Batch) -> dict[str, torch.Tensor]:
    pad = torch.nn.utils.rnn.pad_sequence
    lengths = batch.lengths.tolist()
    ids = pad(list(batch.input_ids.split(lengths)), batch_first=True)
    mask = pad([torch.ones(length, dtype=torch.long) for length in lengths], batch_first=True)
    return {"input_ids": ids, "attention_mask": mask}


def _precision(name: str) -> contextlib.AbstractContextManager[Any]:
    return torch.autocast("cpu", torch.bfloat16, enabled=name == "bf16")


def _accuracy(model: nn.Module, table: FeatureTable, precision: str) -> float:
    model.eval()
    right = 0
    with torch.inference_mode(), _precision(precision):
        for indices in evaluation_batches(table.lengths, 4096):
            batch = collate(table, indices, ("labels",))
            logits = model(**_padded(batch)).logits
            right += int((logits.argmax(-1) == batch.labels["labels"]).sum())
    model.train()
    return right / len(table)


def train(
    model: nn.Module, table: FeatureTable, validation: FeatureTable, args: argparse.Namespace
) -> list[float]:
    """Accuracy after each epoch."""
    order = LengthGroupedSampler(table.lengths, args.batch_size, args.seed, 50)
    total = order.steps_per_epoch * args.epochs
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=args.rate, weight_decay=0.01, fused=True)
    step, scores = 0, []
    model.train()
    for epoch in range(args.epochs):
        for indices in order.epoch_batches(epoch):
            step += 1
            for group in optimizer.param_groups:
                group["lr"] = args.rate * lr_lambda(step, total, 0.06, "linear")
            batch = collate(table, indices, ("labels",))
            with _precision(args.precision):
                logits = model(**_padded(batch)).logits
            loss = nn.functional.cross_entropy(logits.float(), batch.labels["labels"])
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        scores.append(_accuracy(model, validation, args.precision))
    return scores


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    for name in ("train", "validation"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--text", default="text")
    parser.add_argument("--label", default="label")
    parser.add_argument("--rows", type=int)
    parser.add_argument("--method", choices=("lora", "prefix", "full"), default="lora")
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--length", type=int, default=16)
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    args = parser.parse_args(argv)

    config = DataConfig(
        name="files", train=args.train, validation=args.validation, text=args.text,
        label=args.label, max_train_rows=args.rows,
    )  # fmt: skip
    splits = load_splits(config, ("train", "validation"))
    assert splits.train is not None and splits.validation is not None
    task = build_task(config, splits.class_names)
    tokenizer = load_tokenizer(ModelConfig(name="minilm", path="all-MiniLM-L6-v2"))
    encoder = task.make_encoder(tokenizer, 256)
    train_rows = featurize(splits.train, encoder, [], None)
    validation_rows = featurize(splits.validation, encoder, [], None)
    torch.manual_seed(args.seed)
    np.random.seed(args.seed)
    model = _model(args.method, args.rank, args.length, len(splits.class_names or ()))
    start = time.perf_counter()
    scores = train(model, train_rows, validation_rows, args)
    result = {
        "peer": f"peft {args.method}", "rate": args.rate, "seed": args.seed, "rows": args.rows,
        "accuracy": max(scores), "epochs": scores, "precision": args.precision,
        "seconds": time.perf_counter() - start,
    }  # fmt: skip
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
