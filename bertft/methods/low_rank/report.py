"""Report items of low-rank methods: the updates of the best model per layer and module.

σ                 singular values of an update: |E| with SVD-LoRA, otherwise those of s·B·A
sum               Σ σ, the size of the update
rank              the number of σ > 0, with adaptive ranks
effective rank    exp(−Σ p log p), p = σ / Σ σ      (Roy and Vetterli 2007)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import nn

from bertft.methods.layer_grid import layer_grid, module_names
from bertft.methods.low_rank.fold import low_rank_layers
from bertft.methods.low_rank.lora import Update
from bertft.methods.low_rank.svd_lora import SVDLoRA
from bertft.tasks.report_items import LineChart, ReportItem

__all__ = ["budget_curve", "effective_rank", "kept_ranks", "singular_values", "update_grids"]


def budget_curve(history: tuple[Sequence[float], Sequence[float]], final_budget: int) -> LineChart:
    """The number of remaining triplets over the steps.

    Args:
        history: (steps, numbers of triplets).
        final_budget: the number of triplets at the end of the schedule.
    """
    return LineChart(
        "budget",
        "Budget",
        f"Remaining singular triplets in all modules; the final budget is {final_budget:,}.",
        series={"triplets": history},
        is_step_function=True,
    )


def update_grids(model: nn.Module) -> Iterator[ReportItem]:
    """Heat maps of layer × module; none if no layer is adapted."""
    updates = _updates_by_module(model)
    if not updates:
        return
    modules = list(updates)
    values = [singular_values(update) for update in updates.values()]
    adaptive = any(isinstance(update, SVDLoRA) for update in updates.values())
    symbol = "|E|" if adaptive else "σ"
    yield layer_grid(
        "singular_values",
        f"Singular values, Σ {symbol}",
        "Size of the update per module.",
        modules,
        [float(sigma.sum()) for sigma in values],
        2,
    )
    if adaptive:
        ranks = [float(np.count_nonzero(sigma)) for sigma in values]
        yield layer_grid(
            "ranks",
            "Rank after pruning",
            "Remaining singular triplets per module.",
            modules,
            ranks,
            0,
        )
    yield layer_grid(
        "effective_ranks",
        "Effective rank",
        "Number of directions in the update: exp of the entropy of its singular values.",
        modules,
        [effective_rank(sigma) for sigma in values],
        1,
    )


def kept_ranks(model: nn.Module) -> dict[str, dict[str, float]]:
    """``rank`` → name of the module → number of remaining singular triplets."""
    updates = _updates_by_module(model)
    ranks = (float(np.count_nonzero(singular_values(update))) for update in updates.values())
    return {"rank": dict(zip(module_names(list(updates)), ranks, strict=True))}


def _updates_by_module(model: nn.Module) -> dict[tuple[str, str], Update]:
    """(path, role) → update."""
    return {
        (path, role): update
        for path, layer in low_rank_layers(model).items()
        for role, (_, update) in zip(layer.adapter, layer.updates(), strict=True)
    }


@torch.no_grad()
def singular_values(update: Update) -> np.ndarray:
    """Singular values of ``update`` in fp64, descending, [rank]."""
    if isinstance(update, SVDLoRA):
        magnitudes = update.E.detach().abs().double().cpu()
        return magnitudes.sort(descending=True).values.numpy()
    down, up = (factor.double().cpu() for factor in update.scaled_factors())
    # B·A = Q_b (R_b R_aᵀ) Q_aᵀ: the small matrix R_b R_aᵀ has the singular values of B·A.
    core = torch.linalg.qr(up).R @ torch.linalg.qr(down.T).R.T
    return torch.linalg.svdvals(core).numpy()


def effective_rank(values: np.ndarray) -> float:
    """The effective rank of singular values; 0 if all are 0."""
    total = values.sum()
    if not total > 0:
        return 0.0
    shares = values[values > 0] / total
    return float(np.exp(-(shares * np.log(shares)).sum()))
