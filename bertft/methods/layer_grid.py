"""Heat maps of one value per adapted module, by layer and module, for the report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from bertft.models.linear_layers import plain_path
from bertft.tasks.report_items import HeatMap

__all__ = ["grid_cells", "grid_of_names", "layer_grid", "module_names"]


def layer_grid(
    name: str,
    title: str,
    note: str,
    modules: Sequence[tuple[str, str]],
    values: Sequence[float],
    digits: int,
) -> HeatMap:
    """A heat map of ``values``, one per module.

    Args:
        modules: (path, role) of each module.
        digits: decimals of the values.
    """
    return _grid(name, title, note, grid_cells(modules), values, digits)


def grid_of_names(
    name: str, title: str, note: str, values: Mapping[str, float], digits: int, largest: float
) -> HeatMap:
    """A heat map of ``values`` by the names that ``module_names`` gives.

    ``largest``: the value with the darkest cell, so that several heat maps have one scale.
    """
    cells = [_split(module) for module in values]
    grid = _grid(name, title, note, cells, list(values.values()), digits)
    intensity = np.nan_to_num(grid.values) / largest if largest > 0 else None
    return replace(grid, intensity=intensity)


def module_names(modules: Sequence[tuple[str, str]]) -> list[str]:
    """(path, role) of each module → a name such as ``3.query``, without the name of the base."""
    return [".".join(filter(None, cell)) for cell in grid_cells(modules)]


def _grid(
    name: str,
    title: str,
    note: str,
    cells: Sequence[tuple[str, str]],
    values: Sequence[float],
    digits: int,
) -> HeatMap:
    layers = list(dict.fromkeys(layer for layer, _ in cells))
    columns = list(dict.fromkeys(column for _, column in cells))
    table = np.full((len(layers), len(columns)), np.nan)
    for (layer, column), value in zip(cells, values, strict=True):
        table[layers.index(layer), columns.index(column)] = value
    return HeatMap(
        name,
        title,
        note,
        rows=layers,
        columns=[column.replace("_", " ") for column in columns],
        values=table,
        row_title="layer",
        digits=digits,
    )


def grid_cells(modules: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """(path, role) of each module → (number of its layer, its column).

    The column is the role, or the end of the path if the role is not unique in the layer.
    """
    split = [_split(plain_path(path)) for path, _ in modules]
    roles = [(layer, role) for (layer, _), (_, role) in zip(split, modules, strict=True)]
    counts = Counter(roles)
    return [
        (layer, end if role == "linear" or counts[layer, role] > 1 else role)
        for (layer, end), (_, role) in zip(split, modules, strict=True)
    ]


def _split(path: str) -> tuple[str, str]:
    """encoder.layer.3.attention.self.query → 3 and attention.self.query; the number may be ""."""
    names = path.split(".")
    number_indices = [index for index, name in enumerate(names) if name.isdigit()]
    layer = ".".join(names[index] for index in number_indices)
    return layer, ".".join(names[number_indices[-1] + 1 if number_indices else 0 :])
