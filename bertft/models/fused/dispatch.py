"""Decide, per call of a layer, whether the hand-written layer computes it.

That is the case if nothing but sums of products is asked of the layer:

- on a CPU, in fp32, bf16 or fp64, with all weights in the type of the input, without autocast;
- its linear layers are plain, or have one low-rank update of frozen weights (LoRA, rsLoRA, PiSSA's
  start, SVD-LoRA). DoRA, IA³ and VeRA change outputs in other ways;
- with gradients, all weights of the base in the layer are frozen;
- the pass does not record inner states, is not compiled, and does not recompute activations;
- no module inside has a hook of others, a replaced ``forward``, or a type that computes otherwise.

In evaluation, ``predict`` and teachers the same conditions hold for the same model, so that a
metric of training and the metric of ``bertft eval`` come from the same code. Low-rank updates are
not folded into the weights for a pass: in bf16, W + ΔW would round the update away.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn.modules import module as module_globals

from bertft.errors import UsageError
from bertft.models.dropout import Dropout
from bertft.models.families import encoder_layers
from bertft.models.forward_state import ForwardState
from bertft.models.fused.attention import AttentionShape
from bertft.models.fused.layer import LayerCall, LayerUpdates, LayerWeights, run_layer
from bertft.models.fused.low_rank import InputUpdates, Update
from bertft.models.fused.products import FrozenProduct, join_rows
from bertft.models.linear_layers import LinearWrapper, LowRankUpdate

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["FusedForward", "install_fused_layers"]

# Packed weights are two more copies: for small encoders, whose products are small and many.
_MAX_PACKED_BYTES = 128 << 20

_DTYPES = (torch.bfloat16, torch.float32, torch.float64)

# Threads that make the products of a layer at once would each join its weights.
_weights_lock = threading.Lock()


@dataclass(frozen=True)
class _LayerPaths:
    """Paths of modules inside a layer; None for dropout that the architecture does not have."""

    attention: str
    linears: tuple[str, str, str, str, str, str]
    norms: tuple[str, str]
    attention_output_dropout: str | None
    output_dropout: str
    activation: str
    chunk_size: str


_BERT_PATHS = _LayerPaths(
    "attention.self",
    (
        "attention.self.query",
        "attention.self.key",
        "attention.self.value",
        "attention.output.dense",
        "intermediate.dense",
        "output.dense",
    ),
    ("attention.output.LayerNorm", "output.LayerNorm"),
    "attention.output.dropout",
    "output.dropout",
    "intermediate.intermediate_act_fn",
    "chunk_size_feed_forward",
)
_DISTILBERT_PATHS = _LayerPaths(
    "attention",
    (
        "attention.q_lin",
        "attention.k_lin",
        "attention.v_lin",
        "attention.out_lin",
        "ffn.lin1",
        "ffn.lin2",
    ),
    ("sa_layer_norm", "output_layer_norm"),
    None,
    "ffn.dropout",
    "ffn.activation",
    "ffn.chunk_size_feed_forward",
)
# Architectures whose layers compute the equations of ``bertft.models.fused.layer``.
_PATHS = {
    "bert": _BERT_PATHS,
    "roberta": _BERT_PATHS,
    "xlm-roberta": _BERT_PATHS,
    "camembert": _BERT_PATHS,
    "electra": _BERT_PATHS,
    "distilbert": _DISTILBERT_PATHS,
}


def install_fused_layers(model: PreTrainedModel) -> bool:
    """Let hand-written layers compute ``model`` where they can.

    False if its architecture is not supported.
    """
    paths = _PATHS.get(model.config.model_type)
    if paths is None:
        return False
    try:
        layers = encoder_layers(model)
    except UsageError:
        return False
    sizes = [
        parameter.numel() * parameter.element_size()
        for layer in layers
        for parameter in layer.parameters()
    ]
    packed = 2 * sum(sizes) <= _MAX_PACKED_BYTES
    for number, layer in enumerate(layers):
        layer.forward = FusedForward(layer, paths, number == len(layers) - 1, packed)
    return True


class FusedForward:
    """The ``forward`` of a layer: hand-written where that is exact.

    Attributes:
        fused_calls: Calls that the hand-written layer has computed.
    """

    def __init__(self, layer: nn.Module, paths: _LayerPaths, is_top: bool, packed: bool) -> None:
        self.layer, self.paths, self.is_top, self.packed = layer, paths, is_top, packed
        self.fused_calls = 0
        self._structure: _Structure | None = None

    def __getstate__(self) -> dict[str, Any]:
        """A copy or a pickle of the model makes products of its own weights."""
        return {**self.__dict__, "_structure": None}

    def __call__(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        state: ForwardState | None = kwargs.get("forward_state")
        if state is not None and not torch.compiler.is_compiling():
            output = self._run_fused(hidden_states, state)
            if output is not None:
                return output
            if self._structure is not None:
                self._structure.drop_trained_products()
        return type(self.layer).forward(self.layer, hidden_states, *args, **kwargs)

    def _run_fused(self, hidden_states: Tensor, state: ForwardState) -> Tensor | None:
        """The output [R, W, H], or None if the layer's modules have to compute it."""
        if not self._supports_pass(hidden_states, state):
            return None
        if self._structure is None or not self._structure.is_current():
            self._structure = _Structure(self.layer, self.paths, self.packed)
        structure = self._structure
        if not structure.supports(hidden_states.dtype):
            return None
        updates = structure.updates()
        if updates is None:
            return None
        factors = [
            factor
            for update in updates
            if update is not None
            for factor in (update.down, update.up)
        ]
        prefix = None
        if state.prefix is not None:
            prefix = state.prefix[structure.attention.layer_idx].to(hidden_states.dtype)
        call = structure.make_call(updates, state, state.selected_indices if self.is_top else None)
        self.fused_calls += 1
        state.attention_calls += 1
        output = run_layer(hidden_states.flatten(0, 1), prefix, call, factors)
        if call.selected_indices is not None:
            state.tokens_selected = True
            return output.unsqueeze(0)
        return output.view(hidden_states.shape)

    def _supports_pass(self, hidden_states: Tensor, state: ForwardState) -> bool:
        if not hidden_states.is_cpu or hidden_states.dtype not in _DTYPES:
            return False
        if state.recorder is not None or torch.is_autocast_enabled("cpu"):
            return False
        recomputes = getattr(self.layer, "gradient_checkpointing", False) and self.layer.training
        return not (recomputes and torch.is_grad_enabled())


