"""A whole training in a temporary folder: a tiny BERT, a few real steps through the real loop.

It needs neither network nor packages beyond the required ones: its tokenizer is made of the
sample's own words.
"""

from __future__ import annotations

import contextlib
import io
import math
import re
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from transformers import BertTokenizer

from bertft.commands import train
from bertft.config.commands import TrainConfig
from bertft.config.data import DataConfig
from bertft.config.method import MethodConfig
from bertft.config.model import ModelConfig
from bertft.config.parts.low_rank import LowRankConfig as LowRank
from bertft.config.trainer import TrainerConfig
from bertft.errors import BertftError, StoppedBySignal
from bertft.formats.figures import format_duration, format_bytes
from bertft.reports.doctor.finding import FAILED, OK, CheckResult
from bertft.runs.json_file import read_json_object
from bertft.samples import load_sample

__all__ = ["check_training"]

_STEPS = 6
_SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def check_training(device: str) -> CheckResult:
    """LoRA on the embedded sample, with evaluation and checkpoint; whatever fails is told."""
    start = time.perf_counter()
    with TemporaryDirectory() as name:
        folder = Path(name)
        try:
            captured_output = io.StringIO()
            with contextlib.redirect_stdout(captured_output):
                train.run(_build_tiny_config(folder, device), folder / "run")
            metrics = read_json_object(folder / "run" / "metrics.json")
        except StoppedBySignal as stopped:  # no finding about training, and nothing to resume
            raise StoppedBySignal(stopped.signum) from None
        except BertftError as error:
            return CheckResult("training", FAILED, error.what, error.hint or "")
        except Exception as error:  # whatever it is, training does not work here
            message = f"{type(error).__name__}: {error}".split("\n")[0]
            return CheckResult("training", FAILED, message, "bertft train shows where it comes from")
    loss, memory = metrics["train"]["loss"], metrics["train"]["peak_memory_bytes"]
    if not math.isfinite(loss):
        return CheckResult("training", FAILED, f"the loss is {loss}", "Try trainer.precision=fp32")
    return CheckResult(
        "training", OK,
        f"{_STEPS} steps of a tiny BERT, evaluated and saved, in"
        f" {format_duration(time.perf_counter() - start)}; loss {loss:.3f}, peak memory {format_bytes(memory)}",
    )  # fmt: skip


def _build_tiny_config(folder: Path, device: str) -> TrainConfig:
    architecture = {
        "model_type": "bert", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
        "intermediate_size": 128,
    }  # fmt: skip
    tokenizer = folder / "tokenizer"
    _build_tokenizer().save_pretrained(tokenizer)
    return TrainConfig(
        method=MethodConfig(name="lora", rank=4, low_rank=LowRank()),
        model=ModelConfig(
            name="tiny", tokenizer=str(tokenizer), weights="random", architecture=architecture
        ),
        data=DataConfig(
            name="sample", source="sample", sample="sentiment", max_train_rows=96,
            max_validation_rows=32, cache=str(folder / "cache"),
        ),
        trainer=TrainerConfig(max_steps=_STEPS, batch_size=16, device=device),
        quiet=True,
        report=False,
    )  # fmt: skip


def _build_tokenizer() -> BertTokenizer:
    """Of the words that stand in the sample."""
    words = sorted({word for text in load_sample("sentiment", "train")["text"]
                    for word in re.findall(r"\w+|[^\w\s]", text.casefold())})  # fmt: skip
    return BertTokenizer(vocab={word: index for index, word in enumerate([*_SPECIALS, *words])})
