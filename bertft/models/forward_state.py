"""What a forward pass leaves behind for a loss on inner states, whatever the layout was.

    hidden   states [N, H] of the batch's own tokens: after the embeddings, then after each layer
    heads    layer → queries, keys and values [N, heads, d] of the same tokens

Tokens stand in the order of ``Batch.input_ids``; places of a prefix or a soft prompt are left out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from bertft.models.attention.sdpa import AttentionInputs
    from bertft.models.sequence_layout import SequenceLayout

__all__ = ["ActivationRecorder", "HeadStates", "content_tokens"]


@dataclass(frozen=True)
class HeadStates:
    """One layer's ``query``, ``key``, ``value`` [N, heads, d]; scores are ``scale`` · q·k.

    ``window``: pairs with |i − j| < window see each other; None: all do.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    scale: float
    window: int | None


@dataclass
class ActivationRecorder:
    """Asks for ``attention_layers``' attention and, with ``record_hidden``, for hidden states; then
    holds them.
    """

    attention_layers: frozenset[int] = frozenset()
    record_hidden: bool = False
    hidden_states: list[Tensor] = field(default_factory=list)
    head_states: dict[int, HeadStates] = field(default_factory=dict)

    def record(self, layer: int, inputs: AttentionInputs, layout: SequenceLayout) -> None:
        """Called by the attention function, and again in a recomputation under checkpointing.

        That must do what the first pass did; the heads stay the first one's.
        """
        if layer in self.attention_layers:
            query, key, value = (
                content_tokens(tensor.transpose(1, 2), layout)
                for tensor in (inputs.query, inputs.key, inputs.value)
            )
            self.head_states.setdefault(
                layer, HeadStates(query, key, value, inputs.scale, inputs.window)
            )


def content_tokens(states: Tensor, layout: SequenceLayout) -> Tensor:
    """[R, W, ...] in the layout's shape → [N, ...]."""
    flat = states.flatten(0, 1)
    if layout.kind == "unpadded" and not layout.prompt_length:
        return flat
    return flat[layout.token_indices()[layout.content_indices()]]
