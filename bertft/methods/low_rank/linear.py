"""A frozen linear layer with low-rank updates.

    y = W·x + bias + s · up · (down · drop(x)),   x [..., in], y [..., out]

``weight`` and ``bias`` are the linear layer's own parameters, under their own names. ``adapter``
holds one update per role; more than one only where a matrix is fused, each adding to its own rows.
Of a layer that another method has wrapped, ``inner`` is that wrapper, and W·x + bias is inner(x).
The update is two thin products in the type of the frozen product: factors are cast, x is not
copied. Dropout acts on the update's input in training alone, one mask per layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bertft.methods.low_rank.lora import DoRA
from bertft.methods.low_rank.update import Update, cast_for_autocast
from bertft.models.dropout import dropout, dropout_linear
from bertft.models.linear_layers import LinearWrapper

__all__ = ["LowRankLinear"]


class LowRankLinear(LinearWrapper):
    """Takes the place of ``linear``; ``adapters``: role → (rows of the weight or None, update)."""

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
        """(rows or None, update), in the order of the roles."""
        adapters = cast("Mapping[str, Update]", self.adapter)
        return [(self.row_slices[role], adapter) for role, adapter in adapters.items()]

    def weight_rows(self, rows: slice | None) -> Tensor:
        return self.weight if rows is None else self.weight[rows]

    def forward(self, x: Tensor) -> Tensor:
        # In two dimensions the sum below can be in place without a view in autograd's way.
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

    def _joint_factors(self, dtype: torch.dtype) -> tuple[Tensor, Tensor, float]:
        """down [R, in], up [R, out] and the scale; a fused matrix's updates count as one."""
        downs, ups, scale = [], [], 1.0
        for rows, adapter in self.updates():
            down, up = adapter.factors()
            # Contiguous as [R, out], the gradient is a product of rows; transposed it is 5× slower.
            up = up.t().to(dtype).contiguous()
            if rows is not None:
                up = F.pad(up, (rows.start, self.out_features - rows.stop))
            downs.append(down.to(dtype))
            ups.append(up)
            scale = adapter.scale  # the same for all: they have one rank
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
                    base_output = base_output - (self.bias if rows is None else self.bias[rows]).to(
                        y.dtype
                    )
            down, up = (factor.to(y.dtype) for factor in adapter.factors())
            delta = F.linear(F.linear(update_input, down), up) * adapter.scale
            output_delta = adapter.output_delta(base_output, delta, weight)
            if rows is not None:
                output_delta = F.pad(output_delta, (rows.start, self.out_features - rows.stop))
            y = y + output_delta
        return y

    def unwrap(self) -> nn.Linear:
        """The linear layer again, with the same parameters."""
        if self.wraps_adapter:
            return super().unwrap()
        linear = nn.Linear(
            self.in_features, self.out_features, self.bias is not None, device="meta"
        )
        linear.weight, linear.bias = self.weight, self.bias
        return linear.train(self.training)

    def extra_repr(self) -> str:
        return f"{self.in_features} → {self.out_features}, dropout={self.dropout:g}"
