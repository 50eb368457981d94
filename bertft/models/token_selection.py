"""The top layer behind its attention, for those tokens alone that the head is asked about.

Behind the attention of a layer every token goes its own way: projection, feed-forward, norms. A
classifier looks at the first token of each sequence, masked language modelling at the masked ones:
of all others the top layer needs keys and values and no more. The rest of it, three quarters of its
products, is left out for them; what is computed is what it would have been.

The model stays as it is: a hook in its top layer takes the tokens out. Where an architecture has no
known place for one, all tokens go through.
"""

from __future__ import annotations

import inspect
import threading
import weakref
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from bertft.errors import UsageError
from bertft.models.families import encoder_layers
from bertft.models.sequence_layout import SequenceLayout

__all__ = ["enable_token_selection"]

_RESIDUAL_ARGUMENTS = [
    "hidden_states",
    "input_tensor",
]  # what BERT's kin project, and what is added to it


def enable_token_selection(model: Any) -> bool:
    """Let the top layer keep to ``sequences.asked``, where a pass has some; False: it cannot.

    Its output is [1, K, H] then, and ``sequences.narrowed`` true.
    """
    try:
        top_layer: Any = encoder_layers(model)[-1]
    except UsageError:
        return False
    if (
        getattr(top_layer, "chunk_size_feed_forward", 0) > 1
    ):  # so many tokens at a time, none left over
        return False
    selector = _TokenSelector()
    attention: Any = getattr(top_layer, "attention", None)
    output: Any = getattr(attention, "output", None)
    norm = getattr(top_layer, "sa_layer_norm", None)
    if (
        _argument_names(output)
        == _argument_names(getattr(top_layer, "output", None))
        == _RESIDUAL_ARGUMENTS
    ):
        output.register_forward_pre_hook(selector.select_both_inputs)
    elif isinstance(norm, nn.LayerNorm):  # DistilBERT adds the two outside of its attention
        norm.register_forward_hook(selector.select_output)
    else:
        return False
    # Inside what gradient checkpointing runs again, which is the layer's forward without its hooks.
    attention.register_forward_pre_hook(selector.enter_layer, with_kwargs=True)
    return True


class _TokenSelector:
    """Hooks that take out the tokens asked about; each thread is in a pass of its own."""

    def __init__(self) -> None:
        self._thread_state = threading.local()

    def enter_layer(self, _: nn.Module, __: Any, kwargs: Mapping[str, Any]) -> None:
        # Not held: where memory runs out before it is asked for, the pass must be let go.
        state = kwargs.get("sequences")
        self._thread_state.sequences = None if state is None else weakref.ref(state)

    def select_both_inputs(self, _: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        indices = self._pop_selected_indices()
        return (
            inputs
            if indices is None
            else tuple(_select_tokens(tensor, indices) for tensor in inputs)
        )

    def select_output(self, _: nn.Module, __: Any, output: Tensor) -> Tensor:
        indices = self._pop_selected_indices()
        return output if indices is None else _select_tokens(output, indices)

    def _pop_selected_indices(self) -> Tensor | None:
        """Of the pass that is in the layer, which is forgotten."""
        state_reference = getattr(self._thread_state, "sequences", None)
        state: SequenceLayout | None = None if state_reference is None else state_reference()
        self._thread_state.sequences = None
        if state is None or state.selected_indices is None:
            return None
        state.tokens_selected = True
        return state.selected_indices

    def __getstate__(self) -> dict[str, Any]:  # a copy of a model is in no pass
        return {}

    def __setstate__(self, _: dict[str, Any]) -> None:
        self._thread_state = threading.local()


def _select_tokens(values: Tensor, indices: Tensor) -> Tensor:
    return values.flatten(0, 1).index_select(0, indices).unsqueeze(0)


def _argument_names(module: Any) -> list[str]:
    return list(inspect.signature(module.forward).parameters) if module is not None else []
