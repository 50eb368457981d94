"""What every kind of low-rank update has: parameters of ΔW = scale · up · down for one weight."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor, nn

__all__ = ["Update"]


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
