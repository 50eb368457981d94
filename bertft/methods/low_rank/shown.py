"""What is shown of low-rank updates, by layer and module, of the best model.

σ                 singular values of an update: |E| as trained, or those of s·B·A
sum               Σ σ, how much of an update there is
rank              σ > 0, where ranks adapt
effective rank    exp(−Σ p log p), p = σ / Σ σ      (Roy and Vetterli 2007)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import nn

from bertft.methods.low_rank.adapted import Adapter
from bertft.methods.low_rank.export import adapted_layers
from bertft.methods.low_rank.svd_lora import SVDLoRA
from bertft.runs.exhibits import Exhibit, Grid, Lines

__all__ = ["budget", "effective_rank", "places", "singular_values", "updates"]


def budget(measured: tuple[Sequence[float], Sequence[float]], last: int) -> Lines:
    """The curve of triplets left; ``last`` is what the schedule comes down to."""
    return Lines(
        "budget", "Budget", f"Triplets left in all modules together; {last:,} in the end.",
        series={"triplets": measured}, stairs=True,
    )  # fmt: skip


def updates(model: nn.Module) -> Iterator[Exhibit]:
    """Grids of layer × module; none where nothing is adapted."""
    found = {
        (path, role): adapter
        for path, layer in adapted_layers(model).items()
        for role, adapter in layer.adapter.items()
    }
    if not found:
        return
    values = [singular_values(adapter) for adapter in found.values()]  # type: ignore[arg-type]
    adaptive = any(isinstance(each, SVDLoRA) for each in found.values())
    at = places(list(found))
    layers = list(dict.fromkeys(layer for layer, _ in at))
    modules = list(dict.fromkeys(module for _, module in at))

    def grid(name: str, title: str, note: str, cells: Sequence[float], digits: int) -> Grid:
        table = np.full((len(layers), len(modules)), np.nan)
        for (layer, module), cell in zip(at, cells, strict=True):
            table[layers.index(layer), modules.index(module)] = cell
        return Grid(
            name, title, note, rows=layers, columns=[m.replace("_", " ") for m in modules],
            values=table, row_title="layer", digits=digits,
        )  # fmt: skip

    letter = "|E|" if adaptive else "σ"
    yield grid(
        "singular_values", f"Singular values, Σ {letter}", "How much each module was changed.",
        [float(each.sum()) for each in values], 2,
    )  # fmt: skip
    if adaptive:
        ranks = [float(np.count_nonzero(each)) for each in values]
        yield grid("ranks", "Rank kept", "Triplets that pruning left to each module.", ranks, 0)
    yield grid(
        "effective_ranks", "Effective rank",
        "How many directions share the change: exp of the entropy of the singular values.",
        [effective_rank(each) for each in values], 1,
    )  # fmt: skip


@torch.no_grad()
def singular_values(adapter: Adapter) -> np.ndarray:
    """[r], descending, in fp64: of an SVD-LoRA |E|, of others those of the product."""
    if isinstance(adapter, SVDLoRA):
        found = adapter.E.detach().abs().double().cpu()
        return found.sort(descending=True).values.numpy()
    down, up = (each.double().cpu() for each in adapter.exported())
    # B·A = Q_b (R_b R_aᵀ) Q_aᵀ: the small matrix in the middle has its singular values.
    middle = torch.linalg.qr(up).R @ torch.linalg.qr(down.T).R.T
    return torch.linalg.svdvals(middle).numpy()


def effective_rank(values: np.ndarray) -> float:
    """0 of an update that is 0."""
    total = values.sum()
    if not total > 0:
        return 0.0
    shares = values[values > 0] / total
    return float(np.exp(-(shares * np.log(shares)).sum()))


def places(modules: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """(path, role) of each update → (its layer's number, its column).

    The column is the role; where that is none, or a layer has several of it, the path's end.
    """
    split = [_split(path) for path, _ in modules]
    roles = [(layer, role) for (layer, _), (_, role) in zip(split, modules, strict=True)]
    counts = Counter(roles)
    return [
        (layer, end if role == "linear" or counts[layer, role] > 1 else role)
        for (layer, end), (_, role) in zip(split, modules, strict=True)
    ]


def _split(path: str) -> tuple[str, str]:
    """encoder.layer.3.attention.self.query → 3 and attention.self.query."""
    parts = path.split(".")
    numbers = [place for place, part in enumerate(parts) if part.isdigit()]
    layer = ".".join(parts[place] for place in numbers)
    return layer, ".".join(parts[numbers[-1] + 1 :])
