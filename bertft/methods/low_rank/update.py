"""The base class of a low-rank update ΔW = s · up · down, and the types of its products."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

__all__ = [
    "Update",
    "at_least_fp32",
    "autocast_disabled",
    "cast_for_autocast",
]


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


class Update(nn.Module, ABC):
    """ΔW for a weight [out, in]; parameters in fp32, or in fp64 where the weight is.

    ``groups``: parameter → end of the name of its parameter group; with "/no_decay" it does not
    decay.
    """

    groups: ClassVar[Mapping[str, str]] = {"A": "", "B": ""}
    rank: int
    scale: float

    @abstractmethod
    def factors(self) -> tuple[Tensor, Tensor]:
        """down [R, in] and up [out, R] with ΔW = scale · up · down, differentiable."""

    @abstractmethod
    def scaled_factors(self) -> tuple[Tensor, Tensor]:
        """A' [R, in] and B' [out, R] with ΔW = B'·A'."""

    def triplets_left(self) -> int | None:
        """Triplets that pruning left; None for a kind whose rank stays."""
        return None

    def sizes(self, left: int) -> tuple[int, int]:
        """Parameters kept and exported, with ``left`` triplets where the rank adapts."""
        count = sum(each.numel() for each in self.parameters())
        return count, count + sum(each.numel() for each in self.buffers())

    def extra_repr(self) -> str:
        return f"rank={self.rank}, scale={self.scale:g}"
