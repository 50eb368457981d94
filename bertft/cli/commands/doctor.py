"""``bertft doctor``: check what this machine supports and whether training works on it."""

from __future__ import annotations

import contextlib
import io
import math
import re
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from transformers import BertTokenizer

from bertft.cli.commands import train
from bertft.config.command_configs import DoctorConfig, TrainConfig
from bertft.config.data import DataConfig
from bertft.config.method import MethodConfig
from bertft.config.method_components.low_rank import LowRankConfig
from bertft.config.model import ModelConfig
from bertft.config.trainer import TrainerConfig
from bertft.errors import BertftError, StoppedBySignal, SystemResourceError
from bertft.models.precision import resolve_device
from bertft.report import doctor
from bertft.report.console import plain_console
from bertft.report.doctor import FAILED, OK, CheckResult, checks_table
from bertft.samples import load_sample
from bertft.utils.messages import first_line, format_list
from bertft.utils.numbers import format_bytes, format_duration
from bertft.utils.safe_files import read_json_object
from bertft.utils.status import show_status

__all__ = [
    "check_training",
    "run",
]


_STEPS = 6
_SPECIAL_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def check_training(device: str) -> CheckResult:
    """Train LoRA on the bundled data set for a few steps, with evaluation and checkpoint."""
    start = time.perf_counter()
    with TemporaryDirectory() as name:
        folder = Path(name)
        try:
            captured_output = io.StringIO()
            with contextlib.redirect_stdout(captured_output):
                train.run(_build_tiny_config(folder, device), folder / "run")
            metrics = read_json_object(folder / "run" / "metrics.json")
        except StoppedBySignal as stopped:  # not a result, and there is nothing to resume
            raise StoppedBySignal(stopped.signum) from None
        except BertftError as error:
            return CheckResult("training", FAILED, error.what, error.hint or "")
        except Exception as error:  # any error means that training does not work
            message = first_line(f"{type(error).__name__}: {error}")
            return CheckResult("training", FAILED, message, "Run bertft train for the traceback")
    loss, memory = metrics["train"]["loss"], metrics["train"]["peak_memory_bytes"]
    if not math.isfinite(loss):
        return CheckResult("training", FAILED, f"the loss is {loss}", "Try trainer.precision=fp32")
    return CheckResult(
        "training",
        OK,
        f"{_STEPS} steps of a tiny BERT, evaluated and saved, in"
        f" {format_duration(time.perf_counter() - start)}; loss {loss:.3f}, peak memory"
        f" {format_bytes(memory)}",
    )


def _build_tiny_config(folder: Path, device: str) -> TrainConfig:
    architecture = {
        "model_type": "bert",
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 128,
    }
    tokenizer = folder / "tokenizer"
    _build_tokenizer().save_pretrained(tokenizer)
    return TrainConfig(
        method=MethodConfig(name="lora", rank=4, low_rank=LowRankConfig()),
        model=ModelConfig(
            name="tiny", tokenizer=str(tokenizer), weights="random", architecture=architecture
        ),
        data=DataConfig(
            name="sample",
            source="sample",
            sample="sentiment",
            max_train_rows=96,
            max_validation_rows=32,
            cache=str(folder / "cache"),
        ),
        trainer=TrainerConfig(max_steps=_STEPS, batch_size=16, device=device),
        quiet=True,
        report=False,
    )


def _build_tokenizer() -> BertTokenizer:
    """A tokenizer of the words in the bundled data set."""
    words = sorted(
        {
            word
            for text in load_sample("sentiment", "train")["text"]
            for word in re.findall(r"\w+|[^\w\s]", text.casefold())
        }
    )
    return BertTokenizer(
        vocab={word: index for index, word in enumerate([*_SPECIAL_TOKENS, *words])}
    )


def run(config: DoctorConfig, _: Path) -> None:
    """Print the results of all checks. SystemResourceError (status 4) if training does not work."""
    show_status("checking this machine and training a tiny model")
    results = list(_run_checks(config))
    plain_console().print(checks_table(results))
    failed = [result for result in results if result.status == FAILED]
    if failed:
        names = format_list([result.name for result in failed])
        raise SystemResourceError(
            f"training does not work on this machine; failed checks: {names}",
            hint=failed[0].advice or None,
        )
    notes = sum(result.status != OK for result in results)
    suffix = f" ({notes} {'note' if notes == 1 else 'notes'} above)" if notes else ""
    print(f"training works on this machine{suffix}. Start with bertft train")


def _run_checks(config: DoctorConfig) -> Iterator[CheckResult]:
    network_results = doctor.start_hub_check(config.timeout)  # runs during the other checks
    yield doctor.check_versions()
    yield doctor.check_cpu()
    yield from doctor.check_gpus()
    yield doctor.check_offline_base()
    yield doctor.check_hub_login()
    yield doctor.check_disk("disk (runs)", Path("outputs"))
    yield doctor.check_disk("disk (cache)")
    try:
        device = resolve_device(config.device)
    except SystemResourceError as error:
        yield CheckResult("device", FAILED, error.what, error.hint or "")
    else:
        yield doctor.check_matmul(device)
        yield check_training(config.device)
    yield from network_results()
