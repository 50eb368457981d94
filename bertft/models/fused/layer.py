"""One transformer layer with frozen weights as a single autograd function.

    [Q K V] = x·W_QKVᵀ + b_QKV        a = x + drop(attention(Q, K, V)·W_Oᵀ + b_O)
    x₁ = LayerNorm₁(a)                u = x₁·W₁ᵀ + b₁
    z = x₁ + drop(gelu(u)·W₂ᵀ + b₂)   y = LayerNorm₂(z)

with a low-rank update at any product, and a prefix in attention. The backward pass computes only
the gradients of x, of the factors of the updates, and of the prefix. With D(f) the transposed
derivative of f and ∂v the gradient of v:

    ∂z = D(LayerNorm₂)(∂y)                  ∂u = (D(drop)(∂z)·W₂) ∘ gelu'(u)
    ∂x₁ = ∂z + ∂u·W₁                        ∂a = D(LayerNorm₁)(∂x₁)
    ∂QKV = D(attention)(D(drop)(∂a)·W_O)    ∂x = ∂a + ∂QKV·W_QKV

Each update adds its term to the gradient of its input (``bertft.models.fused.low_rank``). autograd
would run about 40 nodes per layer and allocate a tensor for each. The results equal those of the
layer's modules, except that query, key and value updates share a dropout mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from bertft.models.dropout import apply_keep_mask, draw_keep_mask, inverse_keep_prob
from bertft.models.forward_state import ForwardState
from bertft.models.fused.attention import AttentionShape, attend, attention_gradient
from bertft.models.fused.low_rank import InputUpdates
from bertft.models.fused.products import FrozenProduct
from bertft.models.fused.saved import SavedTensors

__all__ = ["LayerCall", "LayerUpdates", "LayerWeights", "run_layer"]


@dataclass(frozen=True)
class LayerWeights:
    """The products with frozen weights, and the two layer norms."""

    qkv: FrozenProduct
    attention_output: FrozenProduct
    ffn_in: FrozenProduct
    ffn_out: FrozenProduct
    attention_norm: nn.LayerNorm
    output_norm: nn.LayerNorm


@dataclass(frozen=True)
class LayerUpdates:
    """The updates per input: of query, key and value; of the attention's projection; of the FFN."""

    qkv: InputUpdates
    attention_output: InputUpdates
    ffn_in: InputUpdates
    ffn_out: InputUpdates


@dataclass(frozen=True)
class LayerCall:
    """What one call of a layer uses next to its tensors.

    Attributes:
        attention_dropout: The rate after the attention's projection.
        output_dropout: The rate after the feed-forward layer.
        selected_indices: Slots that are computed after attention; None: all.
    """

    weights: LayerWeights
    updates: LayerUpdates
    attention: AttentionShape
    attention_dropout: float
    output_dropout: float
    state: ForwardState
    selected_indices: Tensor | None


def run_layer(
    x: Tensor, prefix: Tensor | None, call: LayerCall, factors: Sequence[Tensor]
) -> Tensor:
    """The layer's output [N, H], or [K, H] for K selected slots.

    Args:
        x: Hidden states [N, H] of all slots.
        prefix: Keys and values [2, L, D] before those of each sequence.
        call: Weights and settings.
        factors: down and up of each update, in the order of its index.
    """
    tensors = (x, prefix, *factors)
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors):
        return _FrozenLayer.apply(x, prefix, call, *factors)
    return _forward(x, prefix, call, factors, None)


class _FrozenLayer(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, prefix: Tensor | None, call: LayerCall, *factors: Tensor
    ) -> Tensor:
        saved = SavedTensors()
        output = _forward(x, prefix, call, factors, saved)
        ctx.factor_count, ctx.call, ctx.saved = len(factors), call, saved
        ctx.slot_count = len(x)
        ctx.save_for_backward(prefix, *factors, *saved.release())
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        prefix, *tensors = ctx.saved_tensors
        factors, saved = tensors[: ctx.factor_count], tensors[ctx.factor_count :]
        needs_x, needs_prefix, _, *needs_factors = ctx.needs_input_grad
        factor_grads: list[Tensor | None] = [None] * len(factors)
        x_grad, prefix_grad = _backward(
            grad.contiguous(),
            prefix,
            ctx.call,
            factors,
            ctx.saved.restore(saved),
            factor_grads,
            needs_x,
            ctx.slot_count,
        )
        factor_grads = [
            factor_grad if needed else None
            for factor_grad, needed in zip(factor_grads, needs_factors, strict=True)
        ]
        return x_grad, prefix_grad if needs_prefix else None, None, *factor_grads


def _forward(
    x: Tensor,
    prefix: Tensor | None,
    call: LayerCall,
    factors: Sequence[Tensor],
    saved: SavedTensors | None,
) -> Tensor:
    weights, updates = call.weights, call.updates
    qkv = weights.qkv(x)
    updates.qkv.add_to(qkv, x, factors, saved)
    attention = attend(qkv, prefix, call.attention, call.state, saved)
    del qkv  # the largest tensor next to u: without gradients, its memory is free for u
    residual = x
    if call.selected_indices is not None:
        attention = attention.index_select(0, call.selected_indices)
        residual = x.index_select(0, call.selected_indices)
    y = weights.attention_output(attention)
    updates.attention_output.add_to(y, attention, factors, saved)
    x1 = _add_and_normalize(
        y, residual, call.attention_dropout, weights.attention_norm, "attention_norm", saved
    )
    u = weights.ffn_in(x1)
    updates.ffn_in.add_to(u, x1, factors, saved)
    if saved is None:
        activated = torch.ops.aten.gelu_(u)
    else:
        saved["u"] = u
        activated = F.gelu(u)
    y = weights.ffn_out(activated)
    updates.ffn_out.add_to(y, activated, factors, saved)
    return _add_and_normalize(y, x1, call.output_dropout, weights.output_norm, "output_norm", saved)


