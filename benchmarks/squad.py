"""Training speed on SQuAD v2 windows at BERT-base width, against HF Trainer + peft, interleaved.

    python -m benchmarks.squad --data $BERTFT_DATA [--layers 12] [--quick] [--memory] [--json FILE]

BERT-base's shape with random weights and bert-base-uncased's vocabulary, windows of 384 with a
stride of 128, batch 8, dropout 0.1. Peers: LoRA r=8 by peft under HF Trainer, padded to 384 (the
origin's way) or to the batch's longest. Ours: lora and svd_lora_prefix. ``--memory`` measures, in a
process each, the largest resident set of two training steps instead.

transformers' question answering loss takes its softmax over padding too; ours does not. Its cost is
the same.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.contenders import Contest, ours, peak_bytes, peer
from benchmarks.rounds import Work, arguments, ceiling, interleave, machine, tell
from bertft.config.data import DataConfig
from bertft.data.features import featurize
from bertft.data.splits import load_splits
from bertft.models.precision import has_fast_bf16
from bertft.tasks.task import build_task

__all__ = ["contest", "main", "save_base"]

_LONGEST = 384
_LAYER = 7_077_888  # parameters of one layer's six matrices at width 768


def save_base(folder: Path, vocabulary: Path, **shape: int) -> None:
    """A random BERT, of base width unless ``shape`` says more, and its tokenizer."""
    from transformers import AutoTokenizer, BertConfig, BertModel

    torch.manual_seed(0)
    BertModel(BertConfig.from_dict(dict(shape))).save_pretrained(folder)
    AutoTokenizer.from_pretrained(vocabulary).save_pretrained(folder)


def contest(data: Path, base: Path) -> Contest:
    """SQuAD v2's windows for the model at ``base``."""
    from transformers import AutoTokenizer

    config = DataConfig(
        name="squad_v2", task="question_answering", unanswerable=True,
        train=str(data / "squad_v2" / "train.json"),
        validation=str(data / "squad_v2" / "dev.json"),
        max_train_rows=2000, max_validation_rows=40, on_bad_row="skip",
    )  # fmt: skip
    splits = load_splits(config, ("train", "validation"))
    assert splits.train is not None and splits.validation is not None
    task, tokenizer = build_task(config, None), AutoTokenizer.from_pretrained(base)
    encoder = task.make_encoder(tokenizer, _LONGEST)
    train, validation = (
        featurize(rows, encoder, [], None) for rows in (splits.train, splits.validation)
    )
    labels = {"start_position": "start_positions", "end_position": "end_positions"}
    return Contest(str(base), task, tokenizer, train, validation, 8, _LONGEST, labels)


def _makers(bf16: bool) -> dict[str, Callable[[Contest, int], tuple[Work, Work]]]:
    """Name → what makes the contender for a contest and a number of steps a round."""
    makers: dict[str, Callable[[Contest, int], tuple[Work, Work]]] = {
        "padded_fp32": lambda c, n: peer(c, "lora", "fixed", "fp32", n),
        "dynamic_fp32": lambda c, n: peer(c, "lora", "longest", "fp32", n),
        "bertft_fp32": lambda c, n: ours(c, "lora", "fp32", n),
        "bertft_svd_lora_prefix_fp32": lambda c, n: ours(c, "svd_lora_prefix", "fp32", n),
    }
    if bf16:
        makers["dynamic_bf16"] = lambda c, n: peer(c, "lora", "longest", "bf16", n)
        makers["bertft_bf16"] = lambda c, n: ours(c, "lora", "bf16", n)
        makers["bertft_svd_lora_prefix_bf16"] = lambda c, n: ours(c, "svd_lora_prefix", "bf16", n)
    return makers


def _measure(against: Contest, layers: int, steps: int, rounds: int, bf16: bool) -> dict[str, Any]:
    made = {name: make(against, steps) for name, make in _makers(bf16).items()}
    trained = interleave({name: pair[0] for name, pair in made.items()}, rounds)
    precision = "bf16" if bf16 else "fp32"
    both = ("dynamic_fp32", f"bertft_{precision}")
    scored = interleave({name: made[name][1] for name in both}, max(1, rounds // 2))
    pairs = {
        f"{name}{suffix}": (trained[f"bertft{suffix}_{precision}"], trained[name])
        for suffix in ("", "_svd_lora_prefix")
        for name in ("padded_fp32", "dynamic_fp32", "dynamic_bf16")
        if name in trained
    }
    pairs["padded_fp32_ours_fp32"] = (trained["bertft_fp32"], trained["padded_fp32"])
    pairs["dynamic_fp32_ours_fp32"] = (trained["bertft_fp32"], trained["dynamic_fp32"])
    pairs["evaluation_dynamic_fp32"] = (scored[f"bertft_{precision}"], scored["dynamic_fp32"])
    peak = ceiling(torch.bfloat16 if bf16 else torch.float32)
    tokens = statistics.median(trained[f"bertft_{precision}"].tokens)
    return {
        "ratios": {name: mine.over(theirs) for name, (mine, theirs) in pairs.items()},
        "ratios_in_cpu_time": {
            name: mine.over_in_cpu_time(theirs) for name, (mine, theirs) in pairs.items()
        },
        "samples_per_second": {name: result.summary() for name, result in trained.items()},
        "mfu": 4 * layers * _LAYER * tokens / peak,
        "machine": machine(),
    }


def _memory(data: Path, base: Path, bf16: bool) -> dict[str, Any]:
    """Peak bytes of two steps, each contender in a process of its own."""
    peaks = {}
    for name in _makers(bf16):
        command = [sys.executable, "-W", "ignore", "-m", "benchmarks.squad", "--data", str(data),
                   "--base", str(base), "--only", name]  # fmt: skip
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        peaks[name] = int(done.stdout.splitlines()[-1])
    precision = "bf16" if bf16 else "fp32"
    share = peaks[f"bertft_{precision}"] / peaks[f"dynamic_{precision}"]
    return {"peak_bytes": peaks, "share_of_peer": share, "machine": machine()}


def main(argv: Sequence[str] | None = None) -> None:
    parser = arguments(__doc__, "five minutes")
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--memory", action="store_true", help="peak memory instead of speed")
    parser.add_argument("--base", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--only", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.data is None:
        parser.error("give --data, the folder with squad_v2 and vocab")
    bf16 = has_fast_bf16(torch.device("cpu"))
    if args.only:
        train, _ = _makers(bf16)[args.only](contest(args.data, args.base), 2)
        train(0)
        print(peak_bytes())
        return
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder) / "base"
        vocabulary = args.data / "vocab" / "bert-base-uncased"
        save_base(base, vocabulary, num_hidden_layers=args.layers)
        if args.memory:
            result = _memory(args.data, base, bf16)
        else:
            steps, rounds = (1, 3) if args.quick else (2, 5)
            result = _measure(contest(args.data, base), args.layers, steps, rounds, bf16)
    tell(result, args.json)


if __name__ == "__main__":
    main()
