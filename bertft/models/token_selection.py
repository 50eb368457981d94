"""Hooks that let the top layer compute only the tokens that the head uses.

After the attention of a layer, tokens are independent, so the rest of the top layer and the head
need the selected tokens alone.
"""

from __future__ import annotations

import inspect
import threading
import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from bertft.errors import UsageError
from bertft.models.families import encoder_layers
from bertft.models.forward_state import ForwardState

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["enable_token_selection"]

# In BERT's family: what the output module projects, and the residual that it adds.
_RESIDUAL_ARGUMENTS = ["hidden_states", "input_tensor"]


def enable_token_selection(model: PreTrainedModel) -> bool:
    """Install the hooks; False if the architecture is not supported.

    In a pass whose ``ForwardState`` has K ``selected_indices``, the top layer's output becomes
    [1, K, H] and ``tokens_selected`` is set.
    """
    try:
        top_layer: Any = encoder_layers(model)[-1]
    except UsageError:
        return False
    if getattr(top_layer, "chunk_size_feed_forward", 0) > 1:  # must divide the number of tokens
        return False
    has_convolution = bool(getattr(model.config, "conv_kernel_size", 0))
    if has_convolution and model.config.num_hidden_layers == 1:  # it reads all tokens of layer 1
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
    # On a module inside the layer: gradient checkpointing recomputes the layer without its hooks.
    attention.register_forward_pre_hook(selector.enter_layer, with_kwargs=True)
    return True


class _TokenSelector:
    """Hooks that select tokens. The state of a pass is kept per thread.

    ``selects_tokens`` marks them for hand-written layers, which select the same tokens themselves.
    """

    selects_tokens = True

    def __init__(self) -> None:
        self._thread_state = threading.local()

    def enter_layer(self, _: nn.Module, __: Any, kwargs: Mapping[str, Any]) -> None:
        # A weak reference: if memory runs out before it is used, the pass must be released.
        state = next((value for value in kwargs.values() if isinstance(value, ForwardState)), None)
        self._thread_state.forward_state = None if state is None else weakref.ref(state)

    def select_both_inputs(self, _: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        indices = self._pop_selected_indices()
        if indices is None:
            return inputs
        return tuple(_select_tokens(tensor, indices) for tensor in inputs)

    def select_output(self, _: nn.Module, __: Any, output: Tensor) -> Tensor:
        indices = self._pop_selected_indices()
        return output if indices is None else _select_tokens(output, indices)

    def _pop_selected_indices(self) -> Tensor | None:
        """The indices of the pass that is in the layer, once."""
        state_reference = getattr(self._thread_state, "forward_state", None)
        state: ForwardState | None = None if state_reference is None else state_reference()
        self._thread_state.forward_state = None
        if state is None or state.selected_indices is None:
            return None
        state.tokens_selected = True
        return state.selected_indices

    def __getstate__(self) -> dict[str, Any]:  # a copied model has no current pass
        return {}

    def __setstate__(self, _: dict[str, Any]) -> None:
        self._thread_state = threading.local()


def _select_tokens(values: Tensor, indices: Tensor) -> Tensor:
    return values.flatten(0, 1).index_select(0, indices).unsqueeze(0)


def _argument_names(module: Any) -> list[str]:
    return list(inspect.signature(module.forward).parameters) if module is not None else []
