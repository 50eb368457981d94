"""The frozen layers at the bottom of an encoder: passes that end after them, or begin there.

If nothing is trained in the embeddings and in the first k layers, the hidden states after layer k
are the same in every epoch:

    frozen = FrozenLayers(model, k)
    with frozen.ending():            # a pass raises StatesReached with its states after k layers
    with frozen.beginning(states):   # a pass takes these states instead of computing k layers

If k is the number of all layers, the states are the output of the base model, as a hook on it has
prepared it for the head. Otherwise they are the input of layer k, [R, W, H].

transformers' code calls the same modules in both kinds of passes. For the time of a pass, the
``forward`` of the skipped modules returns the states, so that masks, positions and the final norm
remain those of the architecture.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutputWithPooling

from bertft.errors import UsageError
from bertft.models.families import encoder_layers
from bertft.models.forward_state import current_forward_state
from bertft.models.fused import FusedForward

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["FrozenLayers", "StatesReached", "count_frozen_layers"]


class StatesReached(Exception):
    """Ends a pass in ``FrozenLayers.ending``; ``layout`` is that of the pass."""

    def __init__(self, states: Tensor) -> None:
        super().__init__("the states of the frozen layers are computed")
        state = current_forward_state()
        assert state is not None
        self.states, self.layout = states, state.layout


class FrozenLayers:
    """The first ``count`` layers of ``model``, and its embeddings.

    Attributes:
        includes_all: Whether they are all layers of the encoder.
    """

    def __init__(self, model: PreTrainedModel, count: int) -> None:
        self.model, self.count = model, count
        self.base: Any = model.base_model
        self.includes_all = count == model.config.num_hidden_layers
        layers = [] if self.includes_all else list(encoder_layers(model))
        self._frozen, self._others = layers[:count], layers[count:]
        # What a layer of this architecture returns next to its states, if it returns a tuple.
        self._further_outputs: tuple[Any, ...] | None = None

    def ending(self) -> contextlib.AbstractContextManager[None]:
        """A context in which a pass raises ``StatesReached`` after the frozen layers."""
        if self.includes_all:
            return _hooked(self.base, self._end_before_head)
        return self._ending_before_next_layer()

    def beginning(self, states: Tensor) -> contextlib.AbstractContextManager[None]:
        """A context in which a pass begins with ``states``, in the shape of its layout.

        A pass in ``ending`` must have been computed before.
        """
        if self.includes_all:
            # A new object per call: the hook on the base changes it.
            return _replaced_forward(
                {self.base: lambda *_, **__: BaseModelOutputWithPooling(last_hidden_state=states)}
            )
        further = self._further_outputs
        layer_output = states if further is None else (states, *further)
        replaced: dict[nn.Module, Callable[..., Any]] = dict.fromkeys(
            self._frozen, lambda *_, **__: layer_output
        )
        embeddings = getattr(self.base, "embeddings", None)
        if isinstance(embeddings, nn.Module) and self._embeddings_have_width_of_layers():
            replaced[embeddings] = lambda *_, **__: states
        return _replaced_forward(replaced)

    def digest(self) -> str:
        """sha256 over the weights and buffers of the frozen layers, and over how they compute."""
        digest = hashlib.sha256()
        excluded = {
            id(tensor)
            for layer in self._others
            for tensor in chain(layer.parameters(), layer.buffers())
        }
        for name, tensor in chain(self.base.named_parameters(), self.base.named_buffers()):
            if id(tensor) in excluded or tensor.requires_grad or name.startswith("pooler."):
                continue
            digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
            values = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
            digest.update(memoryview(values.numpy()))
        for layer in self._frozen or self.base.modules():
            forward = layer.__dict__.get("forward")
            if isinstance(forward, FusedForward):
                digest.update(f"hand-written, packed: {forward.packed}\n".encode())
        return digest.hexdigest()

    def _end_before_head(self, base: nn.Module, _: Any, output: Any) -> None:
        raise StatesReached(output.last_hidden_state)

    @contextlib.contextmanager
    def _ending_before_next_layer(self) -> Iterator[None]:
        def end(hidden_states: Tensor, *_: Any, **__: Any) -> None:
            raise StatesReached(hidden_states)

        def keep_further_outputs(layer: nn.Module, _: Any, output: Any) -> None:
            self._further_outputs = output[1:] if isinstance(output, tuple) else None

        with (
            _hooked(self._frozen[-1], keep_further_outputs),
            _replaced_forward({self._others[0]: end}),
        ):
            yield

    def _embeddings_have_width_of_layers(self) -> bool:
        config: Any = self.model.config
        width = config.hidden_size
        return getattr(config, "embedding_size", width) == width


def count_frozen_layers(model: PreTrainedModel) -> tuple[int, str | None]:
    """k, the number of layers up to which nothing is trained, embeddings included.

    Returns:
        k, and the name of the lowest trained parameter; None if no layer has one.
    """
    layer_count = int(model.config.num_hidden_layers)
    for name in ("prefix", "prompt"):  # of all layers, or of the embeddings
        if isinstance(getattr(model, name, None), nn.Module):
            return 0, f"the {name}"
    try:
        layers = encoder_layers(model)
    except UsageError:  # the layers share one module
        layers = nn.ModuleList()
    numbers = {
        id(parameter): number
        for number, layer in enumerate(layers)
        for parameter in layer.parameters()
    }
    base: Any = model.base_model
    count, lowest = layer_count, None
    for name, parameter in base.named_parameters():
        child_name = name.partition(".")[0]
        if not parameter.requires_grad or child_name == "pooler":
            continue
        number = numbers.get(id(parameter), 0)
        if id(parameter) not in numbers and len(layers):
            child = getattr(base, child_name)
            is_below = child_name.startswith("embeddings") or _contains(child, layers)
            number = 0 if is_below else layer_count - 1  # a final norm: the top layer stays out
        if number < count:
            count, lowest = number, name
    return count, lowest


def _contains(module: nn.Module, layers: nn.ModuleList) -> bool:
    return any(child is layers for child in module.modules())


@contextlib.contextmanager
def _hooked(module: nn.Module, hook: Callable[..., None]) -> Iterator[None]:
    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


@contextlib.contextmanager
def _replaced_forward(replacements: Mapping[nn.Module, Callable[..., Any]]) -> Iterator[None]:
    """Replace the ``forward`` of modules inside the context."""
    before = {module: module.__dict__.get("forward") for module in replacements}
    for module, forward in replacements.items():
        module.__dict__["forward"] = forward
    try:
        yield
    finally:
        for module, earlier in before.items():
            if earlier is None:
                del module.__dict__["forward"]
            else:
                module.__dict__["forward"] = earlier
