"""bertft and HF Trainer with peft over the same rows: what the benchmarks let work in turn.

Both run the classic hyperparameters, AdamW, clipping at 1, dropout as the model has it, and in a
round the very same rows, so that neither is lucky with short ones. The peer is what its users
write: Trainer's own loop, batches drawn at random, padded to a fixed length or to the batch's
longest. Ours is ``bertft train``'s loop body and its order of rows.
"""

from __future__ import annotations

import resource
import statistics
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from benchmarks.rounds import CPU, Stopwatch, Turn, Work
from bertft.config.method import MethodConfig
from bertft.config.model import ModelConfig
from bertft.config.registry import METHODS
from bertft.config.trainer import TrainerConfig
from bertft.data.batch import Batch, LengthGroupedSampler, collate
from bertft.data.features import FeatureTable
from bertft.methods import build_components, collect_param_groups
from bertft.models.precision import choose_precision
from bertft.models.source import find_model_source
from bertft.pipeline.task_model import TaskModel, build_task_model
from bertft.tasks.task import BaseTask
from bertft.training import optim as adamw
from bertft.training.evaluate import evaluate
from bertft.training.step import TrainStep
from bertft.utils.background import prefetch

__all__ = ["Contest", "fixed_cost", "ours", "peak_bytes", "peer"]

_WINDOW = 50  # trainer.shuffle_window's default


@dataclass
class Contest:
    """Rows, task and base; ``labels``: feature column → the name that the peer's model takes."""

    base: str
    task: BaseTask
    tokenizer: Any
    train: FeatureTable
    validation: FeatureTable
    batch_size: int
    longest: int
    labels: Mapping[str, str]
    device: torch.device = CPU

    @property
    def model(self) -> ModelConfig:
        return ModelConfig(name="benchmark", path=self.base)

    def drawn(self, number: int, steps: int) -> np.ndarray:
        """The features of a round of ``steps`` batches; no two of the first rounds share any."""
        order = np.random.default_rng(0).permutation(len(self.train))
        size = steps * self.batch_size
        return order[np.arange(number * size, (number + 1) * size) % len(order)]


def _method(name: str) -> Any:
    settings = {component: METHODS[component].settings for component in METHODS.names()}
    match name:
        case "full":
            return MethodConfig(name=name, base=settings["base"](), head_learning_rate=1e-4)
        case "svd_lora_prefix":
            low_rank = settings["low_rank"](kind="svd_lora")
            return MethodConfig(name=name, rank=8, low_rank=low_rank, prefix=settings["prefix"]())
        case _:
            return MethodConfig(name=name, rank=8, low_rank=settings["low_rank"]())


def _adapted(
    contest: Contest, method: str, precision: str, layout: str = "auto"
) -> tuple[TaskModel, TrainStep]:
    adapted = build_task_model(
        find_model_source(contest.base), contest.model, build_components(_method(method)),
        contest.task, contest.tokenizer,
        choose_precision(precision, contest.device), layout=layout,
    )  # fmt: skip
    optimizer = adamw.build_optimizer(
        collect_param_groups(adapted.components, adapted.model), TrainerConfig()
    )
    return adapted, TrainStep(
        adapted.runner, contest.task, adapted.components, optimizer, adapted.precision, 1.0
    )


