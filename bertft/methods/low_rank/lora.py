"""A frozen linear layer with low-rank updates, and LoRA's update.

    y = W·x + bias + s · B · (A · drop(x)),   x [..., in], y [..., out], A [r, in], B [out, r]

LoRA (Hu et al. 2021, arXiv 2106.09685) trains A and B, with ΔW = s · B · A and s = alpha / r, or
alpha / √r (Kalajdzievski 2023, arXiv 2312.03732):

    zero_b      A ~ Kaiming-uniform (a = √5), B = 0: ΔW is 0 at the start
    principal   B₀·A₀ are the r largest singular triplets of W / s, √S on either side (PiSSA,
                Meng et al. 2024, arXiv 2404.02948). To leave the base weights as they are,
                ΔW = s · (B·A − B₀·A₀), with A₀ and B₀ as buffers
    activations, gradient
                as zero_b, but the rows of A have the directions of ``data_start``

That difference is computed as (B − B₀)·A + B₀·(A − A₀): exactly 0 at the start, one product of
rank 2r, and nothing cancels in half precision.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bertft.config.method_components.low_rank import DATA_STARTS
from bertft.models.dropout import dropout, dropout_linear
from bertft.models.linear_layers import LinearWrapper, LowRankUpdate
from bertft.models.precision import at_least_fp32, autocast_disabled, cast_for_autocast

__all__ = ["DoRA", "LoRA", "LowRankLinear", "Update"]


class LowRankLinear(LinearWrapper):
    """Replaces a linear layer; its ``weight`` and ``bias`` keep their names.

    The update is two thin products in the type of the frozen product. Dropout is applied to the
    input of the update in training, with one mask per layer.

    Args:
        linear: The layer, or a wrapper by which another method has changed it.
        adapters: Role → (rows of the weight, its update); rows None: all. There is more than one
            role only in a fused matrix, where each update adds to its own rows.
        dropout: Dropout rate.
    """

    def __init__(
        self,
        linear: nn.Linear | LinearWrapper,
        adapters: Mapping[str, tuple[slice | None, Update]],
        dropout: float,
    ) -> None:
        self.wraps_adapter = isinstance(linear, LinearWrapper)
        super().__init__(linear if self.wraps_adapter else None)
        if not self.wraps_adapter:
            self.in_features, self.out_features = linear.in_features, linear.out_features
            self.weight, self.bias = linear.weight, linear.bias
        self.adapter = nn.ModuleDict({role: adapter for role, (_, adapter) in adapters.items()})
        self.row_slices = {role: rows for role, (rows, _) in adapters.items()}
        self.dropout = dropout
        self.train(linear.training)

    def updates(self) -> list[tuple[slice | None, Update]]:
        """(rows, update) of each role; rows None: all."""
        adapters = cast("Mapping[str, Update]", self.adapter)
        return [(self.row_slices[role], adapter) for role, adapter in adapters.items()]

    def weight_rows(self, rows: slice | None) -> Tensor:
        return self.weight if rows is None else self.weight[rows]

    def forward(self, x: Tensor) -> Tensor:
        # In two dimensions, autograd allows the sum below to be in place.
        flat = cast_for_autocast(x).reshape(-1, self.in_features)
        y = self.inner(flat) if self.wraps_adapter else F.linear(flat, self.weight, self.bias)
        dropout_rate = self.dropout if self.training else 0.0
        if any(isinstance(adapter, DoRA) for adapter in self.adapter.values()):
            y = self._add_dora_updates(
                y, dropout(flat, dropout_rate) if dropout_rate else None, flat
            )
        else:
            down, up, scale = self._joint_factors(y.dtype)
            h, dropout_scale = (
                dropout_linear(flat, down, dropout_rate)
                if dropout_rate
                else (F.linear(flat, down), 1.0)
            )
            y = y.addmm_(h, up, alpha=scale * dropout_scale)
        return y.view(*x.shape[:-1], self.out_features)

    def low_rank_update(self) -> LowRankUpdate | None:
        """The update of the whole layer; None if it has several, or one of another form."""
        if self.wraps_adapter or len(self.adapter) != 1:
            return None
        ((rows, adapter),) = self.updates()
        if rows is not None or not adapter.is_plain_product:
            return None
        return LowRankUpdate(*adapter.factors(), adapter.scale, self.dropout)

    def _joint_factors(self, dtype: torch.dtype) -> tuple[Tensor, Tensor, float]:
        """down [R, in], up [R, out] and the scale of all updates together."""
        downs, ups, scale = [], [], 1.0
        for rows, adapter in self.updates():
            down, up = adapter.factors()
            # Contiguous, because its gradient is 5 times slower in a transposed layout.
            up = up.t().to(dtype).contiguous()
            if rows is not None:
                up = F.pad(up, (rows.start, self.out_features - rows.stop))
            downs.append(down.to(dtype))
            ups.append(up)
            scale = adapter.scale  # all updates of a layer have the same
        if len(downs) == 1:
            return downs[0], ups[0], scale
        return torch.cat(downs), torch.cat(ups), scale

    def _add_dora_updates(self, y: Tensor, dropped: Tensor | None, x: Tensor) -> Tensor:
        update_input = x if dropped is None else dropped
        for rows, adapter in self.updates():
            assert isinstance(adapter, DoRA)
            weight = self.weight_rows(rows)
            if dropped is not None:
                base_output = F.linear(dropped, weight)
            else:
                base_output = y if rows is None else y[:, rows]
                if self.bias is not None:
                    bias = self.bias if rows is None else self.bias[rows]
                    base_output = base_output - bias.to(y.dtype)
            down, up = (factor.to(y.dtype) for factor in adapter.factors())
            delta = F.linear(F.linear(update_input, down), up) * adapter.scale
            output_delta = adapter.output_delta(base_output, delta, weight)
            if rows is not None:
                output_delta = F.pad(output_delta, (rows.start, self.out_features - rows.stop))
            y = y + output_delta
        return y

    def unwrap(self) -> nn.Linear:
        """A plain linear layer with the same parameters."""
        if self.wraps_adapter:
            return super().unwrap()
        linear = nn.Linear(
            self.in_features, self.out_features, self.bias is not None, device="meta"
        )
        linear.weight, linear.bias = self.weight, self.bias
        return linear.train(self.training)

    def extra_repr(self) -> str:
        return f"{self.in_features} → {self.out_features}, dropout={self.dropout:g}"


class Update(nn.Module, ABC):
    """ΔW for a weight [out, in]. Parameters are in fp32, or in fp64 if the weight is.

    ``groups``: parameter → suffix of the name of its group; "/no_decay" excludes weight decay.
    ``is_plain_product``: the update is ΔW·x with trained factors of a low rank and nothing else.
    """

    groups: ClassVar[Mapping[str, str]] = {"A": "", "B": ""}
    is_plain_product: ClassVar[bool] = False
    rank: int
    scale: float

    @abstractmethod
    def factors(self) -> tuple[Tensor, Tensor]:
        """down [R, in] and up [out, R] with ΔW = scale · up · down, differentiable."""

    @abstractmethod
    def scaled_factors(self) -> tuple[Tensor, Tensor]:
        """A' [R, in] and B' [out, R] with ΔW = B'·A'."""

    def align(self, down: Tensor, up: Tensor | None) -> None:
        """Set the factors to these directions, scaled to the norms of a random start.

        Args:
            down: Orthonormal rows [r, in].
            up: Orthonormal columns [out, r]; None: B stays as it is.
        """
        raise NotImplementedError(f"{type(self).__name__} has no start from data")

    def triplets_left(self) -> int | None:
        """Triplets that pruning has kept; None for kinds with a fixed rank."""
        return None

    def sizes(self, triplets: int) -> tuple[int, int]:
        """Parameters kept and exported; ``triplets`` left, for kinds whose rank adapts."""
        count = sum(parameter.numel() for parameter in self.parameters())
        return count, count + sum(buffer.numel() for buffer in self.buffers())

    def extra_repr(self) -> str:
        return f"rank={self.rank}, scale={self.scale:g}"


class LoRA(Update):
    """ΔW = scale · B · A, with A [r, in] and B [out, r]."""

    is_plain_product: ClassVar = True
    A: nn.Parameter
    B: nn.Parameter
    A0: Tensor | None
    B0: Tensor | None

    def __init__(self, weight: Tensor, rank: int, scale: float, start: str = "zero_b") -> None:
        super().__init__()
        self.rank, self.scale = rank, scale
        out_features, in_features = weight.shape
        weight = weight.detach().to(at_least_fp32(weight.dtype))
        if start in ("zero_b", *DATA_STARTS):
            down = nn.init.kaiming_uniform_(weight.new_empty(rank, in_features), a=math.sqrt(5))
            up = weight.new_zeros(out_features, rank)
        elif start == "principal":
            down, up = _principal_factors(weight / scale, rank)
        else:
            raise ValueError(f"unknown start {start!r}")
        self.A, self.B = nn.Parameter(down), nn.Parameter(up)
        keeps_start = start == "principal"
        self.register_buffer("A0", down.clone() if keeps_start else None)
        self.register_buffer("B0", up.clone() if keeps_start else None)

    def factors(self) -> tuple[Tensor, Tensor]:
        """down [R, in] and up [out, R] with ΔW = scale · up · down; R is r, or 2r."""
        if self.A0 is None or self.B0 is None:
            return self.A, self.B
        return (
            torch.cat([self.A, self.A - self.A0]),
            torch.cat([self.B - self.B0, self.B0], 1),
        )

    @torch.no_grad()
    def align(self, down: Tensor, up: Tensor | None) -> None:
        """A = ``down``, scaled to the root-mean-square norm of Kaiming-uniform rows; B stays 0."""
        self.A.copy_(down / math.sqrt(3))

    @torch.no_grad()
    def scaled_factors(self) -> tuple[Tensor, Tensor]:
        """A' and B' with ΔW = B'·A'."""
        down, up = self.factors()
        return down.clone(), up * self.scale


class DoRA(LoRA):
    """DoRA: W' = diag(m / ‖W + ΔW‖) · (W + ΔW), with a trained ``magnitude`` m [out].

    Liu et al. 2024 (arXiv 2402.09353). The norms of the rows are constants in the backward pass.
    """

    groups: ClassVar = {**LoRA.groups, "magnitude": "/no_decay"}
    is_plain_product: ClassVar = False

    def __init__(self, weight: Tensor, rank: int, scale: float, start: str = "zero_b") -> None:
        super().__init__(weight, rank, scale, start)
        self.magnitude = nn.Parameter(self.row_norms(weight))

    @torch.no_grad()
    def row_norms(self, weight: Tensor) -> Tensor:
        """‖W + ΔW‖ per row [out], in fp32 or fp64."""
        down, up = self.factors()
        weight = weight.detach().to(at_least_fp32(weight.dtype))
        with autocast_disabled(weight):
            updated_weight = torch.addmm(weight, up, down, alpha=self.scale)
        return torch.linalg.vector_norm(updated_weight, dim=1)

    def row_gain(self, weight: Tensor) -> Tensor:
        """m / ‖W + ΔW‖ [out], differentiable in m."""
        return self.magnitude / self.row_norms(weight)

    def output_delta(self, base_output: Tensor, update_output: Tensor, weight: Tensor) -> Tensor:
        """What to add to W·x + bias, from W·z and ΔW·z [N, out]; z is x after dropout."""
        gain = self.row_gain(weight)
        dtype = base_output.dtype
        # 1 is subtracted before the cast: in bf16, 1.001 would be 1.
        return (gain - 1).to(dtype) * base_output + gain.to(dtype) * update_output


def _principal_factors(weight: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    u, singular_values, vh = torch.linalg.svd(weight, full_matrices=False)
    root = singular_values[:rank].sqrt()
    return (root[:, None] * vh[:rank]).contiguous(), (u[:, :rank] * root).contiguous()
