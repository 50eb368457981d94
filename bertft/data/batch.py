"""A batch: sequences laid end to end, with nothing between them.

    input_ids = [ids of sequence 0 | ids of sequence 1 | …],  Σ lengths = N

Padding is not a property of the data: a model that wants it lays it out itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from bertft.data.features import FeatureTable

__all__ = ["Batch", "collate"]


@dataclass
class Batch:
    """``input_ids`` int64 [N]; ``lengths`` int64 [B]; ``index`` int64 [B]: features of the table.

    ``lengths`` stays on the CPU whatever the batch's device is: layouts are planned there, and
    reading it back from an accelerator would wait for the whole queue. ``labels`` holds flat
    columns as [B] or [B, width], ragged ones as [Σ sizes]. ``chosen`` int64 [K]: the tokens that a
    token-level head is asked about, in order; None: all of them.
    """

    input_ids: Tensor
    lengths: Tensor
    token_type_ids: Tensor | None
    labels: dict[str, Tensor]
    index: np.ndarray
    chosen: Tensor | None = None
    _cu_seqlens: Tensor | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.index)

    @property
    def device(self) -> torch.device:
        return self.input_ids.device

    @property
    def max_length(self) -> int:
        """Length of the longest sequence."""
        return int(self.lengths.max())

    @property
    def cu_seqlens(self) -> Tensor:
        """Where each sequence starts, and where the last ends: int32 [B + 1] on the device."""
        if self._cu_seqlens is None:
            bounds = torch.zeros(len(self.lengths) + 1, dtype=torch.int32)
            torch.cumsum(self.lengths, 0, dtype=torch.int32, out=bounds[1:])
            self._cu_seqlens = bounds.to(self.device, non_blocking=True)
        return self._cu_seqlens

    def to(self, device: torch.device | str, non_blocking: bool = True) -> Batch:
        """The same batch on ``device`` (itself where it already lies there)."""
        device = torch.device(device)
        if device == self.device:
            return self
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Batch:
        """A page-locked copy, which an accelerator fetches without stopping the CPU."""
        return self._map(Tensor.pin_memory)

    def _map(self, move: Callable[[Tensor], Tensor]) -> Batch:
        types = self.token_type_ids
        return replace(
            self,
            input_ids=move(self.input_ids),
            token_type_ids=None if types is None else move(types),
            labels={name: move(values) for name, values in self.labels.items()},
            chosen=None if self.chosen is None else move(self.chosen),
            _cu_seqlens=None,
        )


def collate(table: FeatureTable, indices: np.ndarray, label_columns: Sequence[str]) -> Batch:
    """The batch of features ``indices`` [B], in that order; integers become int64."""
    types = "token_type_ids"
    return Batch(
        input_ids=_tensor(table.gather("input_ids", indices)),
        lengths=torch.from_numpy(table.lengths[indices].astype(np.int64)),
        token_type_ids=_tensor(table.gather(types, indices)) if types in table.columns else None,
        labels={name: _tensor(table.gather(name, indices)) for name in label_columns},
        index=np.asarray(indices, dtype=np.int64),
    )


def _tensor(values: np.ndarray) -> Tensor:
    if values.dtype.kind in "iub":
        values = values.astype(np.int64, copy=False)
    return torch.from_numpy(values)