def fixed_cost(contest: Contest, precision: str, tokens: int = 6, steps: int = 100) -> float:
    """Median CPU seconds of a LoRA step with one row of ``tokens`` on one thread: fixed cost."""
    adapted, stepper = _adapted(contest, "lora", precision)
    adapted.model.train()
    row = int(np.abs(contest.train.lengths.astype(np.int64) - tokens).argmin())
    batch = collate(contest.train, np.array([row]), contest.task.label_columns)
    threads, costs = torch.get_num_threads(), []
    torch.set_num_threads(1)  # waiting threads would count
    for step in range(steps):
        watch = Stopwatch(contest.device)
        stepper([batch.pin_memory(contest.device)], step + 1, 10_000)
        costs.append(watch.turn(1, 1).cpu_seconds)
    torch.set_num_threads(threads)
    return statistics.median(costs[steps // 10 :])


def ours(
    contest: Contest, method: str, precision: str, steps: int, layout: str = "auto"
) -> tuple[Work, Work]:
    """Training and evaluation."""
    task, table = contest.task, contest.train
    adapted, stepper = _adapted(contest, method, precision, layout)

    def train(number: int) -> Turn:
        adapted.model.train()
        drawn = contest.drawn(number, steps)
        lengths = table.lengths[drawn]
        order = LengthGroupedSampler(lengths, contest.batch_size, number, _WINDOW)

        def made(places: np.ndarray) -> Batch:
            rows = drawn[places[np.argsort(lengths[places], kind="stable")]]
            return collate(table, rows, task.label_columns).pin_memory(contest.device)

        watch = Stopwatch(contest.device)
        for at, batch in enumerate(prefetch(made(places) for places in order.epoch_batches(0))):
            stepper([batch], number * steps + at + 1, 10_000)
        return watch.turn(len(drawn), int(lengths.sum()))

    def score(_: int) -> Turn:
        rows = contest.validation
        watch = Stopwatch(contest.device)
        evaluate(adapted.runner, task, rows, adapted.precision)
        return watch.turn(len(rows), int(rows.lengths.sum()))

    return train, score


class _Rows(torch.utils.data.Dataset[dict[str, Any]]):
    """``drawn`` features as HF Trainer wants them, made before a clock runs."""

    def __init__(self, table: FeatureTable, labels: Mapping[str, str], drawn: np.ndarray) -> None:
        names = [name for name in ("input_ids", "token_type_ids") if name in table.columns]
        self.rows = [
            {name: table.gather(name, drawn[[row]]).tolist() for name in names}
            | {
                theirs: int(table.gather(column, drawn[[row]])[0])
                for column, theirs in labels.items()
            }
            for row in range(len(drawn))
        ]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> dict[str, Any]:
        return self.rows[row]


def _peer_model(contest: Contest, method: str) -> Any:
    import peft
    import transformers

    torch.manual_seed(0)
    settings = contest.task.head_config()
    model: Any = getattr(transformers, contest.task.auto_class).from_pretrained(
        find_model_source(contest.base).load, dtype=torch.float32, **settings
    )
    if method == "full":
        return model
    # No task_type: under that of question answering peft would drop the token types.
    head = sorted({name.split(".")[0] for name, _ in model.named_parameters()} - {"bert"})
    config = peft.LoraConfig(
        r=8, lora_alpha=16, lora_dropout=0.05, target_modules=["query", "value"],
        modules_to_save=head,
    )  # fmt: skip
    return peft.get_peft_model(model, config)


def peer(
    contest: Contest, method: str, padding: str, precision: str, steps: int
) -> tuple[Work, Work]:
    """HF Trainer with peft; its own clock around the steps, set-up left out."""
    from transformers import DataCollatorWithPadding, Trainer, TrainerCallback, TrainingArguments

    class Clock(TrainerCallback):
        """Time inside training steps, data loading included."""

        def on_train_begin(self, *_: Any, **__: Any) -> None:
            self.watch = Stopwatch(contest.device)

        def on_step_end(self, args: Any, state: Any, *rest: Any, **more: Any) -> None:
            if state.global_step == steps:
                self.spent = self.watch.turn(0, 0)

    model, clock = _peer_model(contest, method), Clock()
    collator = DataCollatorWithPadding(contest.tokenizer)
    if padding == "fixed":
        collator.padding, collator.max_length = "max_length", contest.longest
    folder = tempfile.mkdtemp()
    validation = contest.validation
    score_rows = _Rows(validation, contest.labels, np.arange(len(validation)))

    def trainer(number: int, train_rows: _Rows | None = None) -> Any:
        arguments = TrainingArguments(
            output_dir=folder, max_steps=steps, seed=number, learning_rate=1e-3,
            per_device_train_batch_size=contest.batch_size,
            per_device_eval_batch_size=contest.batch_size, bf16=precision == "bf16",
            use_cpu=contest.device.type == "cpu", report_to=[], save_strategy="no",
            logging_strategy="no", disable_tqdm=True, label_names=list(contest.labels.values()),
        )  # fmt: skip
        return Trainer(
            model=model, args=arguments, train_dataset=train_rows, eval_dataset=score_rows,
            data_collator=collator, callbacks=[clock],
        )  # fmt: skip

    def train(number: int) -> Turn:
        drawn = contest.drawn(number, steps)
        trainer(number, _Rows(contest.train, contest.labels, drawn)).train()
        tokens = int(contest.train.lengths[drawn].sum())
        return clock.spent._replace(samples=len(drawn), tokens=tokens)

    def score(number: int) -> Turn:
        made = trainer(number)
        watch = Stopwatch(contest.device)
        made.evaluate()
        return watch.turn(len(validation), int(validation.lengths.sum()))

    return train, score


def peak_bytes() -> int:
    """Largest resident set of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