class _Structure:
    """The modules of a layer, as long as none of them is replaced."""

    def __init__(self, layer: nn.Module, paths: _LayerPaths, packed: bool) -> None:
        self.layer, self.paths, self.packed = layer, paths, packed
        # One attribute, because threads read it: the products, and the tensors that they are of.
        self._weights: tuple[LayerWeights, list[_TensorState]] | None = None
        self.linears: list[Any] = [layer.get_submodule(path) for path in paths.linears]
        self.norms: list[Any] = [layer.get_submodule(path) for path in paths.norms]
        self.attention: Any = layer.get_submodule(paths.attention)
        self._modules = [module for module in layer.modules() if module is not layer]
        self._children = [(module._modules, dict(module._modules)) for module in layer.modules()]
        dropout_paths = (
            f"{paths.attention}.dropout",
            paths.attention_output_dropout,
            paths.output_dropout,
        )
        chunk_owner, _, chunk_name = paths.chunk_size.rpartition(".")
        self._is_known = (
            all(
                type(linear) is nn.Linear or isinstance(linear, LinearWrapper)
                for linear in self.linears
            )
            and all(type(norm) is nn.LayerNorm for norm in self.norms)
            and all(module.weight is not None for module in self.norms)
            and all(module.bias is not None for module in (*self.linears, *self.norms))
            and all(
                type(layer.get_submodule(path)) in (nn.Dropout, Dropout)
                for path in dropout_paths
                if path is not None
            )
            and _is_gelu(layer.get_submodule(paths.activation))
            and not getattr(layer.get_submodule(chunk_owner), chunk_name, 0)
            and not getattr(layer, "is_decoder", False)
        )

    def is_current(self) -> bool:
        """Whether all modules inside the layer are still the same."""
        return all(children == expected for children, expected in self._children)

    def supports(self, dtype: torch.dtype) -> bool:
        """Whether the modules only do what the hand-written layer does, in ``dtype``."""
        if not self._is_known:
            return False
        if any(_GLOBAL_HOOKS):
            return False
        training = self.layer.training
        for module in self._modules:
            if module.training != training or "forward" in module.__dict__:
                return False
            if _has_hooks(module):
                return False
        needs_frozen = torch.is_grad_enabled()
        for module in (*self.linears, *self.norms):
            for parameter in (module.weight, module.bias):
                if parameter.dtype != dtype or (needs_frozen and parameter.requires_grad):
                    return False
        return True

    def updates(self) -> list[LowRankUpdate | None] | None:
        """The low-rank update of each linear layer, if any; None if a layer changes otherwise."""
        updates: list[LowRankUpdate | None] = []
        for linear in self.linears:
            update = None
            if isinstance(linear, LinearWrapper):
                update = linear.low_rank_update()
                if update is None:
                    return None
            updates.append(update)
        settings = {(update.scale, update.dropout) for update in updates[:3] if update is not None}
        if len(settings) > 1:
            return None  # those of one input share a mask and a scale
        return updates

    def make_call(
        self,
        updates: Sequence[LowRankUpdate | None],
        state: ForwardState,
        selected_indices: Tensor | None,
    ) -> LayerCall:
        training, paths = self.layer.training, self.paths
        head_size = self.attention.attention_head_size
        return LayerCall(
            self._current_weights(),
            _layer_updates(self.linears, updates, training),
            AttentionShape(
                self.linears[0].out_features // head_size,
                head_size,
                self.attention.scaling,
                self._rate(f"{paths.attention}.dropout") if training else 0.0,
            ),
            self._rate(paths.attention_output_dropout) if training else 0.0,
            self._rate(paths.output_dropout) if training else 0.0,
            state,
            selected_indices,
        )

    def _current_weights(self) -> LayerWeights:
        """The products, made anew if a weight has been changed or replaced.

        Those of weights whose changes are not counted are always made anew.
        """
        parameters = self._parameters()
        counts_changes = not any(map(_has_uncounted_changes, parameters))
        cached = self._weights
        if cached is not None and counts_changes:
            weights, states = cached
            if all(map(_TensorState.is_current, states, parameters)):
                return weights
        with _weights_lock:
            packed = self.packed and counts_changes
            qkv, others = self.linears[:3], self.linears[3:]
            qkv_product = FrozenProduct(
                join_rows(tuple(linear.weight for linear in qkv)),
                join_rows(tuple(linear.bias for linear in qkv)),
                packed,
            )
            attention_output, ffn_in, ffn_out = (
                FrozenProduct(linear.weight, linear.bias, packed) for linear in others
            )
            weights = LayerWeights(
                qkv_product, attention_output, ffn_in, ffn_out, self.norms[0], self.norms[1]
            )
            states = list(map(_TensorState, parameters)) if counts_changes else []
            self._weights = (weights, states) if counts_changes else None
        return weights

    def drop_trained_products(self) -> None:
        """Forget the products if a weight is trained, for a pass that does not use them."""
        if self._weights is not None and any(map(_has_uncounted_changes, self._parameters())):
            self._weights = None

    def _parameters(self) -> list[Tensor]:
        return [parameter for linear in self.linears for parameter in (linear.weight, linear.bias)]

    def _rate(self, path: str | None) -> float:
        if path is None:
            return 0.0
        dropout: Any = self.layer.get_submodule(path)
        return float(dropout.p)


