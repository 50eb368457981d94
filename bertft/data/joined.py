"""Two feature tables read as one: rows with labels, then rows without.

feature i  =  feature i of ``first``                  i < len(first)
              feature i − len(first) of ``second``    else
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

import numpy as np

from bertft.data.table import FeatureTable

__all__ = ["JoinedTable"]


class JoinedTable(FeatureTable):
    """Columns that ``second`` lacks, its labels, can be gathered for features of ``first`` alone.

    ``row`` goes on counting after the ``count`` rows of ``first``.
    """

    def __init__(self, first: FeatureTable, second: FeatureTable, count: int) -> None:
        self.first, self.second, self.count = first, second, count
        self.path, self.schema, self.columns = None, first.schema, first.columns

    def __len__(self) -> int:
        return len(self.first) + len(self.second)

    @cached_property
    def lengths(self) -> np.ndarray:
        return np.concatenate([self.first.lengths, self.second.lengths])

    def pieces(self, name: str) -> Iterator[np.ndarray]:
        yield from self.first.pieces(name)
        for piece in self.second.pieces(name):
            yield piece + self.count if name == "row" else piece

    def labelled(self, indices: np.ndarray) -> np.ndarray | None:
        return np.asarray(indices) < len(self.first)

    def ragged(self, name: str) -> bool:
        return self.first.ragged(name)

    def sizes(self, name: str, indices: np.ndarray) -> np.ndarray:
        indices = np.asarray(indices)
        inside = indices < len(self.first)
        sizes = np.empty(len(indices), np.int32)
        sizes[inside] = self.first.sizes(name, indices[inside])
        sizes[~inside] = self.second.sizes(name, indices[~inside] - len(self.first))
        return sizes

    def gather(self, name: str, indices: np.ndarray) -> np.ndarray:
        indices = np.asarray(indices)
        inside = indices < len(self.first)
        if inside.all():
            return self.first.gather(name, indices)
        mine = self.first.gather(name, indices[inside])
        other = self.second.gather(name, indices[~inside] - len(self.first))
        if name == "row":
            other = other + self.count
        if self.ragged(name):
            inside = np.repeat(inside, self.sizes(name, indices))
        values = np.empty((len(inside), *mine.shape[1:]), mine.dtype)
        values[inside], values[~inside] = mine, other
        return values
