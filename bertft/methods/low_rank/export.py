"""The updates of an adapted model as plain factors, and folded into its weights.

    factors      W + B'·A'                          rows of W each pair is for; None: all
    magnitudes   DoRA's m, for diag(m / ‖W + B'·A'‖) · (W + B'·A')
    fold         the same, computed in fp64 and rounded once to the weight's fp32 or fp64

All of them read the model alone, so that a copy of it can be folded.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bertft.methods.low_rank.linear import LowRankLinear
from bertft.methods.low_rank.lora import DoRA
from bertft.models.linear_layers import check_foldable, replace_modules

__all__ = ["dora_magnitudes", "fold_updates", "low_rank_layers", "scaled_factors_by_layer"]


def low_rank_layers(model: nn.Module) -> dict[str, LowRankLinear]:
    """Path → layer, each once."""
    return {
        path: module for path, module in model.named_modules() if isinstance(module, LowRankLinear)
    }


def scaled_factors_by_layer(
    model: nn.Module,
) -> dict[str, list[tuple[slice | None, Tensor, Tensor]]]:
    """Path → [(rows, A' [r, in], B' [rows, r])] with ΔW = B'·A', scale 1.

    Pruned triplets are left out, and a layer that has none left; principal starts have rank 2r.
    DoRA's ΔW is only half of it: see ``dora_magnitudes``.
    """
    factors_by_path = {
        path: [(rows, *adapter.scaled_factors()) for rows, adapter in layer.updates()]
        for path, layer in low_rank_layers(model).items()
    }
    nonempty = {
        path: [entry for entry in layer_factors if len(entry[1])]
        for path, layer_factors in factors_by_path.items()
    }
    return {path: parts for path, parts in nonempty.items() if parts}


def dora_magnitudes(model: nn.Module) -> dict[str, list[tuple[slice | None, Tensor]]]:
    """Path → [(rows, m)]; empty without DoRA."""
    magnitudes_by_path = {
        path: [
            (rows, adapter.magnitude.detach().clone())
            for rows, adapter in layer.updates()
            if isinstance(adapter, DoRA)
        ]
        for path, layer in low_rank_layers(model).items()
    }
    return {
        path: layer_magnitudes
        for path, layer_magnitudes in magnitudes_by_path.items()
        if layer_magnitudes
    }


@torch.no_grad()
def fold_updates(model: nn.Module) -> int:
    """Fold every update into the weight below and put plain linear layers back; how many.

    BertftError, and nothing changed, where a weight is kept in less than fp32.
    """
    layers = low_rank_layers(model)
    check_foldable(layers)
    replacements: dict[nn.Module, nn.Module] = {layer: layer.unwrap() for layer in layers.values()}
    for layer in layers.values():
        for rows, adapter in layer.updates():
            weight = layer.weight_rows(rows)
            down, up = (factor.double() for factor in adapter.scaled_factors())
            updated_weight = torch.addmm(weight.double(), up, down)
            if isinstance(adapter, DoRA):
                norm = torch.linalg.vector_norm(updated_weight, dim=1)
                updated_weight *= (adapter.magnitude.double() / norm)[:, None]
            weight.copy_(updated_weight)
    replace_modules(model, replacements)
    return len(layers)
