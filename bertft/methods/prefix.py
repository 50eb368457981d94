"""Prefix-tuning: L trained keys and values before the sequence's own, in every layer.

    head(x) = softmax(q·[P_K; K]ᵀ/√d) · [P_V; V],     P [layers, 2, L, heads·d]

Li & Liang 2021 (arXiv 2101.00190, §4) train P through an MLP, Liu et al. 2022 (P-tuning v2,
arXiv 2110.07602, §3) directly. ``kind: prompt`` is the input-embedding form of Lester et al. 2021
(arXiv 2104.08691): L vectors before the word embeddings, which take positions and length.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from bertft.config.method_components.prefix import PrefixConfig
from bertft.errors import BertftError, UsageError
from bertft.methods.component import MethodComponent, ParamGroup
from bertft.models.families import EncoderFamily, encoder_family

__all__ = ["PrefixTuning", "PrefixVectors", "PromptVectors", "build"]


def build(settings: PrefixConfig, method: Any, learning_rate: float | None) -> PrefixTuning:
    """``learning_rate`` overrides ``settings.learning_rate``."""
    return PrefixTuning(settings, learning_rate or settings.learning_rate)


class PrefixVectors(nn.Module):
    """``prefix()`` → keys and values [layers, 2, L, width]; with an MLP, Embedding → 2 linears."""

    casts_itself = True

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
    """``prompt()`` → vectors [L, width] that stand before the word embeddings of each sequence."""

    casts_itself = True

    def __init__(self, settings: PrefixConfig, word_embeddings: Tensor, dtype: torch.dtype) -> None:
        super().__init__()
        sampled_rows = torch.randint(
            word_embeddings.shape[0], (settings.length,)
        )  # Lester et al. 2021, §2.2
        self.vectors = nn.Parameter(word_embeddings[sampled_rows].detach().to(dtype, copy=True))
        self.dropout = nn.Dropout(settings.dropout)

    def forward(self) -> Tensor:
        return self.dropout(self.vectors)


class PrefixTuning(MethodComponent):
    """Adds ``model.prefix`` or ``model.prompt``, which ``EncoderRunner`` looks for."""

    name = "prefix"
    attach_order = 30
    foldable = False

    def __init__(self, settings: PrefixConfig, learning_rate: float) -> None:
        self.settings, self.learning_rate = settings, learning_rate
        self.reserved_positions = 0
        if settings.kind == "prompt" or settings.shift_positions:
            self.reserved_positions = settings.length
        self._module: PrefixVectors | PromptVectors | None = None

    def attach(self, model: nn.Module) -> None:
        """UsageError for an encoder whose attention does not go through the interface."""
        family: EncoderFamily = encoder_family(model)
        if not family.uses_attention_interface:
            raise UsageError(
                f"a prefix cannot be put into the attention of a {family.model_type} model",
                where="method.prefix",
                hint="Take method=lora or method=svd_lora, or a BERT, RoBERTa or ModernBERT",
            )
        word_embeddings: Tensor = model.get_input_embeddings().weight  # type: ignore[operator]
        dtype = torch.float64 if word_embeddings.dtype == torch.float64 else torch.float32
        if self.settings.kind == "prompt":
            self._module = model.prompt = PromptVectors(self.settings, word_embeddings, dtype)
        else:
            self._module = model.prefix = PrefixVectors(
                self.settings, family.layers, family.kv_width, dtype
            )

    def _own_parameters(self, model: nn.Module) -> list[tuple[str, nn.Parameter]]:
        prefixes = ("prefix.", "prompt.")
        return [pair for pair in model.named_parameters() if pair[0].startswith(prefixes)]

    def param_groups(self, model: nn.Module) -> Iterator[ParamGroup]:
        yield ParamGroup(
            self.name,
            tuple(self._own_parameters(model)),
            self.learning_rate,
            use_weight_decay=False,
        )

    def after_step(self, step: int, total_steps: int, optimizer: Optimizer) -> None:
        """Once: a prefix that got no gradient has no part in the model, whatever it claims."""
        if self._module is None or self._gradient_checked:
            return
        self._gradient_checked = True
        if self._module.vectors.grad is None:
            raise BertftError("the prefix takes no part in this model's attention")

    _gradient_checked = False

    def parameter_counts(self, model: nn.Module) -> dict[str, int]:
        trainable = sum(parameter.numel() for _, parameter in self._own_parameters(model))
        exported = trainable
        if isinstance(self._module, PrefixVectors):
            layers, key_and_value, length, width = self._module.shape
            exported = layers * key_and_value * length * width
        return {"trainable": trainable, "kept": trainable, "exported": exported}
