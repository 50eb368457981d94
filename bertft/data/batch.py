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

__all__ = ["Batch", "collate", "sent"]


@dataclass
class Batch:
    """``input_ids`` int64 [N]; ``lengths`` int64 [B]; ``index`` int64 [B]: features of the table.

    ``lengths`` stays on the CPU whatever the batch's device is: layouts are planned there, and
    reading it back from an accelerator would wait for the whole queue. ``labels`` holds flat
    columns as [B] or [B, width], ragged ones as [Σ sizes]. ``labelled``, bool [B] on the CPU, says
    which sequences have labels, where not all have: ``labels`` holds those alone. ``chosen`` int64
    [K]: the tokens that a token-level head is asked about, in order; None: all of them.
    """

    input_ids: Tensor
    lengths: Tensor
    token_type_ids: Tensor | None
    labels: dict[str, Tensor]
    index: np.ndarray
    labelled: np.ndarray | None = None
    chosen: Tensor | None = None

    def __len__(self) -> int:
        return len(self.index)

    @property
    def device(self) -> torch.device:
        return self.input_ids.device

    @property
    def max_length(self) -> int:
        """Length of the longest sequence."""
        return int(self.lengths.max())

    def answered(self) -> Batch:
        """The sequences that have labels, as a batch (itself where all have)."""
        if self.labelled is None:
            return self
        tokens, types = self.places("token"), self.token_type_ids
        return replace(
            self,
            input_ids=self.input_ids.index_select(0, tokens),
            lengths=self.lengths[torch.from_numpy(self.labelled)],
            token_type_ids=None if types is None else types.index_select(0, tokens),
            index=self.index[self.labelled],
            labelled=None,
        )

    def places(self, level: str) -> Tensor:
        """Which vectors of logits, of B or of N at "token", belong to labelled sequences, int64.

        Places and no mask: how many a mask picks an accelerator would be asked, and waited for.
        """
        mask = np.ones(len(self), bool) if self.labelled is None else self.labelled
        if level == "token":
            mask = np.repeat(mask, self.lengths.numpy())
        return sent(np.flatnonzero(mask), self.device)

    def to(self, device: torch.device | str, non_blocking: bool = True) -> Batch:
        """The same batch on ``device`` (itself where it already lies there)."""
        device = torch.device(device)
        if device == self.device:
            return self
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def staged(self, device: torch.device) -> Batch:
        """Page-locked where a GPU is to fetch it, so that its copy stops nobody; else itself."""
        if device.type != "cuda":
            return self
        # In a thread of its own CUDA would open a context on the first GPU, whichever is ours.
        with torch.cuda.device(device):
            return self._map(Tensor.pin_memory)

    def _map(self, move: Callable[[Tensor], Tensor]) -> Batch:
        types = self.token_type_ids
        return replace(
            self,
            input_ids=move(self.input_ids),
            token_type_ids=None if types is None else move(types),
            labels={name: move(values) for name, values in self.labels.items()},
            chosen=None if self.chosen is None else move(self.chosen),
        )


def sent(values: np.ndarray, device: torch.device) -> Tensor:
    """``values`` on ``device``, by a copy that a GPU does not stop the CPU for."""
    tensor = torch.from_numpy(values)
    if device.type == "cuda":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def collate(table: FeatureTable, indices: np.ndarray, label_columns: Sequence[str]) -> Batch:
    """The batch of features ``indices`` [B], in that order; integers become int64."""
    types = "token_type_ids"
    labelled = table.labelled(indices)
    own = indices if labelled is None else indices[labelled]
    return Batch(
        input_ids=_tensor(table.gather("input_ids", indices)),
        lengths=torch.from_numpy(table.lengths[indices].astype(np.int64)),
        token_type_ids=_tensor(table.gather(types, indices)) if types in table.columns else None,
        labels={name: _tensor(table.gather(name, own)) for name in label_columns},
        index=np.asarray(indices, dtype=np.int64),
        labelled=labelled if label_columns else None,
    )


def _tensor(values: np.ndarray) -> Tensor:
    if values.dtype.kind in "iub":
        values = values.astype(np.int64, copy=False)
    return torch.from_numpy(values)
