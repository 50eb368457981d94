"""What travels through one forward pass of the encoder next to its tensors.

``ForwardState`` reaches every layer's attention as the keyword argument ``forward_state``, so that
it is exact under gradient checkpointing. An ``ActivationRecorder`` in it collects inner states for
a loss, in the same form for every layout:

    hidden_states    [N, H] of the batch's own tokens: after the embeddings, then after each layer
    head_states      layer → queries, keys and values [N, heads, d] of the same tokens

N counts the tokens of ``Batch.input_ids``, in that order: prefixes and soft prompts are left out.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from bertft.models.sequence_layout import SequenceLayout, content_tokens

__all__ = [
    "ActivationRecorder",
    "AttentionInputs",
    "ForwardState",
    "HeadStates",
    "current_forward_state",
    "use_forward_state",
]

_current = threading.local()


@dataclass
class ForwardState:
    """The state of one forward pass. Make a new one for each pass.

    Attributes:
        layout: Where each token is.
        prefix: Keys and values [layers, 2, L, heads·d] before those of each sequence.
        recorder: Collects inner states.
        head_tokens: Indices of the batch's tokens that the head computes logits for; None: all.
        selected_indices: Slots that the top layer computes; None: all.
        tokens_selected: Whether the top layer's output is that of ``selected_indices`` alone.
        attention_calls: Calls of the attention function so far. It numbers the layers of ALBERT,
            whose layers share one module, and reveals models that do not use the interface.
        masks: Attention masks, computed by the first layer that needs them.
        groups: What hand-written layers attend together, computed by the first of them.
    """

    layout: SequenceLayout
    prefix: Tensor | None = None
    recorder: ActivationRecorder | None = None
    head_tokens: Tensor | None = None
    selected_indices: Tensor | None = None
    tokens_selected: bool = False
    attention_calls: int = 0
    masks: dict[object, Tensor | None] = field(default_factory=dict)
    groups: dict[object, Any] = field(default_factory=dict)


@contextlib.contextmanager
def use_forward_state(state: ForwardState) -> Iterator[None]:
    """Make ``state`` the current one of this thread, for modules that get no extra arguments.

    Layers do not read it: gradient checkpointing computes them again after the pass.
    """
    previous = current_forward_state()
    _current.state = state
    try:
        yield
    finally:
        _current.state = previous


def current_forward_state() -> ForwardState | None:
    """The state of the pass that this thread computes."""
    state: ForwardState | None = getattr(_current, "state", None)
    return state


@dataclass(frozen=True)
class AttentionInputs:
    """The inputs of one layer's attention.

    ``query``, ``key`` and ``value`` are [b, heads, t, d], ``prefix`` [2, heads, L, d]. ``window``:
    tokens i and j with |i − j| < window attend to each other, and all to the prefix; None: all do.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    prefix: Tensor | None
    dropout: float
    scale: float
    window: int | None

    @property
    def prefix_length(self) -> int:
        """L, the number of keys before each sequence's own."""
        return 0 if self.prefix is None else self.prefix.shape[2]


@dataclass(frozen=True)
class HeadStates:
    """One layer's ``query``, ``key`` and ``value`` [N, heads, d]; scores are ``scale`` · q·k.

    ``window`` as in ``AttentionInputs``.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    scale: float
    window: int | None


@dataclass
class ActivationRecorder:
    """Holds the inner states of one pass that it was configured to record.

    ``attention_layers``: the layers whose head states are recorded. ``record_hidden``: whether
    hidden states are.
    """

    attention_layers: frozenset[int] = frozenset()
    record_hidden: bool = False
    hidden_states: list[Tensor] = field(default_factory=list)
    head_states: dict[int, HeadStates] = field(default_factory=dict)

    def record(self, layer: int, inputs: AttentionInputs, layout: SequenceLayout) -> None:
        """Record a layer's attention; the attention function calls it.

        Gradient checkpointing calls it again in the backward pass: the first states are kept.
        """
        if layer in self.attention_layers:
            query, key, value = (
                content_tokens(tensor.transpose(1, 2), layout)
                for tensor in (inputs.query, inputs.key, inputs.value)
            )
            self.head_states.setdefault(
                layer, HeadStates(query, key, value, inputs.scale, inputs.window)
            )
