"""Whether tensors are finite: one pass over them, and one wait for the device."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

__all__ = ["first_non_finite"]


def first_non_finite(tensors: Mapping[str, Tensor]) -> str | None:
    """The name of a tensor that holds NaN or infinity, None if there is none.

    The largest magnitude of all tensors is read from the device once; single tensors are looked
    at only if it is not finite. Integers count as finite.
    """
    floating = {
        name: tensor.detach() for name, tensor in tensors.items()
        if tensor.is_floating_point() and tensor.numel()
    }  # fmt: skip
    largest = torch.nn.utils.get_total_norm(list(floating.values()), norm_type=float("inf"))
    if bool(largest.isfinite()):
        return None
    return next((name for name, each in floating.items() if not each.isfinite().all()), None)
