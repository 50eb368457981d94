"""A number per adapted layer as a grid of layer × module, for the report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from bertft.models.linear_layers import plain_path
from bertft.tasks.report_items import HeatMap

__all__ = ["layer_grid", "places"]


def layer_grid(
    name: str,
    title: str,
    note: str,
    modules: Sequence[tuple[str, str]],
    values: Sequence[float],
    digits: int,
) -> HeatMap:
    """``values``: one per (path, role) of ``modules``."""
    at = places(modules)
    layers = list(dict.fromkeys(layer for layer, _ in at))
    columns = list(dict.fromkeys(column for _, column in at))
    table = np.full((len(layers), len(columns)), np.nan)
    for (layer, column), value in zip(at, values, strict=True):
        table[layers.index(layer), columns.index(column)] = value
    return HeatMap(
        name,
        title,
        note,
        rows=layers,
        columns=[each.replace("_", " ") for each in columns],
        values=table,
        row_title="layer",
        digits=digits,
    )


def places(modules: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """(path, role) of each update → (its layer's number, its column).

    The column is the role; where that is none, or a layer has several of it, the path's end.
    """
    split = [_split(plain_path(path)) for path, _ in modules]
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
