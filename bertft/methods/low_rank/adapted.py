"""A linear layer with a low-rank update beside it.

    y = W·x + bias + s · up · (down · drop(x)),   x [..., in], y [..., out]

``weight`` and ``bias`` are the linear layer's own parameters, under their own names. ``adapter``
holds one update a role; more than one only where a matrix is fused, each adding to its own rows.
Of a layer that another method has wrapped, ``inner`` is that wrapper, and W·x + bias is inner(x).
The update is two thin products in the type of the frozen product: factors are cast, x is not
copied. Dropout acts on the update's input in training alone, one mask a layer.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bertft.methods.low_rank.dora import DoRA
from bertft.methods.low_rank.dtypes import computing
from bertft.methods.low_rank.update import Update
from bertft.models.dropout import drop_linear, dropout
from bertft.models.wrapper import LinearWrapper

__all__ = ["AdaptedLinear", "Adapter"]

Adapter = Update


class AdaptedLinear(LinearWrapper):
    """Takes the place of ``linear``; ``adapters``: role → (rows of the weight or None, update)."""

    def __init__(
        self,
        linear: nn.Linear | LinearWrapper,
        adapters: Mapping[str, tuple[slice | None, Adapter]],
        dropout: float,
    ) -> None:
        self.wraps = isinstance(linear, LinearWrapper)
        super().__init__(linear if self.wraps else None)
        if not self.wraps:
            self.in_features, self.out_features = linear.in_features, linear.out_features
            self.weight, self.bias = linear.weight, linear.bias
        self.adapter = nn.ModuleDict({role: adapter for role, (_, adapter) in adapters.items()})
        self.rows = {role: rows for role, (rows, _) in adapters.items()}
        self.dropout = dropout
        self.train(linear.training)

    def parts(self) -> list[tuple[slice | None, Adapter]]:
        """(rows or None, update), in the order of the roles."""
        return [(self.rows[role], adapter) for role, adapter in self.adapter.items()]  # type: ignore[misc]

    def weight_rows(self, rows: slice | None) -> Tensor:
        return self.weight if rows is None else self.weight[rows]

    def forward(self, x: Tensor) -> Tensor:
        # In two dimensions the sum below can be in place without a view in autograd's way.
        flat = computing(x).reshape(-1, self.in_features)
        y = self.inner(flat) if self.wraps else F.linear(flat, self.weight, self.bias)
        p = self.dropout if self.training else 0.0
        if any(isinstance(adapter, DoRA) for adapter in self.adapter.values()):
            y = self._with_magnitudes(y, dropout(flat, p) if p else None, flat)
        else:
            down, up, scale = self._factors(y.dtype)
            h, factor = drop_linear(flat, down, p) if p else (F.linear(flat, down), 1.0)
            y = y.addmm_(h, up, alpha=scale * factor)
        return y.view(*x.shape[:-1], self.out_features)

    def _factors(self, dtype: torch.dtype) -> tuple[Tensor, Tensor, float]:
        """down [R, in], up [R, out] and the scale; a fused matrix's updates count as one."""
        downs, ups, scale = [], [], 1.0
        for rows, adapter in self.parts():
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

    def _with_magnitudes(self, y: Tensor, dropped: Tensor | None, x: Tensor) -> Tensor:
        z = x if dropped is None else dropped
        for rows, adapter in self.parts():
            assert isinstance(adapter, DoRA)
            weight = self.weight_rows(rows)
            if dropped is not None:
                base = F.linear(dropped, weight)
            else:
                base = y if rows is None else y[:, rows]
                if self.bias is not None:
                    base = base - (self.bias if rows is None else self.bias[rows]).to(y.dtype)
            down, up = (factor.to(y.dtype) for factor in adapter.factors())
            delta = F.linear(F.linear(z, down), up) * adapter.scale
            extra = adapter.extra(base, delta, weight)
            if rows is not None:
                extra = F.pad(extra, (rows.start, self.out_features - rows.stop))
            y = y + extra
        return y

    def plain(self) -> nn.Linear:
        """The linear layer again, with the same parameters."""
        if self.wraps:
            return super().plain()
        linear = nn.Linear(
            self.in_features, self.out_features, self.bias is not None, device="meta"
        )
        linear.weight, linear.bias = self.weight, self.bias
        return linear.train(self.training)

    def extra_repr(self) -> str:
        return f"{self.in_features} → {self.out_features}, dropout={self.dropout:g}"
