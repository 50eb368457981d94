"""Averages of weights, and their best approximation of a given rank.

    W̄ = W₀ + 1/n · Σ_i ΔW_i                               WeightMean
    ΔW̄ ≈ B·A with rank r, where ‖ΔW̄ − B·A‖_F is minimal     low_rank_factors: a truncated SVD

Every sum is in fp64, and the result is rounded once. Folded weights W₀ + ΔW_i of one base have the
average W₀ + mean ΔW_i. Wortsman et al. 2022, arXiv 2203.05482; Eckart & Young 1936.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from bertft.errors import BertftError

__all__ = ["Factors", "WeightMean", "low_rank_factors", "relative_error"]

# Singular values below this fraction of the largest one are rounding errors of the fold in fp64.
_NUMERICAL_RANK = 1e-9


class WeightMean:
    """The running mean of state dicts with equal names and shapes.

    Tensors of whole numbers (positions, for example) are not trained: all must be equal.
    """

    def __init__(self) -> None:
        self.count = 0
        self._sums: dict[str, Tensor] = {}
        self._dtypes: dict[str, torch.dtype] = {}

    def add(self, state: Mapping[str, Tensor]) -> None:
        """Add ``state``. BertftError if it has other names, shapes or whole numbers."""
        self._check(state)
        for name, tensor in state.items():
            if not tensor.is_floating_point():
                self._sums.setdefault(name, tensor.clone())
            elif name in self._sums:
                self._sums[name] += tensor.double()
            else:
                self._sums[name] = tensor.double().clone()
                self._dtypes[name] = tensor.dtype
        self.count += 1

    def mean(self) -> dict[str, Tensor]:
        """The mean, in the types of the first state."""
        return self._divide(self._sums, self.count)

    def mean_with(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What ``mean`` would return after ``add(state)``."""
        self._check(state)
        sums = {
            name: total + state[name].double() if name in self._dtypes else total
            for name, total in self._sums.items()
        }
        return self._divide(sums, self.count + 1)

    def _divide(self, sums: Mapping[str, Tensor], count: int) -> dict[str, Tensor]:
        return {
            name: (total / count).to(self._dtypes[name]) if name in self._dtypes else total.clone()
            for name, total in sums.items()
        }

    def _check(self, state: Mapping[str, Tensor]) -> None:
        if not self.count:
            return
        different = sorted(self._sums.keys() ^ state.keys()) or [
            name
            for name, tensor in state.items()
            if tensor.shape != self._sums[name].shape
            or (name not in self._dtypes and not tensor.equal(self._sums[name]))
        ]
        if different:
            raise BertftError(f"the models to average have different tensors: {different[:3]}")


@dataclass(frozen=True)
class Factors:
    """``down`` [r, in] and ``up`` [out, r] in fp64, and squared norms of ΔW and of the rest."""

    down: Tensor
    up: Tensor
    squared_norm: float
    squared_error: float


def low_rank_factors(update: Tensor, rank: int | None) -> Factors:
    """The best approximation up · down of ``update`` [out, in], fp64.

    ``rank``: r, at most; None: the numerical rank of the update.
    """
    u, singular_values, vh = torch.linalg.svd(update.double(), full_matrices=False)
    highest = float(singular_values[0])
    significant = int((singular_values > _NUMERICAL_RANK * highest).sum()) if highest else 0
    kept = significant if rank is None else min(rank, significant)
    root = singular_values[:kept].sqrt()
    return Factors(
        root[:, None] * vh[:kept],
        u[:, :kept] * root,
        float(singular_values.square().sum()),
        float(singular_values[kept:].square().sum()) if kept < significant else 0.0,
    )


def relative_error(factors: Mapping[str, Factors]) -> float:
    """‖ΔW − B·A‖_F / ‖ΔW‖_F over all layers together; 0 if there is no update."""
    norm = sum(entry.squared_norm for entry in factors.values())
    return math.sqrt(sum(entry.squared_error for entry in factors.values()) / norm) if norm else 0.0
