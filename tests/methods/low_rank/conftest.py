"""A small random BERT in fp64, and the low-rank component as a configuration makes it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import BertConfig, BertForSequenceClassification

from bertft.config.method import MethodConfig
from bertft.config.method_components.low_rank import LowRankConfig
from bertft.methods.low_rank import LowRank, build

IDS = torch.randint(0, 64, (5, 9), generator=torch.Generator().manual_seed(3))
LABELS = torch.tensor([0, 1, 2, 0, 1])


@pytest.fixture
def bert() -> Callable[..., BertForSequenceClassification]:
    """Two layers, no dropout of its own, everything but the head frozen."""

    def make(seed: int = 0, dtype: torch.dtype = torch.float64) -> BertForSequenceClassification:
        torch.manual_seed(seed)
        config = BertConfig(
            vocab_size=64,
            hidden_size=24,
            num_hidden_layers=2,
            num_attention_heads=3,
            intermediate_size=40,
            max_position_embeddings=16,
            initializer_range=0.3,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            num_labels=3,
        )
        model = BertForSequenceClassification(config).to(dtype).eval()
        model.bert.requires_grad_(False)
        return model

    return make


@pytest.fixture
def build_component() -> Callable[..., LowRank]:
    """``build_component(kind="svd_lora", rank=4, interval=2)``."""

    def make(
        rank: int = 4, initial_rank: int | None = None, rate: float | None = None, **changes: Any
    ) -> LowRank:
        settings = LowRankConfig(**{"dropout": 0.0, **changes})
        method = MethodConfig(
            name="test", rank=rank, initial_rank=initial_rank, low_rank=settings
        )  # fmt: skip
        return build(settings, method, rate)

    return make


@pytest.fixture
def logits() -> Callable[[nn.Module], Tensor]:
    return lambda model: model(IDS).logits


@pytest.fixture
def gradients() -> Callable[[nn.Module], dict[str, Tensor]]:
    """Gradients of the classification loss, by parameter."""

    def of(model: nn.Module) -> dict[str, Tensor]:
        model.zero_grad()
        model(IDS, labels=LABELS).loss.backward()
        return {
            name: parameter.grad
            for name, parameter in model.named_parameters()
            if parameter.grad is not None
        }

    return of


@pytest.fixture
def stir() -> Callable[[nn.Module], None]:
    """Move every parameter of the updates away from its start."""

    def of(model: nn.Module, seed: int = 5) -> None:
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if ".adapter." in name:
                    parameter += 0.3 * torch.randn(
                        parameter.shape, generator=generator, dtype=parameter.dtype
                    )

    return of


class Run:
    """The training loop in miniature: AdamW over the component's groups, its hooks around it."""

    def __init__(self, model: nn.Module, component: LowRank, total: int) -> None:
        self.model, self.component, self.total, self.step = model, component, total, 0
        self.optimizer = torch.optim.AdamW(
            [
                {
                    "params": [parameter for _, parameter in group.parameters],
                    "lr": group.learning_rate,
                    "weight_decay": 0.01 if group.use_weight_decay else 0.0,
                }
                for group in component.param_groups(model)
            ]
        )
        self.generator = torch.Generator()

    def take(self, steps: int) -> Run:
        for _ in range(steps):
            self.step += 1
            self.generator.manual_seed(self.step)
            ids = torch.randint(0, 64, (4, 7), generator=self.generator)
            labels = torch.randint(0, 3, (4,), generator=self.generator)
            loss = self.model(ids, labels=labels).loss
            penalty = self.component.extra_loss()
            (loss if penalty is None else loss + penalty).backward()
            self.component.before_step(self.step, self.total)
            self.optimizer.step()
            self.component.after_step(self.step, self.total, self.optimizer)
            self.optimizer.zero_grad()
        return self


@pytest.fixture
def run() -> type[Run]:
    return Run
