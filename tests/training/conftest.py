"""A tiny encoder with its task, a table of rows, and the loop over them, all real."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
import torch.nn.functional as F
from transformers import (
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    BertConfig,
)

from bertft.config.data import DataConfig
from bertft.config.trainer import TrainerConfig
from bertft.data.batch import LengthGroupedSampler
from bertft.data.features import FeatureTable, make_record_batch
from bertft.methods.component import MethodComponent, ParamGroup
from bertft.models.precision import Precision
from bertft.models.runner import EncoderRunner
from bertft.tasks.classification import ClassificationTask as Classification
from bertft.tasks.multi_label import MultiLabelTask as MultiLabel
from bertft.training.optim import build_optimizer
from bertft.training.signals import StopRequest
from bertft.training.step import Schedule, TrainStep
from bertft.training.trainer import Trainer, TrainingData
from bertft.training.trainer_state import TrainerState

POISON = 59  # the token whose embedding a test may make NaN
NAMES = ["a", "b", "c"]


class Tagging(Classification):
    """A class for some of the tokens, as a token-level task has it: -100 where there is none."""

    level = "token"

    def count_loss_terms(self, batch):
        return int((batch.labels["labels"] != -100).sum())

    def loss(self, logits, batch):
        return F.cross_entropy(logits, batch.labels["labels"], ignore_index=-100, reduction="sum")


TASKS = {"classification": Classification, "multi_label": MultiLabel, "tagging": Tagging}


@pytest.fixture
def task() -> Callable[[str], Any]:
    return lambda name="classification": TASKS[name](DataConfig(name="test"), NAMES)


@pytest.fixture
def table() -> Callable[..., FeatureTable]:
    """``table(lengths, task, poisoned=[rows], row=[...])`` with random tokens and labels."""

    def build(
        lengths: Iterable[int],
        task: str = "classification",
        poisoned: Iterable[int] = (),
        row: Iterable[int] | None = None,
    ) -> FeatureTable:
        lengths = list(lengths)
        generator = np.random.default_rng(7)
        ids = [generator.integers(5, POISON, length).astype(np.int32) for length in lengths]
        for number in poisoned:
            ids[number][0] = POISON
        labels: Any = generator.integers(0, 3, len(lengths))
        if task == "multi_label":
            labels = generator.integers(0, 2, (len(lengths), 3)).astype(np.float32)
        elif task == "tagging":  # the k-th row has k terms, or as many as it has tokens
            labels = [generator.integers(0, 3, length) for length in lengths]
            for number, label in enumerate(labels):
                label[number:] = -100
        rows = np.arange(len(lengths)) if row is None else np.asarray(list(row))
        batch = make_record_batch({"row": rows, "input_ids": ids, "labels": labels})
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, batch.schema) as writer:
            writer.write_batch(batch)
        return FeatureTable(sink.getvalue())

    return build


class Everything(MethodComponent):
    """All parameters at one rate; remembers what the step tells it. ``weight`` > 0 penalises."""

    name = "everything"

    def __init__(self, rate: float = 1e-2, weight: float = 0.0) -> None:
        self.rate, self.weight = rate, weight
        self.calls: list[str] = []
        self.seen: list[torch.Tensor] = []  # gradients of the last before_step
        self.ready_from = 0

    def attach(self, model):
        self.named = list(model.named_parameters())

    def param_groups(self, model):
        for decay in (True, False):
            chosen = tuple(pair for pair in self.named if (pair[1].dim() > 1) == decay)
            yield ParamGroup(f"{self.name}{'' if decay else '/no_decay'}", chosen, self.rate, decay)

    def extra_loss(self):
        self.calls.append("loss")
        if not self.weight:
            return None
        return 0.5 * self.weight * torch.stack([p.square().sum() for _, p in self.named]).sum()

    def before_step(self, step, total):
        self.calls.append("before")
        self.seen = [parameter.grad.clone() for _, parameter in self.named]

    def after_step(self, step, total, optimizer):
        self.calls.append("after")

    def is_eligible(self, step, total):
        return step >= self.ready_from

    def metrics(self):
        return {"weight": self.weight}

    def parameter_counts(self, model):
        return {}


@pytest.fixture
def stepper(task: Callable[[str], Any]) -> Callable[..., TrainStep]:
    """``stepper(task="classification", component=..., precision=..., clip=..., poisoned=...)``."""

    def build(
        name: str | Any = "classification",
        *,
        component: MethodComponent | None = None,
        precision: Precision | None = None,
        clip: float | None = None,
        layers: int = 2,
        dtype: torch.dtype = torch.float64,
        poisoned: bool = False,
        dropout: float = 0.0,
        layout: str = "auto",
    ) -> TrainStep:
        torch.manual_seed(0)
        chosen = task(name) if isinstance(name, str) else name
        config = BertConfig(
            vocab_size=60, hidden_size=12, num_hidden_layers=layers, num_attention_heads=2,
            intermediate_size=20, max_position_embeddings=32, initializer_range=0.3,
            hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout,
            **chosen.head_config(),
        )  # fmt: skip
        heads = {
            "sequence": AutoModelForSequenceClassification, "token": AutoModelForTokenClassification
        }  # fmt: skip
        model = heads[chosen.level].from_config(config).to(dtype)
        if poisoned:
            with torch.no_grad():
                model.get_input_embeddings().weight[POISON] = float("nan")
        component = component or Everything()
        component.attach(model)
        precision = precision or Precision("fp32", torch.device("cpu"))
        optimizer = build_optimizer(list(component.param_groups(model)), TrainerConfig())
        runner = EncoderRunner(model, chosen.level, layout)
        return TrainStep(runner, chosen, [component], optimizer, precision, clip)

    return build


@pytest.fixture
def everything() -> type[Everything]:
    return Everything


class Driven:
    """A loop and what came of it."""

    def __init__(self, loop: Trainer) -> None:
        self.loop, self.saved = loop, []
        self.events: list[Any] = []
        loop.save_checkpoint = self._save

    def _save(self, progress: TrainerState, best: bool) -> Path:
        self.saved.append((progress.step, best, progress.state_dict()))
        return Path(f"step-{progress.step}")

    def run(self, hear: Callable[[Any], None] = lambda event: None) -> Driven:
        for event in self.loop.run():
            self.events.append(event)
            hear(event)
        return self

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def names(self) -> list[str]:
        return [f"{type(event).__name__} {event.step}" for event in self.events]


@pytest.fixture
def drive(table: Callable[..., FeatureTable]) -> Callable[..., Driven]:
    """``drive(stepper, total=7, rows=10, batch_size=4, ...)``: 3 steps an epoch as it stands."""

    def build(
        stepper: TrainStep,
        total: int = 7,
        *,
        rows: FeatureTable | None = None,
        validation: FeatureTable | str | None = "own",
        progress: TrainerState | None = None,
        stop: StopRequest | None = None,
        warmup: float = 0.0,
        seed: int = 0,
        **changes: Any,
    ) -> Driven:
        settings = TrainerConfig(**{"batch_size": 4, "shuffle_window": 2, **changes})
        rows = rows or table([3, 9, 5, 7, 4, 6, 8, 3, 5, 10])
        sampler = LengthGroupedSampler(
            rows.lengths, settings.batch_size, seed, settings.shuffle_window
        )
        return Driven(
            Trainer(
                stepper,
                TrainingData(  # type: ignore[arg-type]
                    rows, rows if validation == "own" else validation, sampler, "rows.csv:{}".format
                ),
                Schedule(total, warmup, settings.schedule),
                settings,
                save_checkpoint=lambda progress, best: Path(),
                stop_request=stop or StopRequest(),
                state=progress,
            )
        )

    return build
