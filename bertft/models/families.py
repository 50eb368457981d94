"""Properties of an encoder's architecture: its layers, and whether attention can be replaced.

DeBERTa-v2 and MPNet have attention of their own, which ``bertft.models.attention.relative``
computes. RemBERT and other architectures outside transformers' attention interface run padded,
without a prefix.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import nn

from bertft.errors import UsageError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["EncoderFamily", "encoder_family", "encoder_layers"]


@dataclass(frozen=True)
class EncoderFamily:
    """The properties of one architecture.

    Attributes:
        model_type: transformers' name of the architecture.
        layers: Attention calls per forward pass (ALBERT calls one module several times).
        kv_width: Width of the keys and values of a layer, heads · head size.
        uses_attention_interface: Whether it calls transformers' ``AttentionInterface``.
        has_relative_attention: Whether it is DeBERTa-v2 or MPNet.
        runs_rows_alone: Whether padding or neighbours change outputs, so that each row runs alone.
    """

    model_type: str
    layers: int
    kv_width: int
    uses_attention_interface: bool
    has_relative_attention: bool = False
    runs_rows_alone: bool = False

    @property
    def supports_layouts(self) -> bool:
        """Whether its attention is ours: sequences without padding, prefixes, prompts."""
        return self.uses_attention_interface or self.has_relative_attention


# Convolutions and n-grams mix padding into a text, some attention has no mask or averages over the
# length, and the heads of XLNet and CANINE use the end of the padded row.
_PADDING_SENSITIVE = frozenset(
    {"canine", "convbert", "fnet", "mobilebert", "nystromformer", "xlnet", "yoso"}
)
# EuroBERT's head averages over all tokens of a row, so that a row must hold one sequence.
_RELATIVE = frozenset({"deberta-v2", "mpnet"})
_PADDED_ONLY = frozenset({"eurobert"})


def encoder_family(model: PreTrainedModel) -> EncoderFamily:
    """The family of a transformers model."""
    config = model.config
    return EncoderFamily(
        config.model_type,
        int(config.num_hidden_layers),
        int(config.num_attention_heads * getattr(config, "attention_head_size", 0))
        or int(config.hidden_size),
        bool(model._can_set_attn_implementation())
        and config.model_type not in _PADDING_SENSITIVE | _PADDED_ONLY,
        config.model_type in _RELATIVE,
        config.model_type in _PADDING_SENSITIVE,
    )


def encoder_layers(model: PreTrainedModel) -> nn.ModuleList:
    """The encoder's layers, bottom first. UsageError if layers share weights (ALBERT)."""
    count = int(model.config.num_hidden_layers)
    for module in model.base_model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            parameters = [id(parameter) for layer in module for parameter in layer.parameters()]
            if len(parameters) == len(set(parameters)) and parameters:
                return module
    raise UsageError(
        f"the layers of a {model.config.model_type} model cannot be trained separately: they share"
        " weights, or are not one list of layers",
        where="method.base.train",
        hint="Set it to everything or biases",
    )
