"""The updates of an adapted model as plain factors, and folded into its weights.

    factors      W + B'·A'                          rows of W each pair is for; None: all
    magnitudes   DoRA's m, for diag(m / ‖W + B'·A'‖) · (W + B'·A')
    fold         the same, computed in fp64 and rounded once to the weight's fp32 or fp64

All of them read the model alone, so that a copy of it can be folded.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bertft.methods.low_rank.adapted import AdaptedLinear
from bertft.methods.low_rank.dora import DoRA
from bertft.models.wrapper import check_foldable, replace_modules

__all__ = ["adapted_layers", "factors", "fold", "magnitudes"]


def adapted_layers(model: nn.Module) -> dict[str, AdaptedLinear]:
    """Path → layer, each once."""
    return {
        path: module for path, module in model.named_modules() if isinstance(module, AdaptedLinear)
    }


def factors(model: nn.Module) -> dict[str, list[tuple[slice | None, Tensor, Tensor]]]:
    """Path → [(rows, A' [r, in], B' [rows, r])] with ΔW = B'·A', scale 1.

    Pruned triplets are left out, and a layer that has none left; principal starts have rank 2r.
    DoRA's ΔW is only half of it: see ``magnitudes``.
    """
    found = {
        path: [(rows, *adapter.exported()) for rows, adapter in layer.parts()]
        for path, layer in adapted_layers(model).items()
    }
    left = {path: [each for each in parts if len(each[1])] for path, parts in found.items()}
    return {path: parts for path, parts in left.items() if parts}


def magnitudes(model: nn.Module) -> dict[str, list[tuple[slice | None, Tensor]]]:
    """Path → [(rows, m)]; empty without DoRA."""
    found = {
        path: [
            (rows, adapter.magnitude.detach().clone())
            for rows, adapter in layer.parts()
            if isinstance(adapter, DoRA)
        ]
        for path, layer in adapted_layers(model).items()
    }
    return {path: parts for path, parts in found.items() if parts}


@torch.no_grad()
def fold(model: nn.Module) -> int:
    """Fold every update into the weight below and put plain linear layers back; how many.

    BertftError, and nothing changed, where a weight is kept in less than fp32.
    """
    layers = adapted_layers(model)
    check_foldable(layers)
    plain: dict[nn.Module, nn.Module] = {layer: layer.plain() for layer in layers.values()}
    for layer in layers.values():
        for rows, adapter in layer.parts():
            weight = layer.weight_rows(rows)
            down, up = (each.double() for each in adapter.exported())
            moved = torch.addmm(weight.double(), up, down)
            if isinstance(adapter, DoRA):
                norm = torch.linalg.vector_norm(moved, dim=1)
                moved *= (adapter.magnitude.double() / norm)[:, None]
            weight.copy_(moved)
    replace_modules(model, plain)
    return len(layers)