def _has_uncounted_changes(parameter: Tensor) -> bool:
    # torch's fused optimizers do not count the versions of the tensors that they change.
    return parameter.requires_grad or parameter.is_inference()


class _TensorState:
    """Storage and version of a tensor: they change with its values.

    A change through ``tensor.data``, such as ``weight.data.mul_(2)``, does not count as a version,
    and nothing can detect it. ``weight.data = values`` is detected.
    """

    def __init__(self, tensor: Tensor) -> None:
        # While this reference exists, no other storage gets the same identifier. An address alone
        # may belong to new values after ``model.bfloat16().float()``.
        self._storage = StorageWeakRef(tensor.untyped_storage())
        self._address, self._version = tensor.data_ptr(), tensor._version

    def is_current(self, tensor: Tensor) -> bool:
        """Whether ``tensor`` has the same values as before."""
        return (
            tensor.data_ptr() == self._address
            and tensor._version == self._version
            and tensor.untyped_storage()._cdata == self._storage.cdata
        )


def _layer_updates(
    linears: Sequence[Any], updates: Sequence[LowRankUpdate | None], training: bool
) -> LayerUpdates:
    """The updates by input; the factors of the n-th update have the indices 2n and 2n + 1."""
    by_input: dict[str, list[Update]] = {"qkv": [], "projection": [], "ffn_in": [], "ffn_out": []}
    settings = dict.fromkeys(by_input, (1.0, 0.0))
    names = ("qkv", "qkv", "qkv", "projection", "ffn_in", "ffn_out")
    index, first_row = 0, 0
    for number, (name, linear, update) in enumerate(zip(names, linears, updates, strict=True)):
        first_row = first_row if number < 3 else 0
        end_row = first_row + linear.out_features
        if update is not None:
            by_input[name].append(Update(slice(first_row, end_row), index))
            settings[name] = update.scale, update.dropout if training else 0.0
            index += 2
        first_row = end_row
    return LayerUpdates(
        *(InputUpdates(name, tuple(by_input[name]), *settings[name]) for name in by_input)
    )


def _is_gelu(activation: nn.Module) -> bool:
    """Whether the activation is x·Φ(x), not an approximation."""
    if type(activation) is nn.GELU:
        return activation.approximate == "none"
    return getattr(activation, "act", None) is nn.functional.gelu


# Hooks of all modules of the process. torch changes these dictionaries in place.
_GLOBAL_HOOKS: tuple[Any, ...] = tuple(
    getattr(module_globals, name)
    for name in (
        "_global_forward_pre_hooks",
        "_global_forward_hooks",
        "_global_backward_pre_hooks",
        "_global_backward_hooks",
    )
)


def _has_hooks(module: nn.Module) -> bool:
    """Whether a hook could observe or change what the module computes."""
    for hooks in (
        module._forward_pre_hooks,
        module._forward_hooks,
        module._backward_pre_hooks,
        module._backward_hooks,
    ):
        if hooks and not all(_is_harmless(hook) for hook in hooks.values()):
            return True
    return False


def _is_harmless(hook: Any) -> bool:
    # transformers' own hooks record outputs only in a pass with a recorder.
    owner = getattr(hook, "__self__", None)
    if getattr(owner, "selects_tokens", False):  # of EncoderRunner: the layer selects them itself
        return True
    return getattr(hook, "__module__", "") == "transformers.utils.output_capturing"
