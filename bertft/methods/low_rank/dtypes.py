"""Types that updates are kept in and computed in."""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from torch import Tensor

__all__ = ["at_least_fp32", "cast_for_autocast", "autocast_disabled"]


def at_least_fp32(dtype: torch.dtype) -> torch.dtype:
    """fp64 for fp64; fp32 for everything below."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def cast_for_autocast(x: Tensor) -> Tensor:
    """``x`` in the type that autocast, if it is on, would multiply it in: cast once for all."""
    device_type = x.device.type
    available = torch.amp.is_autocast_available(device_type)  # not for the meta device
    if available and torch.is_autocast_enabled(device_type) and x.dtype != torch.float64:
        return x.to(torch.get_autocast_dtype(device_type))
    return x


def autocast_disabled(x: Tensor) -> contextlib.AbstractContextManager[Any]:
    """No autocast where ``x`` lives."""
    device_type = x.device.type
    if torch.amp.is_autocast_available(device_type):
        return torch.autocast(device_type, enabled=False)
    return contextlib.nullcontext()
