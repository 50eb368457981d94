"""Gradients of trained word embeddings in memory that is kept from step to step.

A step of full fine-tuning touches a few hundred rows of the word embeddings. autograd makes their
gradient as a new dense tensor in every step: 47 MB for MiniLM and 94 MB for BERT-base, which the
allocator maps, clears, faults in page by page, and unmaps. Here the gradient is one tensor, in
which only the rows that the previous step touched are cleared. The values are the same.
"""

from __future__ import annotations

import weakref
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

__all__ = ["keep_embedding_gradients"]


def keep_embedding_gradients(model: nn.Module) -> None:
    """Make ``model`` keep the gradients of its trained embeddings.

    Left out are embeddings on an accelerator, whose allocator keeps memory itself, and embeddings
    whose weight another module uses, such as the head of a masked language model: its gradient is
    dense. Between the backward passes, the gradients may be scaled, but nothing may be added to
    other rows, as a sum over processes does: such values would remain in the next step. A penalty
    in the loss may add to all rows.
    """
    owners: dict[int, int] = {}
    for module in model.modules():
        for parameter in module._parameters.values():
            if parameter is not None:
                owners[id(parameter)] = owners.get(id(parameter), 0) + 1
    for module in model.modules():
        if type(module) is not nn.Embedding or owners[id(module.weight)] > 1:
            continue
        weight = module.weight
        is_plain = module.max_norm is None and not module.scale_grad_by_freq and not module.sparse
        if is_plain and weight.requires_grad and weight.is_cpu:
            module.__class__ = _KeptGradientEmbedding


class _KeptGradientEmbedding(nn.Embedding):
    """An embedding whose backward pass adds to a tensor of its own and makes it ``weight.grad``."""

    _kept_grad: Tensor | None = None
    _touched_rows: list[Tensor] | None = None
    """Indices of the rows that are not 0; None: all may be set."""
    _grad_version = -1  # of the kept gradient after the last ``add_gradient``
    _watched: weakref.ref[Tensor] | None = None

    def forward(self, input: Tensor) -> Tensor:
        trains = torch.is_grad_enabled() and self.weight.requires_grad
        if not trains or self.weight._backward_hooks:  # a hook gets the dense gradient
            return super().forward(input)
        if self._watched is None or self._watched() is not self.weight:
            self._watched = weakref.ref(self.weight)
            self.weight.register_post_accumulate_grad_hook(self._mark_all_rows)
        return _KeptGradient.apply(self.weight, input, self)

    def _mark_all_rows(self, weight: Tensor) -> None:
        """Hook: another term of the loss, such as a penalty, may have added a dense gradient."""
        grad = weight.grad
        # torch also calls the hook if there is no gradient but that of ``add_gradient``.
        if grad is self._kept_grad and (grad is None or grad._version == self._grad_version):
            return
        self._touched_rows, self._kept_grad = None, grad

    def __getstate__(self) -> dict[str, Any]:  # a copy has a gradient and a hook of its own
        not_copied = ("_kept_grad", "_watched")
        return {name: value for name, value in self.__dict__.items() if name not in not_copied}

    def add_gradient(self, indices: Tensor, grad: Tensor) -> None:
        """Add ``grad`` [n, width] to the rows ``indices`` [n] of the weight's gradient."""
        weight, kept_grad = self.weight, self._kept_grad
        if weight.grad is not None and weight.grad is not kept_grad:
            kept_grad = weight.grad  # from elsewhere: all of its rows may be set
            self._touched_rows = None
        elif (
            kept_grad is None or kept_grad.shape != weight.shape or kept_grad.dtype != weight.dtype
        ):
            kept_grad, self._touched_rows = torch.zeros_like(weight, requires_grad=False), []
        elif weight.grad is None:  # a new step
            if self._touched_rows is None:
                kept_grad.zero_()
            else:
                for rows in self._touched_rows:
                    kept_grad.index_fill_(0, rows, 0.0)
            self._touched_rows = []
        if self.padding_idx is not None:
            is_token = indices != self.padding_idx
            indices, grad = indices[is_token], grad[is_token]
        kept_grad.index_add_(0, indices, grad)
        if self._touched_rows is not None:
            self._touched_rows.append(indices)
        self._kept_grad = weight.grad = kept_grad
        self._grad_version = kept_grad._version


class _KeptGradient(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, weight: Tensor, indices: Tensor, module: _KeptGradientEmbedding
    ) -> Tensor:
        ctx.indices, ctx.module = indices, module
        return F.embedding(indices, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[None, None, None]:
        ctx.module.add_gradient(ctx.indices.flatten(), grad.flatten(0, -2).contiguous())
        return None, None, None
