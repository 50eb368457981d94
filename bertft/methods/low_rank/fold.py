"""The low-rank updates of a model as plain factors, or folded into its weights.

    scaled_factors_by_layer   A', B' for W + B'·A'
    dora_magnitudes           m for diag(m / ‖W + B'·A'‖) · (W + B'·A')
    fold_updates              these weights, computed in fp64 and rounded once to fp32 or fp64

All of them use only the model, so that a copy of it can be folded.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bertft.methods.low_rank.lora import DoRA, LowRankLinear
from bertft.models.linear_layers import check_foldable, replace_modules

__all__ = ["dora_magnitudes", "fold_updates", "low_rank_layers", "scaled_factors_by_layer"]


def low_rank_layers(model: nn.Module) -> dict[str, LowRankLinear]:
    """Path → adapted layer, each once."""
    return {
        path: module for path, module in model.named_modules() if isinstance(module, LowRankLinear)
    }


def scaled_factors_by_layer(
    model: nn.Module,
) -> dict[str, list[tuple[slice | None, Tensor, Tensor]]]:
    """Path → [(rows, A' [r, in], B' [rows, r])] with ΔW = B'·A'; rows None: all.

    Pruned triplets are left out, and layers without a triplet. Principal starts have rank 2r. DoRA
    has magnitudes in addition: see ``dora_magnitudes``.
    """
    factors_by_path = {
        path: [(rows, *adapter.scaled_factors()) for rows, adapter in layer.updates()]
        for path, layer in low_rank_layers(model).items()
    }
    nonempty = {
        path: [entry for entry in entries if len(entry[1])]
        for path, entries in factors_by_path.items()
    }
    return {path: entries for path, entries in nonempty.items() if entries}


def dora_magnitudes(model: nn.Module) -> dict[str, list[tuple[slice | None, Tensor]]]:
    """Path → [(rows, m)] of layers with DoRA."""
    magnitudes_by_path = {
        path: [
            (rows, adapter.magnitude.detach().clone())
            for rows, adapter in layer.updates()
            if isinstance(adapter, DoRA)
        ]
        for path, layer in low_rank_layers(model).items()
    }
    return {path: entries for path, entries in magnitudes_by_path.items() if entries}


@torch.no_grad()
def fold_updates(model: nn.Module) -> int:
    """Fold every update into its weight and restore plain linear layers.

    Returns:
        The number of layers.

    Raises:
        BertftError: A weight is kept in less than fp32; nothing is changed.
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
