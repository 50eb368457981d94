"""Types that updates are kept in and computed in."""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from torch import Tensor

__all__ = ["at_least_fp32", "computing", "exact"]


def at_least_fp32(dtype: torch.dtype) -> torch.dtype:
    """fp64 for fp64; fp32 for everything below."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def computing(x: Tensor) -> Tensor:
    """``x`` in the type that autocast, if it is on, would multiply it in: cast once for all."""
    kind = x.device.type
    available = torch.amp.is_autocast_available(kind)  # not for the meta device
    if available and torch.is_autocast_enabled(kind) and x.dtype != torch.float64:
        return x.to(torch.get_autocast_dtype(kind))
    return x


def exact(x: Tensor) -> contextlib.AbstractContextManager[Any]:
    """No autocast where ``x`` lives."""
    kind = x.device.type
    if torch.amp.is_autocast_available(kind):
        return torch.autocast(kind, enabled=False)
    return contextlib.nullcontext()
