"""What is shown of low-rank updates, by layer and module, of the best model.

σ                 singular values of an update: |E| as trained, or those of s·B·A
sum               Σ σ, how much of an update there is
rank              σ > 0, where ranks adapt
effective rank    exp(−Σ p log p), p = σ / Σ σ      (Roy and Vetterli 2007)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import nn

from bertft.methods.layer_grid import layer_grid
from bertft.methods.low_rank.export import low_rank_layers
from bertft.methods.low_rank.svd_lora import SVDLoRA
from bertft.methods.low_rank.update import Update
from bertft.tasks.report_items import LineChart, ReportItem

__all__ = ["budget_curve", "effective_rank", "singular_values", "update_grids"]


def budget_curve(history: tuple[Sequence[float], Sequence[float]], final_budget: int) -> LineChart:
    """The curve of triplets left; ``final_budget`` is what the schedule comes down to."""
    return LineChart(
        "budget",
        "Budget",
        f"Triplets left in all modules together; {final_budget:,} in the end.",
        series={"triplets": history},
        is_step_function=True,
    )


def update_grids(model: nn.Module) -> Iterator[ReportItem]:
    """Grids of layer × module; none where nothing is adapted."""
    updates_by_name = {
        (path, role): adapter
        for path, layer in low_rank_layers(model).items()
        for role, adapter in layer.adapter.items()
    }
    if not updates_by_name:
        return
    values = [singular_values(adapter) for adapter in updates_by_name.values()]  # type: ignore[arg-type]
    adaptive = any(
        isinstance(values_of_update, SVDLoRA) for values_of_update in updates_by_name.values()
    )
    modules = list(updates_by_name)
    symbol = "|E|" if adaptive else "σ"
    yield layer_grid(
        "singular_values",
        f"Singular values, Σ {symbol}",
        "How much each module was changed.",
        modules,
        [float(each.sum()) for each in values],
        2,
    )
    if adaptive:
        ranks = [float(np.count_nonzero(each)) for each in values]
        yield layer_grid(
            "ranks", "Rank kept", "Triplets that pruning left to each module.", modules, ranks, 0
        )
    yield layer_grid(
        "effective_ranks",
        "Effective rank",
        "How many directions share the change: exp of the entropy of the singular values.",
        modules,
        [effective_rank(each) for each in values],
        1,
    )


@torch.no_grad()
def singular_values(adapter: Update) -> np.ndarray:
    """[r], descending, in fp64: of an SVD-LoRA |E|, of others those of the product."""
    if isinstance(adapter, SVDLoRA):
        magnitudes = adapter.E.detach().abs().double().cpu()
        return magnitudes.sort(descending=True).values.numpy()
    down, up = (factor.double().cpu() for factor in adapter.scaled_factors())
    # B·A = Q_b (R_b R_aᵀ) Q_aᵀ: the small matrix in the middle has its singular values.
    core = torch.linalg.qr(up).R @ torch.linalg.qr(down.T).R.T
    return torch.linalg.svdvals(core).numpy()


def effective_rank(values: np.ndarray) -> float:
    """0 of an update that is 0."""
    total = values.sum()
    if not total > 0:
        return 0.0
    shares = values[values > 0] / total
    return float(np.exp(-(shares * np.log(shares)).sum()))