def _backward(
    grad: Tensor,
    prefix: Tensor | None,
    call: LayerCall,
    factors: Sequence[Tensor],
    saved: SavedTensors,
    factor_grads: list[Tensor | None],
    needs_x: bool,
    slot_count: int,
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of x and of the prefix; those of the factors are set in ``factor_grads``."""
    weights, updates = call.weights, call.updates
    z_grad = _norm_gradient(grad, weights.output_norm, "output_norm", saved)
    y_grad = _dropout_gradient(z_grad, call.output_dropout, "output_norm", saved)
    u_grad = weights.ffn_out.gradient(y_grad)
    _add_to(u_grad, updates.ffn_out.gradients(y_grad, factors, saved, factor_grads))
    u_grad = torch.ops.aten.gelu_backward(u_grad, saved["u"])
    x1_grad = weights.ffn_in.gradient(u_grad).add_(z_grad)
    _add_to(x1_grad, updates.ffn_in.gradients(u_grad, factors, saved, factor_grads))
    a_grad = _norm_gradient(x1_grad, weights.attention_norm, "attention_norm", saved)
    y_grad = _dropout_gradient(a_grad, call.attention_dropout, "attention_norm", saved)
    needs = _needed_inputs(updates.qkv, call.attention.width, needs_x, prefix)
    attention_grad = None
    if any(needs):
        attention_grad = weights.attention_output.gradient(y_grad)
    update_grad = updates.attention_output.gradients(y_grad, factors, saved, factor_grads)
    if attention_grad is None:
        return None, None
    _add_to(attention_grad, update_grad)
    if call.selected_indices is not None:
        a_grad = _unselect(a_grad, call.selected_indices, slot_count)
        attention_grad = _unselect(attention_grad, call.selected_indices, slot_count)
    qkv_grad, prefix_grad = attention_gradient(
        attention_grad, prefix, call.attention, call.state, saved, needs
    )
    update_grad = updates.qkv.gradients(qkv_grad, factors, saved, factor_grads)
    if not needs_x:
        return None, prefix_grad
    x_grad = weights.qkv.gradient(qkv_grad).add_(a_grad)
    _add_to(x_grad, update_grad)
    return x_grad, prefix_grad


def _needed_inputs(
    updates: InputUpdates, width: int, needs_x: bool, prefix: Tensor | None
) -> tuple[bool, bool, bool]:
    """Which of the gradients of queries, keys and values are used."""
    if needs_x:
        return True, True, True
    updated = [update.rows.start // width for update in updates.updates]
    has_prefix = prefix is not None
    return 0 in updated, has_prefix or 1 in updated, has_prefix or 2 in updated


def _add_and_normalize(
    y: Tensor,
    residual: Tensor,
    dropout: float,
    norm: nn.LayerNorm,
    name: str,
    saved: SavedTensors | None,
) -> Tensor:
    """LayerNorm(residual + drop(y)); overwrites ``y``."""
    if dropout:
        keep_mask = draw_keep_mask(y.shape, dropout, y.dtype)
        apply_keep_mask(y, keep_mask, out=y)
        total = torch.add(residual, y, alpha=inverse_keep_prob(dropout), out=y)
        if saved is not None:
            saved[name, "keep_mask"] = keep_mask
    else:
        total = y.add_(residual)
    output, mean, rstd = torch.native_layer_norm(
        total, norm.normalized_shape, norm.weight, norm.bias, norm.eps
    )
    if saved is not None:
        saved[name, "total"], saved[name, "mean"], saved[name, "rstd"] = total, mean, rstd
    return output


def _norm_gradient(grad: Tensor, norm: nn.LayerNorm, name: str, saved: SavedTensors) -> Tensor:
    total_grad: Tensor = torch.ops.aten.native_layer_norm_backward(
        grad,
        saved[name, "total"],
        norm.normalized_shape,
        saved[name, "mean"],
        saved[name, "rstd"],
        norm.weight,
        norm.bias,
        [True, False, False],
    )[0]
    return total_grad


def _dropout_gradient(grad: Tensor, dropout: float, name: str, saved: SavedTensors) -> Tensor:
    if not dropout:
        return grad
    masked = apply_keep_mask(grad, saved[name, "keep_mask"])
    return masked.mul_(inverse_keep_prob(dropout))


def _add_to(total: Tensor, term: Tensor | None) -> None:
    if term is not None:
        total.add_(term)


def _unselect(grad: Tensor, indices: Tensor, slot_count: int) -> Tensor:
    """The gradient of ``index_select``, which may have taken a slot more than once."""
    return grad.new_zeros(slot_count, grad.shape[1]).index_add_(0, indices, grad)
