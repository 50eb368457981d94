"""Prefix-tuning: L trained keys and values before the sequence's own, in every layer.

    head(x) = softmax(q·[P_K; K]ᵀ/√d) · [P_V; V],     P [layers, 2, L, heads·d]

Li & Liang 2021 (arXiv 2101.00190, §4) train P through an MLP, Liu et al. 2022 (P-tuning v2,
arXiv 2110.07602, §3) directly. ``kind: prompt`` is prompt tuning (Lester et al. 2021,
arXiv 2104.08691): L vectors before the word embeddings, which take positions and length.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from bertft.config.method import MethodConfig
from bertft.config.method_components.prefix import PrefixConfig
from bertft.errors import UsageError
from bertft.methods.component import MethodComponent, NamedParameter
from bertft.models.families import encoder_family
from bertft.models.precision import at_least_fp32

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["PrefixTuning", "PrefixVectors", "PromptVectors", "build"]

_OTHER_METHODS = "Use method=lora or method=svd_lora, or a BERT, RoBERTa or ModernBERT"


def build(
    settings: PrefixConfig, method: MethodConfig, learning_rate: float | None
) -> PrefixTuning:
    """``learning_rate`` overrides ``settings.learning_rate``."""
    return PrefixTuning(settings, learning_rate or settings.learning_rate)


class PrefixVectors(nn.Module):
    """``prefix()`` → keys and values [layers, 2, L, width], directly or through an MLP."""

    casts_inputs = True

    def __init__(self, settings: PrefixConfig, layers: int, width: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.length, self.shift_positions = settings.length, settings.shift_positions
        self.shape = (layers, 2, settings.length, width)
        self.dropout = nn.Dropout(settings.dropout)
        self.mlp: nn.Sequential | None = None
        if settings.mlp:
            start = settings.start_scale * torch.randn(settings.length, width, dtype=dtype)
            self.vectors = nn.Parameter(start)
            self.mlp = nn.Sequential(
                nn.Linear(width, settings.mlp_hidden, dtype=dtype),
                nn.Tanh(),
                nn.Linear(settings.mlp_hidden, 2 * layers * width, dtype=dtype),
            )
        else:
            start = settings.start_scale * torch.randn(self.shape, dtype=dtype)
            self.vectors = nn.Parameter(start)

    def forward(self) -> Tensor:
        vectors: Tensor = self.vectors
        if self.mlp is not None:
            layers, _, length, width = self.shape
            vectors = self.mlp(vectors).view(length, layers, 2, width).permute(1, 2, 0, 3)
        return self.dropout(vectors)


class PromptVectors(nn.Module):
    """``prompt()`` → vectors [L, width] before the word embeddings of each sequence."""

    casts_inputs = True

    def __init__(self, settings: PrefixConfig, word_embeddings: Tensor, dtype: torch.dtype) -> None:
        super().__init__()
        # Starts at random word embeddings (Lester et al. 2021, §2.2).
        sampled_rows = torch.randint(word_embeddings.shape[0], (settings.length,))
        self.vectors = nn.Parameter(word_embeddings[sampled_rows].detach().to(dtype, copy=True))
        self.dropout = nn.Dropout(settings.dropout)

    def forward(self) -> Tensor:
        return self.dropout(self.vectors)


class PrefixTuning(MethodComponent):
    """Adds ``model.prefix`` or ``model.prompt``, which ``EncoderRunner`` uses."""

    name = "prefix"
    attach_order = 30
    foldable = False
    use_weight_decay = False

    def __init__(self, settings: PrefixConfig, learning_rate: float) -> None:
        self.settings, self.learning_rate = settings, learning_rate
        self.reserved_positions = 0
        if settings.kind == "prompt" or settings.shift_positions:
            self.reserved_positions = settings.length
        self._module: PrefixVectors | PromptVectors | None = None
        self._gradient_checked = False

    def attach(self, model: PreTrainedModel) -> None:
        """UsageError for an encoder whose attention is not ours (``supports_layouts``)."""
        family = encoder_family(model)
        if not family.supports_layouts:
            raise UsageError(
                f"a prefix is not supported in the attention of a {family.model_type} model",
                where="method.prefix",
                hint=_OTHER_METHODS,
            )
        word_embeddings = cast(nn.Embedding, model.get_input_embeddings()).weight
        dtype = at_least_fp32(word_embeddings.dtype)
        if self.settings.kind == "prompt":
            self._module = model.prompt = PromptVectors(self.settings, word_embeddings, dtype)
        else:
            self._module = model.prefix = PrefixVectors(
                self.settings, family.layers, family.kv_width, dtype
            )

    def named_parameters(self, model: nn.Module) -> Iterator[NamedParameter]:
        for name, parameter in model.named_parameters():
            if name.startswith(("prefix.", "prompt.")):
                yield name, parameter

    def after_step(self, step: int, total_steps: int, optimizer: Optimizer) -> None:
        """Check, after the first step, that the model uses the prefix."""
        if self._module is None or self._gradient_checked:
            return
        self._gradient_checked = True
        if self._module.vectors.grad is None:
            raise UsageError(
                "the attention of this model does not use the prefix, which has no gradient after"
                " the first step",
                where="method.prefix",
                hint=_OTHER_METHODS,
            )

    def parameter_counts(self, model: nn.Module) -> dict[str, int]:
        """An MLP is trained and kept; its result, the prefix, is exported."""
        counts = super().parameter_counts(model)
        if isinstance(self._module, PrefixVectors):
            counts["exported"] = math.prod(self._module.shape)
        return counts
