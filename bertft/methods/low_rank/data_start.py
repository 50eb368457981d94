"""Initialize low-rank updates from a few batches.

    activations   rows of A: the top eigenvectors of Σ x·xᵀ over the inputs x of the layer (EVA,
                  Paischer et al. 2024, arXiv 2410.07170)
    gradient      rows of A, and columns of B with svd_lora: the top singular vectors of ∂L/∂W (the
                  directions of LoRA-GA, Wang et al. 2024, arXiv 2407.05000)

The data determine the directions, not the norms: ΔW is 0 at the start, and the base weights do not
change. Tokens on which the loss does not depend, such as padding, are excluded.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from bertft.errors import NonFiniteError
from bertft.methods.component import RunPasses
from bertft.methods.low_rank.fold import low_rank_layers
from bertft.methods.low_rank.lora import LowRankLinear, Update
from bertft.models.precision import at_least_fp32

__all__ = ["start_from_data", "top_eigenvectors", "top_singular_vectors"]


def start_from_data(model: nn.Module, start: str, run_passes: RunPasses) -> None:
    """Align the updates of ``model`` with the statistics of the passes that ``run_passes`` runs.

    Args:
        start: ``activations`` or ``gradient``.

    Raises:
        NonFiniteError: A statistic is not finite.
    """
    compute = _input_products if start == "activations" else _weight_gradient
    sums: dict[str, Tensor] = {}

    def record(path: str, layer: LowRankLinear, args: tuple[Tensor], output: Tensor) -> None:
        inputs = args[0].detach().reshape(-1, layer.in_features)

        def add(gradient: Tensor) -> None:
            statistic = compute(inputs, gradient.reshape(-1, layer.out_features))
            sums[path] = sums[path] + statistic if path in sums else statistic

        if output.requires_grad:
            output.register_hook(add)

    layers = low_rank_layers(model)
    hooks = [layer.register_forward_hook(partial(record, path)) for path, layer in layers.items()]
    try:
        run_passes(sums.clear)
    finally:
        for hook in hooks:
            hook.remove()
    for path, statistic in sums.items():
        if not statistic.isfinite().all():
            raise NonFiniteError(
                f"the inputs or gradients of {path} are not finite",
                where=f"method.low_rank.start={start}",
                hint="Check the rows, or set method.low_rank.start=gaussian (lora: zero_b)",
            )
        for rows, update in layers[path].updates():
            if start == "activations":
                _align(update, top_eigenvectors(statistic, update.rank), None)
            else:
                gradient = statistic if rows is None else statistic[rows]
                _align(update, *top_singular_vectors(gradient, update.rank))


def _input_products(inputs: Tensor, gradients: Tensor) -> Tensor:
    """Σ x·xᵀ [in, in] over the tokens with a gradient; inputs [N, in], gradients [N, out]."""
    used = inputs[gradients.any(dim=1)].to(at_least_fp32(inputs.dtype))
    return used.T @ used


def _weight_gradient(inputs: Tensor, gradients: Tensor) -> Tensor:
    """∂L/∂W [out, in]; inputs [N, in], gradients of the outputs [N, out]."""
    dtype = at_least_fp32(gradients.dtype)
    return gradients.to(dtype).T @ inputs.to(dtype)


def _align(update: Update, down: Tensor, up: Tensor | None) -> None:
    """Give A the directions ``down`` [k, in], and B ``up`` [k, out]; k is at most the rank."""
    factors = dict(update.named_parameters())
    columns = None if up is None else _complete(up, factors["B"].T).T
    update.align(_complete(down, factors["A"]), columns)


def _complete(directions: Tensor, initial: Tensor) -> Tensor:
    """[r, n] orthonormal: ``directions`` [k, n], then rows in the span of the last of ``initial``.

    Layers with fewer directions than the rank keep the random ones for the rest.
    """
    rows = torch.cat([directions, initial[len(directions) :].detach().to(directions)])
    basis, triangle = torch.linalg.qr(rows.T)
    signs = torch.where(triangle.diagonal() < 0, -1.0, 1.0)
    return (basis * signs).T


def top_eigenvectors(matrix: Tensor, count: int) -> Tensor:
    """[k, n]: orthonormal eigenvectors of the largest eigenvalues, at most ``count``.

    Those of eigenvalues that are 0 up to rounding are left out, because they are arbitrary.

    Args:
        matrix: Symmetric and positive semi-definite [n, n]; n is at least ``count``.
    """
    values, vectors = torch.linalg.eigh(matrix)
    resolution = torch.finfo(matrix.dtype).eps * len(matrix) * values[-1]
    rows = vectors.T[values > resolution].flip(0)[:count]
    # LAPACK may return either sign of a vector.
    largest = rows.gather(1, rows.abs().argmax(1, keepdim=True))
    return torch.where(largest < 0, -rows, rows)


def top_singular_vectors(matrix: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """down [k, in] and up [k, out] of the largest singular values, at most ``count``.

    Args:
        matrix: [out, in]; both are at least ``count``.
    """
    out_features, in_features = matrix.shape
    if out_features > in_features:
        up, down = top_singular_vectors(matrix.T, count)
        return down, up
    # Much faster than an SVD. In fp64, since the products square the singular values.
    matrix = matrix.double()
    up = top_eigenvectors(matrix @ matrix.T, count)
    return torch.nn.functional.normalize(up @ matrix, dim=1), up
