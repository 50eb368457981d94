"""Two feature tables read as one: rows with labels, then rows without.

feature i  =  feature i of ``first``                  i < len(first)
              feature i − len(first) of ``second``    else
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

import numpy as np

from bertft.data.table import FeatureTable

__all__ = ["ConcatFeatureTable"]


class ConcatFeatureTable(FeatureTable):
    """Columns that ``second`` lacks, its labels, can be gathered for features of ``first`` alone.

    ``row`` goes on counting after the ``first_row_count`` rows of ``first``.
    """

    def __init__(self, first: FeatureTable, second: FeatureTable, first_row_count: int) -> None:
        self.first, self.second, self.first_row_count = first, second, first_row_count
        self.path, self.schema, self.columns = None, first.schema, first.columns

    def __len__(self) -> int:
        return len(self.first) + len(self.second)

    @cached_property
    def lengths(self) -> np.ndarray:
        return np.concatenate([self.first.lengths, self.second.lengths])

    def iter_chunks(self, name: str) -> Iterator[np.ndarray]:
        yield from self.first.iter_chunks(name)
        for piece in self.second.iter_chunks(name):
            yield piece + self.first_row_count if name == "row" else piece

    def label_mask(self, indices: np.ndarray) -> np.ndarray | None:
        return np.asarray(indices) < len(self.first)

    def is_ragged(self, name: str) -> bool:
        return self.first.is_ragged(name)

    def sizes(self, name: str, indices: np.ndarray) -> np.ndarray:
        indices = np.asarray(indices)
        in_first = indices < len(self.first)
        sizes = np.empty(len(indices), np.int32)
        sizes[in_first] = self.first.sizes(name, indices[in_first])
        sizes[~in_first] = self.second.sizes(name, indices[~in_first] - len(self.first))
        return sizes

    def gather(self, name: str, indices: np.ndarray) -> np.ndarray:
        indices = np.asarray(indices)
        in_first = indices < len(self.first)
        if in_first.all():
            return self.first.gather(name, indices)
        first_values = self.first.gather(name, indices[in_first])
        second_values = self.second.gather(name, indices[~in_first] - len(self.first))
        if name == "row":
            second_values = second_values + self.first_row_count
        if self.is_ragged(name):
            in_first = np.repeat(in_first, self.sizes(name, indices))
        values = np.empty((len(in_first), *first_values.shape[1:]), first_values.dtype)
        values[in_first], values[~in_first] = first_values, second_values
        return values
