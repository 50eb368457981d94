"""What an encoder's architecture lets us do: its layers, and whether attention can be replaced.

    layers      attention calls in one forward pass (ALBERT calls one module several times)
    width       of the keys and values of a layer, heads · head size
    interface   attention goes through transformers' AttentionInterface
    one_by_one  padding or neighbours change the outputs, so that each row runs alone

DeBERTa-v2, MPNet and RemBERT keep attention of their own: they run padded, without a prefix.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from bertft.errors import UsageError

__all__ = ["EncoderFamily", "encoder_family", "encoder_layers"]


@dataclass(frozen=True)
class EncoderFamily:
    """``model_type`` is transformers' name of the architecture."""

    model_type: str
    layers: int
    kv_width: int
    uses_attention_interface: bool
    runs_rows_alone: bool = False


# Convolutions and n-grams reach from padding into a text, some attention takes no mask or averages
# over the length, and XLNet's and CANINE's heads look at the end of the padded row.
_PADDING_SENSITIVE = frozenset(
    {"canine", "convbert", "fnet", "mobilebert", "nystromformer", "xlnet", "yoso"}
)
# EuroBERT's head averages over all tokens of the row, so that it must see each row by itself.
_PADDED_ONLY = frozenset({"eurobert"})


def encoder_family(model: Any) -> EncoderFamily:
    """The family of a transformers model."""
    config = model.config
    return EncoderFamily(
        config.model_type,
        int(config.num_hidden_layers),
        int(config.hidden_size),
        bool(model._can_set_attn_implementation())
        and config.model_type not in _PADDING_SENSITIVE | _PADDED_ONLY,
        config.model_type in _PADDING_SENSITIVE,
    )


def encoder_layers(model: Any) -> nn.ModuleList:
    """The encoder's layers, bottom first. UsageError where layers share one module (ALBERT)."""
    count = int(model.config.num_hidden_layers)
    for module in model.base_model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            parameters = [id(parameter) for layer in module for parameter in layer.parameters()]
            if len(parameters) == len(set(parameters)) and parameters:
                return module
    raise UsageError(
        f"the layers of a {model.config.model_type} model cannot be told apart",
        where="method.base.train",
        hint="Take train=everything or train=biases",
    )
