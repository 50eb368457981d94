"""Batches of features: their order, and the tensors for the model.

The sequences of a batch are concatenated without padding:

    input_ids = [ids of sequence 0 | ids of sequence 1 | …],  Σ lengths = N

Padding is not part of the data: a model that needs it adds it.

The order of training batches is a pure function of (seed, epoch), so that a resumed run continues
where it stopped:

    rows of epoch e   = permutation drawn from PCG64(seed, e)
    window w          = the next shuffle_window · batch_size rows of it
    batches of w      = its rows sorted by length, split every batch_size, the batches shuffled

So the rows of a batch have similar lengths, and any two rows can be in the same batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import overload

import numpy as np
import torch
from torch import Tensor

from bertft.data.features import FeatureTable

__all__ = [
    "Batch",
    "BatchSeed",
    "LengthGroupedSampler",
    "collate",
    "evaluation_batches",
    "split_into_micro_batches",
    "to_device",
]

# Evaluation batches of at least twice this many rows have a multiple of it, as attention is
# computed in chunks of a multiple of 4 sequences: few shapes occur.
_EVALUATION_ROW_MULTIPLE = 16


@dataclass
class Batch:
    """B sequences with N tokens in total.

    Attributes:
        input_ids: int64 [N].
        lengths: int64 [B], on the CPU for every device of the batch: layouts are planned there, and
            reading it back from an accelerator would synchronize.
        token_type_ids: int64 [N]; None if the tokenizer has none.
        labels: label columns by name, flat ones as [B] or [B, width], ragged ones as [Σ sizes].
        feature_indices: int64 [B], rows of the feature table.
        label_mask: bool [B] on the CPU, which sequences have labels; ``labels`` contains only
            these. None: all.
        selected_tokens: int64 [K], the tokens for a token-level head, in order; None: all tokens.
        frozen_states: stored states of the frozen layers, [B, H] or [N, H] (see
            ``bertft.data.stored_states``); None: they have to be computed.
    """

    input_ids: Tensor
    lengths: Tensor
    token_type_ids: Tensor | None
    labels: dict[str, Tensor]
    feature_indices: np.ndarray
    label_mask: np.ndarray | None = None
    selected_tokens: Tensor | None = None
    frozen_states: Tensor | None = None

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
        """The sequences that have labels, as a batch for the loss (itself where all have)."""
        if self.label_mask is None:
            return self
        token_indices, type_ids = self.labelled_indices("token"), self.token_type_ids
        return replace(
            self,
            input_ids=self.input_ids.index_select(0, token_indices),
            lengths=self.lengths[torch.from_numpy(self.label_mask)],
            token_type_ids=None if type_ids is None else type_ids.index_select(0, token_indices),
            feature_indices=self.feature_indices[self.label_mask],
            label_mask=None,
            frozen_states=None,
        )

    def labelled_indices(self, level: str) -> Tensor:
        """Indices of the logits (of B, or N at level "token") of labelled sequences, int64.

        Indices, not a mask: the number of true values in a mask would have to be read back from an
        accelerator, which synchronizes.
        """
        mask = np.ones(len(self), bool) if self.label_mask is None else self.label_mask
        if level == "token":
            mask = np.repeat(mask, self.lengths.numpy())
        return to_device(np.flatnonzero(mask), self.device)

    def to(self, device: torch.device | str, non_blocking: bool = True) -> Batch:
        """The batch on ``device``; the same object if it is already there."""
        device = torch.device(device)
        if device == self.device:
            return self
        return self._map_tensors(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self, device: torch.device) -> Batch:
        """The batch in page-locked memory for a GPU, so that copying does not block."""
        if device.type != "cuda":
            return self
        # Otherwise a new thread would create a CUDA context on the first GPU.
        with torch.cuda.device(device):
            return self._map_tensors(Tensor.pin_memory)

    def _map_tensors(self, move: Callable[[Tensor], Tensor]) -> Batch:
        type_ids, states = self.token_type_ids, self.frozen_states
        return replace(
            self,
            input_ids=move(self.input_ids),
            token_type_ids=None if type_ids is None else move(type_ids),
            labels={name: move(values) for name, values in self.labels.items()},
            selected_tokens=None if self.selected_tokens is None else move(self.selected_tokens),
            frozen_states=None if states is None else move(states),
        )


def collate(table: FeatureTable, indices: np.ndarray, label_columns: Sequence[str]) -> Batch:
    """The batch of features ``indices`` [B], in that order; integers become int64."""
    has_types = "token_type_ids" in table.columns
    label_mask = table.label_mask(indices)
    labelled_indices = indices if label_mask is None else indices[label_mask]
    states = table.frozen_states
    return Batch(
        input_ids=_to_tensor(table.gather("input_ids", indices)),
        lengths=torch.from_numpy(table.lengths[indices].astype(np.int64)),
        token_type_ids=_to_tensor(table.gather("token_type_ids", indices)) if has_types else None,
        labels={name: _to_tensor(table.gather(name, labelled_indices)) for name in label_columns},
        feature_indices=np.asarray(indices, dtype=np.int64),
        label_mask=label_mask if label_columns else None,
        frozen_states=None if states is None else states.gather(indices),
    )


def _to_tensor(values: np.ndarray) -> Tensor:
    if values.dtype.kind in "iub":
        values = values.astype(np.int64, copy=False)
    return torch.from_numpy(values)


def to_device(values: np.ndarray, device: torch.device) -> Tensor:
    """``values`` on ``device``; the copy to a GPU does not block the CPU."""
    tensor = torch.from_numpy(values)
    if device.type == "cuda":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


@dataclass(frozen=True)
class BatchSeed:
    """Seed of the randomness in a batch: the run's ``seed`` and the ``epoch``, from 0.

    An evaluation uses data.seed and no epoch: it is the same in every run.
    """

    seed: int
    epoch: int | None = None

    def feature_generator(self, feature: int) -> np.random.Generator:
        """The generator of one feature of the table, independent of all others."""
        epoch = 0 if self.epoch is None else self.epoch + 1
        return np.random.Generator(np.random.PCG64([self.seed, epoch, feature]))


class LengthGroupedSampler:
    """Batches of row numbers for training; ``lengths`` [rows] in tokens.

    Every row occurs once per epoch; one batch of the last window may be smaller.
    """

    def __init__(
        self, lengths: np.ndarray, batch_size: int, seed: int, shuffle_window: int
    ) -> None:
        if len(lengths) == 0:
            raise ValueError("lengths must have at least one row")
        self.lengths, self.batch_size = lengths, batch_size
        self.seed, self.shuffle_window = seed, shuffle_window

    @property
    def steps_per_epoch(self) -> int:
        return -(-len(self.lengths) // self.batch_size)

    def epoch_batches(self, epoch: int) -> Sequence[np.ndarray]:
        """The batches of ``epoch`` (from 0), each computed when it is accessed."""
        return _EpochBatches(self, epoch)


class _EpochBatches(Sequence[np.ndarray]):
    """Windows are sorted one at a time: jumping to any batch costs one window, not an epoch."""

    def __init__(self, sampler: LengthGroupedSampler, epoch: int) -> None:
        self._sampler, self._epoch = sampler, epoch
        count = len(sampler.lengths)
        index_dtype = np.int32 if count < 2**31 else np.int64
        generator = np.random.Generator(np.random.PCG64([sampler.seed, epoch]))
        self._shuffled_rows = np.arange(count, dtype=index_dtype)
        generator.shuffle(self._shuffled_rows)
        self._cached_window: tuple[int, list[np.ndarray]] = (-1, [])

    def __len__(self) -> int:
        return self._sampler.steps_per_epoch

    @overload
    def __getitem__(self, number: int) -> np.ndarray: ...
    @overload
    def __getitem__(self, number: slice) -> list[np.ndarray]: ...
    def __getitem__(self, number: int | slice) -> np.ndarray | list[np.ndarray]:
        if isinstance(number, slice):
            return [self[index] for index in range(*number.indices(len(self)))]
        if not -len(self) <= number < len(self):
            raise IndexError(number)
        window, index = divmod(number % len(self), self._sampler.shuffle_window)
        if self._cached_window[0] != window:
            self._cached_window = (window, self._window_batches(window))
        return self._cached_window[1][index]

    def _window_batches(self, window: int) -> list[np.ndarray]:
        sampler = self._sampler
        size = sampler.shuffle_window * sampler.batch_size
        rows = self._shuffled_rows[window * size : (window + 1) * size].astype(np.int64)
        if sampler.shuffle_window > 1:
            rows = rows[np.argsort(sampler.lengths[rows], kind="stable")]
        batches = split_into_micro_batches(rows, sampler.batch_size)
        # spawn_key makes this stream differ from that of the permutation, also for window 0.
        seed_sequence = np.random.SeedSequence([sampler.seed, self._epoch], spawn_key=(window,))
        batch_order = np.random.Generator(np.random.PCG64(seed_sequence)).permutation(len(batches))
        return [batches[position] for position in batch_order]


def split_into_micro_batches(indices: np.ndarray, size: int) -> list[np.ndarray]:
    """``indices`` in pieces of ``size``; the last one may be smaller."""
    return [indices[start : start + size] for start in range(0, len(indices), size)]


def evaluation_batches(
    lengths: np.ndarray, token_budget: int, max_rows: int = 1024
) -> list[np.ndarray]:
    """Every row once, longest first: at most ``token_budget`` tokens in each batch.

    A batch has at most ``max_rows`` rows, and padded to its longest row it has at most 9/8 of the
    budget. A row longer than the budget is a batch of its own. The longest rows come first, so that
    insufficient memory is detected immediately.

    The batches are as few as these limits allow, and of about equal numbers of tokens, without a
    small remainder at the end. So the blocks of a long input have batches of few different sizes,
    and few kernels are generated for them (see docs/performance.md).
    """
    rows = np.argsort(-lengths.astype(np.int64), kind="stable")
    sorted_lengths = np.maximum(1, lengths[rows].astype(np.int64))
    token_ends = np.cumsum(sorted_lengths)
    ends = _batch_ends(sorted_lengths, token_ends, token_budget, max_rows)
    # The smallest share of the limits, in steps of 1/64, that needs no more batches.
    smallest, largest = 1, 64
    while smallest < largest:
        share = (smallest + largest) // 2
        limits = max(1, token_budget * share // 64), max(1, max_rows * share // 64)
        even_ends = _batch_ends(sorted_lengths, token_ends, *limits)
        if len(even_ends) <= len(ends):
            largest, ends = share, even_ends
        else:
            smallest = share + 1
    return np.split(rows, ends[:-1]) if ends else []


def _batch_ends(
    sorted_lengths: np.ndarray, token_ends: np.ndarray, token_budget: int, max_rows: int
) -> list[int]:
    """The end of each batch of rows that are sorted by length, longest first."""
    ends: list[int] = []
    start = 0
    while start < len(sorted_lengths):
        tokens_before = token_ends[start - 1] if start else 0
        end = int(np.searchsorted(token_ends, tokens_before + token_budget, side="right"))
        padded_rows = token_budget * 9 // 8 // int(sorted_lengths[start])
        size = max(1, min(end - start, padded_rows, max_rows))
        if start + size < len(sorted_lengths) and size >= 2 * _EVALUATION_ROW_MULTIPLE:
            size -= size % _EVALUATION_ROW_MULTIPLE
        start = min(start + size, len(sorted_lengths))
        ends.append(start)
    return ends
