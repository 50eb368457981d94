"""Training speed on SST-2 against HF Trainer + peft, interleaved in one process.

    python -m benchmarks.sst2 [--data $BERTFT_DATA/sst2] [--quick] [--json FILE]

MiniLM-L6, batch 32, dropout as the model has it. Peers: LoRA r=8 by peft under HF Trainer, padded
to 128 (the classic scripts' default) or to the batch's longest (dynamic), fp32 and, where the
hardware multiplies it, bf16; full fine-tuning likewise. Ours: the same methods, ``bertft train``'s
own loop body, on the same rows.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.contenders import Contest, fixed_cost, ours, peer
from benchmarks.rounds import Result, Work, arguments, ceiling, interleave, machine, tell
from bertft.config.data import DataConfig
from bertft.config.model import ModelConfig
from bertft.data.features import featurize
from bertft.data.splits import load_splits
from bertft.models.precision import has_fast_bf16
from bertft.models.tokenizer import load_tokenizer
from bertft.tasks.task import build_task

__all__ = ["contest", "main"]

_BASE, _LONGEST = "all-MiniLM-L6-v2", 128
_ENCODER = 10_646_784  # parameters in MiniLM's six layers: those that a token is multiplied by


def contest(folder: Path | None, base: str = _BASE) -> Contest:
    """SST-2 of ``folder``, or the bundled sample, for the model at ``base``."""
    if folder is None:
        config = DataConfig(name="sample", source="sample", sample="sentiment")
    else:
        config = DataConfig(
            name="sst2", train=str(folder / "train.tsv"), validation=str(folder / "dev.tsv"),
            text="sentence", max_train_rows=8000,
        )  # fmt: skip
    splits = load_splits(config, ("train", "validation"))
    assert splits.train is not None and splits.validation is not None
    task = build_task(config, splits.class_names)
    tokenizer = load_tokenizer(ModelConfig(name="benchmark", path=base))
    encoder = task.make_encoder(tokenizer, _LONGEST)
    train, validation = (featurize(rows, encoder, [], None)
                         for rows in (splits.train, splits.validation))  # fmt: skip
    return Contest(
        base, task, tokenizer, train, validation, 32, _LONGEST, {"labels": "labels"}
    )  # fmt: skip


def _contenders(
    against: Contest, steps: int, bf16: bool
) -> tuple[dict[str, Work], dict[str, Work]]:
    training: dict[str, Work] = {}
    evaluation: dict[str, Work] = {}

    def add(name: str, pair: tuple[Work, Work], scored: bool = False) -> None:
        training[name] = pair[0]
        if scored:
            evaluation[name] = pair[1]

    add("padded_fp32", peer(against, "lora", "fixed", "fp32", steps))
    add("dynamic_fp32", peer(against, "lora", "longest", "fp32", steps), scored=True)
    add("full_dynamic_fp32", peer(against, "full", "longest", "fp32", steps))
    if bf16:
        add("dynamic_bf16", peer(against, "lora", "longest", "bf16", steps))
        add("full_dynamic_bf16", peer(against, "full", "longest", "bf16", steps))
    add("bertft_fp32", ours(against, "lora", "fp32", steps), scored=True)
    add("bertft_packed_fp32", ours(against, "lora", "fp32", steps, layout="packed"))
    add("bertft_svd_lora_prefix_fp32", ours(against, "svd_lora_prefix", "fp32", steps))
    add("bertft_full_fp32", ours(against, "full", "fp32", steps))
    if bf16:
        add("bertft_bf16", ours(against, "lora", "bf16", steps), scored=True)
        add("bertft_full_bf16", ours(against, "full", "bf16", steps))
    return training, evaluation


def _report(trained: dict[str, Result], scored: dict[str, Result], bf16: bool) -> dict[str, Any]:
    precision = "bf16" if bf16 else "fp32"
    mine = trained[f"bertft_{precision}"]
    pairs: dict[str, tuple[Result, Result]] = {
        name: (mine, trained[name])
        for name in ("padded_fp32", "dynamic_fp32", "dynamic_bf16")
        if name in trained
    }
    pairs["dynamic_fp32_ours_fp32"] = (trained["bertft_fp32"], trained["dynamic_fp32"])
    pairs["padded_fp32_ours_fp32"] = (trained["bertft_fp32"], trained["padded_fp32"])
    full = f"full_dynamic_{precision}"
    pairs[full] = (trained[f"bertft_full_{precision}"], trained[full])
    pairs["evaluation_dynamic_fp32"] = (scored[f"bertft_{precision}"], scored["dynamic_fp32"])
    peak = ceiling(torch.bfloat16 if bf16 else torch.float32)
    return {
        "ratios": {name: mine.over(theirs) for name, (mine, theirs) in pairs.items()},
        "ratios_in_cpu_time": {
            name: mine.over_in_cpu_time(theirs) for name, (mine, theirs) in pairs.items()
        },
        "samples_per_second": {name: result.summary() for name, result in trained.items()},
        "evaluation_samples_per_second": {
            name: result.summary() for name, result in scored.items()
        },
        "tokens_per_second": {
            name: statistics.median(result.tokens) for name, result in trained.items()
        },
        # Forward and the gradients of activations: 4 operations a parameter and real token.
        "mfu": 4 * _ENCODER * statistics.median(mine.tokens) / peak,
        "machine": machine(),
    }


def main(argv: Sequence[str] | None = None) -> None:
    parser = arguments(__doc__, "five minutes", "sst2")
    args = parser.parse_args(argv)
    against, bf16 = contest(args.data), has_fast_bf16(torch.device("cpu"))
    steps, rounds = (6, 3) if args.quick else (15, 7)
    training, evaluation = _contenders(against, steps, bf16)
    result = _report(
        interleave(training, rounds), interleave(evaluation, 2 if args.quick else 3), bf16
    )
    result["fixed_cost_of_a_step_in_cpu_ms"] = {
        precision: 1000 * fixed_cost(against, precision)
        for precision in (("fp32", "bf16") if bf16 else ("fp32",))
    }
    tell(result, args.json)


if __name__ == "__main__":
    main()
