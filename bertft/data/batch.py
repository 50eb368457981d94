"""A batch: sequences laid end to end, with nothing between them.

    input_ids = [ids of sequence 0 | ids of sequence 1 | …],  Σ lengths = N

Padding is not a property of the data: a model that wants it lays it out itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from bertft.data.features import FeatureTable

__all__ = ["Batch", "collate", "to_device"]


@dataclass
class Batch:
    """``input_ids`` int64 [N]; ``lengths`` int64 [B]; ``feature_indices`` int64 [B]: features of
    the table.

    ``lengths`` stays on the CPU whatever the batch's device is: layouts are planned there, and
    reading it back from an accelerator would wait for the whole queue. ``labels`` holds flat
    columns as [B] or [B, width], ragged ones as [Σ sizes]. ``label_mask``, bool [B] on the CPU,
    says which sequences have labels, where not all have: ``labels`` holds those alone.
    ``selected_tokens`` int64 [K]: the tokens that a token-level head is asked about, in order;
    None: all of them.
    """

    input_ids: Tensor
    lengths: Tensor
    token_type_ids: Tensor | None
    labels: dict[str, Tensor]
    feature_indices: np.ndarray
    label_mask: np.ndarray | None = None
    selected_tokens: Tensor | None = None

    def __len__(self) -> int:
        return len(self.feature_indices)

    @property
    def device(self) -> torch.device:
        return self.input_ids.device

    @property
    def max_length(self) -> int:
        """Length of the longest sequence."""
        return int(self.lengths.max())

    def select_labelled(self) -> Batch:
        """The sequences that have labels, as a batch (itself where all have)."""
        if self.label_mask is None:
            return self
        token_indices, types = self.labelled_indices("token"), self.token_type_ids
        return replace(
            self,
            input_ids=self.input_ids.index_select(0, token_indices),
            lengths=self.lengths[torch.from_numpy(self.label_mask)],
            token_type_ids=None if types is None else types.index_select(0, token_indices),
            feature_indices=self.feature_indices[self.label_mask],
            label_mask=None,
        )

    def labelled_indices(self, level: str) -> Tensor:
        """Which vectors of logits, of B or of N at "token", belong to labelled sequences, int64.

        Places and no mask: how many a mask picks an accelerator would be asked, and waited for.
        """
        mask = np.ones(len(self), bool) if self.label_mask is None else self.label_mask
        if level == "token":
            mask = np.repeat(mask, self.lengths.numpy())
        return to_device(np.flatnonzero(mask), self.device)

    def to(self, device: torch.device | str, non_blocking: bool = True) -> Batch:
        """The same batch on ``device`` (itself where it already lies there)."""
        device = torch.device(device)
        if device == self.device:
            return self
        return self._map_tensors(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self, device: torch.device) -> Batch:
        """Page-locked where a GPU is to fetch it, so that its copy stops nobody; else itself."""
        if device.type != "cuda":
            return self
        # In a thread of its own CUDA would open a context on the first GPU, whichever is ours.
        with torch.cuda.device(device):
            return self._map_tensors(Tensor.pin_memory)

    def _map_tensors(self, move: Callable[[Tensor], Tensor]) -> Batch:
        types = self.token_type_ids
        return replace(
            self,
            input_ids=move(self.input_ids),
            token_type_ids=None if types is None else move(types),
            labels={name: move(values) for name, values in self.labels.items()},
            selected_tokens=None if self.selected_tokens is None else move(self.selected_tokens),
        )


def to_device(values: np.ndarray, device: torch.device) -> Tensor:
    """``values`` on ``device``, by a copy that a GPU does not stop the CPU for."""
    tensor = torch.from_numpy(values)
    if device.type == "cuda":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def collate(table: FeatureTable, indices: np.ndarray, label_columns: Sequence[str]) -> Batch:
    """The batch of features ``indices`` [B], in that order; integers become int64."""
    types = "token_type_ids"
    label_mask = table.label_mask(indices)
    labelled_indices = indices if label_mask is None else indices[label_mask]
    return Batch(
        input_ids=_to_tensor(table.gather("input_ids", indices)),
        lengths=torch.from_numpy(table.lengths[indices].astype(np.int64)),
        token_type_ids=_to_tensor(table.gather(types, indices)) if types in table.columns else None,
        labels={name: _to_tensor(table.gather(name, labelled_indices)) for name in label_columns},
        feature_indices=np.asarray(indices, dtype=np.int64),
        label_mask=label_mask if label_columns else None,
    )


def _to_tensor(values: np.ndarray) -> Tensor:
    if values.dtype.kind in "iub":
        values = values.astype(np.int64, copy=False)
    return torch.from_numpy(values)
