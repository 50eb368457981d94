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
    from bertft.models.attention.call import Call
    from bertft.models.sequences import Sequences

__all__ = ["Heads", "Trace", "own_tokens"]


@dataclass(frozen=True)
class Heads:
    """One layer's ``query``, ``key``, ``value`` [N, heads, d]; scores are ``scale`` · q·k.

    ``window``: pairs with |i − j| < window see each other; None: all do.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    scale: float
    window: int | None


@dataclass
class Trace:
    """Asks for ``layers``' attention and, with ``states``, for hidden states; then holds them."""

    layers: frozenset[int] = frozenset()
    states: bool = False
    hidden: list[Tensor] = field(default_factory=list)
    heads: dict[int, Heads] = field(default_factory=dict)

    def record(self, layer: int, call: Call, sequences: Sequences) -> None:
        """Called by the attention function, and again in a recomputation under checkpointing.

        That must do what the first pass did; the heads stay the first one's.
        """
        if layer in self.layers:
            query, key, value = (
                own_tokens(each.transpose(1, 2), sequences)
                for each in (call.query, call.key, call.value)
            )
            self.heads.setdefault(layer, Heads(query, key, value, call.scale, call.window))


def own_tokens(cells: Tensor, sequences: Sequences) -> Tensor:
    """[R, W, ...] in the layout's shape → [N, ...]."""
    flat = cells.flatten(0, 1)
    if sequences.layout == "unpadded" and not sequences.prompt:
        return flat
    return flat[sequences.cells()[sequences.own()]]
