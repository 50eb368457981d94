"""Products with frozen weights, in bf16 by oneDNN on an x86 CPU.

For x [N, in], W [out, in] and g [N, out], ``FrozenProduct(W, b)`` computes

    product(x)             x·Wᵀ + b     the forward pass
    product.gradient(g)    g·W          the gradient of x

oneDNN reorders a weight into a blocked layout before it multiplies. With ``packed``, a bf16 product
keeps two reordered copies, one per direction: 6 to 8 % faster for hundreds of tokens, and twice as
fast for ten. The copies are made at first use, and again after the weight has changed.

fp32 uses ``F.linear``, which calls MKL. oneDNN would be 8 to 10 % faster, but it generates code for
each number of tokens and keeps it: 1,600 shapes took 3.7 GB in fp32. In bf16, oneDNN is torch's
only implementation on a CPU; ``SequenceLayout.rounded`` makes few shapes occur there.
"""

from __future__ import annotations

import functools
import platform
import weakref

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["FrozenProduct", "join_rows"]

# Address → bytes of joined parameters, as long as they are used.
_joined_memory: weakref.WeakValueDictionary[int, np.ndarray] = weakref.WeakValueDictionary()

_TYPICAL_TOKENS = 512  # for which oneDNN chooses the order


class FrozenProduct:
    """x·Wᵀ + b and its gradient, not differentiable by autograd."""

    def __init__(self, weight: Tensor, bias: Tensor | None, packed: bool) -> None:
        self.weight, self.bias = weight, bias
        self._packs = packed and _uses_onednn(weight.dtype)
        self._forward_weight: Tensor | None = None
        self._gradient_weight: Tensor | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """x·Wᵀ + b, [N, out]."""
        if not _uses_onednn(x.dtype):
            return F.linear(x, self.weight, self.bias)
        if self._packs and self._forward_weight is None:
            self._forward_weight = _pack(self.weight)
        weight = self.weight if self._forward_weight is None else self._forward_weight
        return _onednn_linear(x, weight, self.bias)

    def gradient(self, grad: Tensor) -> Tensor:
        """grad·W, [N, in]."""
        if not _uses_onednn(grad.dtype):
            return grad @ self.weight
        if self._packs and self._gradient_weight is None:
            self._gradient_weight = _pack(self.weight.t().contiguous())
        weight = self.weight.t() if self._gradient_weight is None else self._gradient_weight
        return _onednn_linear(grad, weight, None)


def _pack(weight: Tensor) -> Tensor:
    with torch.inference_mode(False), torch.no_grad():
        return torch.ops.mkldnn._reorder_linear_weight(weight, _TYPICAL_TOKENS)


def _onednn_linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


@functools.cache
def _uses_onednn(dtype: torch.dtype) -> bool:
    """Whether oneDNN's product is available and not slower than torch's."""
    if platform.machine() not in ("x86_64", "AMD64") or not torch.backends.mkldnn.is_available():
        return False
    if not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return False
    return dtype == torch.bfloat16 and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def join_rows(parameters: tuple[nn.Parameter, ...]) -> Tensor:
    """One tensor with the rows of all ``parameters``, which use its memory from then on if frozen.

    Every parameter has a storage of its size, so that torch.save writes its rows alone and
    safetensors does not take the parameters for shared. A later call returns the same memory,
    unless the parameters were replaced or moved since.
    """
    if any(parameter.requires_grad or parameter.is_inference() for parameter in parameters):
        return torch.cat([parameter.detach() for parameter in parameters])
    first = parameters[0]
    shape = (sum(len(parameter) for parameter in parameters), *first.shape[1:])
    with torch.inference_mode(False), torch.no_grad():  # parameters of later training, too
        memory = _joined_memory.get(first.data_ptr())
        if memory is None or not _are_joined(parameters, memory):
            joined = torch.cat([parameter.detach() for parameter in parameters])
            memory, start = joined.flatten().view(torch.uint8).numpy(), 0
            for parameter in parameters:
                end = start + parameter.numel() * parameter.element_size()
                rows = torch.from_numpy(memory[start:end])  # a storage that keeps ``memory`` alive
                parameter.data = rows.view(first.dtype).view(parameter.shape)
                start = end
            _joined_memory[first.data_ptr()] = memory
        return torch.from_numpy(memory).view(first.dtype).view(shape)


def _are_joined(parameters: tuple[nn.Parameter, ...], memory: np.ndarray) -> bool:
    """Whether the rows of ``parameters`` fill ``memory`` in this order."""
    address = start = memory.ctypes.data
    for parameter in parameters:
        if parameter.data_ptr() != address or not parameter.is_contiguous():
            return False
        address += parameter.numel() * parameter.element_size()
    return address == start + memory.nbytes
