"""How the sequences of a batch lie in memory while the encoder runs.

A batch holds B sequences end to end, N tokens in all. Three layouts carry it through the model:

    unpadded  tensors [1, N, ...]: no padding; attention looks up where each sequence begins
    packed    tensors [R, W, ...]: several sequences per row, a mask separates them in attention
    padded    tensors [B, T, ...], T the longest: the reference, and the layout for encoders
              outside transformers' attention interface

``SequenceLayout`` travels through the model's forward in its keyword arguments, so that it is exact
under gradient checkpointing, and reaches the attention function in every layer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from bertft.data.batch import to_device
from bertft.models.forward_state import ActivationRecorder

__all__ = [
    "AttentionChunk",
    "SequenceLayout",
    "pack_rows",
    "packed_row_width",
    "pad_chunk",
    "plan_chunks",
    "unpad_chunk",
]


# One more attention call costs about as much as this many (query, key) pairs: below it,
# sequences of unlike length are padded together instead (see docs/performance.md).
_CALL_COST_IN_PAIRS = 6_000

# On an accelerator: some ten kernels of 10 µs, begun one by one, while at 10¹⁴ operations a second
# and 12 · 768 of them a pair (BERT-base, both passes) a million pairs take 92 µs. Not measured.
_LAUNCH_COST_IN_PAIRS = 1_000_000

_MAX_CHUNK_SEQUENCES = (
    64  # bounds the planning itself; on a CPU a run of 64 sequences amortises its call
)

# Rows are a multiple of this wide, so that few shapes occur and kernels made for one are reused.
_ROW_MULTIPLE = 64


@dataclass(frozen=True)
class AttentionChunk:
    """Neighbouring sequences attended in one call: rows ``[first, last)`` of the batch.

    ``start:stop`` are their tokens in the stream. ``max_length`` is T of the call;
    ``equal_lengths`` says that every sequence has that length, so that the tokens are a view and
    need no mask.
    """

    first_sequence: int
    end_sequence: int
    token_start: int
    token_end: int
    max_length: int
    equal_lengths: bool


def plan_chunks(
    lengths: list[int], prefix_length: int = 0, on_accelerator: bool = False
) -> list[AttentionChunk]:
    """Cut the batch into runs of least calls · constant + padded pairs, by dynamic programming.

    Sequences are taken in the batch's order, so sort a batch by length before laying it out.
    ``on_accelerator``: a call is so many kernels of an accelerator; of many sequences it is cut at
    some 64 places, since a few large runs are wanted and an accelerator waits for the plan.
    """
    call_cost, count = (
        (_LAUNCH_COST_IN_PAIRS if on_accelerator else _CALL_COST_IN_PAIRS),
        len(lengths),
    )
    border_step = max(1, -(-count // _MAX_CHUNK_SEQUENCES)) if on_accelerator else 1
    borders = [*range(0, count, border_step), count]
    block_max_lengths = [max(lengths[start:stop]) for start, stop in pairwise(borders)]
    least_costs = [0.0] * len(borders)
    best_starts = [0] * len(borders)
    for stop in range(1, len(borders)):
        least_costs[stop] = float("inf")
        max_length = 0
        for start in range(stop - 1, -1, -1):
            max_length = max(max_length, block_max_lengths[start])
            sequence_count = borders[stop] - borders[start]
            cost = (
                least_costs[start]
                + call_cost
                + sequence_count * max_length * (max_length + prefix_length)
            )
            if cost < least_costs[stop]:
                least_costs[stop], best_starts[stop] = cost, start
            if stop - start >= _MAX_CHUNK_SEQUENCES:
                break
    offsets = np.concatenate([[0], np.cumsum(lengths)]).tolist()
    chunks: list[AttentionChunk] = []
    stop = len(borders) - 1
    while stop:
        first_sequence, end_sequence = borders[best_starts[stop]], borders[stop]
        chunk_lengths = lengths[first_sequence:end_sequence]
        chunks.append(
            AttentionChunk(
                first_sequence,
                end_sequence,
                offsets[first_sequence],
                offsets[end_sequence],
                max(chunk_lengths),
                min(chunk_lengths) == max(chunk_lengths),
            )
        )
        stop = best_starts[stop]
    return chunks[::-1]


def packed_row_width(lengths: list[int]) -> int:
    """Cells of a row: the longest sequence, rounded up to a multiple of 64."""
    return -(-max(lengths) // _ROW_MULTIPLE) * _ROW_MULTIPLE


def pack_rows(lengths: list[int], width: int) -> tuple[list[int], list[int], int]:
    """Row and first cell of each sequence, and the number of rows: first-fit, longest first.

    At most 11/9 of the fewest rows possible, and 6/9 of one more (Dósa 2007).
    """
    rows, first_slots = [0] * len(lengths), [0] * len(lengths)
    filled: list[int] = []
    for sequence in sorted(range(len(lengths)), key=lambda each: -lengths[each]):
        length = lengths[sequence]
        chosen_row = next(
            (candidate for candidate, used in enumerate(filled) if used + length <= width),
            len(filled),
        )
        if chosen_row == len(filled):
            filled.append(0)
        rows[sequence], first_slots[sequence] = chosen_row, filled[chosen_row]
        filled[chosen_row] += length
    return rows, first_slots, len(filled)


def pad_chunk(tokens: Tensor, chunk: AttentionChunk, layout: SequenceLayout) -> Tensor:
    """``tokens`` are those of ``chunk`` alone. A view where all have one length."""
    if not chunk.equal_lengths:
        tokens = _PadChunk.apply(
            tokens, layout.chunk_gather_indices(chunk), layout.chunk_token_slots(chunk)
        )
    return tokens.unflatten(0, (chunk.end_sequence - chunk.first_sequence, chunk.max_length))


def unpad_chunk(rows: Tensor, chunk: AttentionChunk, layout: SequenceLayout) -> Tensor:
    """The tokens of ``chunk``."""
    slots = rows.flatten(0, 1)
    return (
        slots if chunk.equal_lengths else _UnpadChunk.apply(slots, layout.chunk_token_slots(chunk))
    )


class _PadChunk(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tokens: Tensor, gather_indices: Tensor, token_slots: Tensor) -> Tensor:
        ctx.save_for_backward(token_slots)
        return tokens.index_select(0, gather_indices)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return grad.index_select(0, ctx.saved_tensors[0]), None, None


class _UnpadChunk(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, slots: Tensor, token_slots: Tensor) -> Tensor:
        ctx.save_for_backward(token_slots)
        ctx.shape = slots.shape
        return slots.index_select(0, token_slots)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad.new_zeros(ctx.shape).index_copy_(0, ctx.saved_tensors[0], grad), None


@dataclass
class SequenceLayout:
    """The sequences of one forward pass: their ``lengths``, the layout, and the prefix if any.

    ``prefix`` is [layers, 2, L, heads·d] (keys, values). ``attention_calls`` counts attention
    calls, so that a model which silently ignores the interface is found out.
    """

    lengths: list[int]
    kind: str
    device: torch.device
    prefix: Tensor | None = None
    attention_calls: int = 0
    head_tokens: Tensor | None = None  # tokens of the batch that the head is asked about
    selected_indices: Tensor | None = None  # cells that the top layer goes on with; None: all
    tokens_selected: bool = False  # whether it did
    prompt_length: int = (
        0  # vectors that a soft prompt put before each sequence; ``lengths`` count them
    )
    recorder: ActivationRecorder | None = None  # asks the attention function for what it sees
    masks: dict[object, Tensor | None] = field(default_factory=dict)  # attention's, for all layers
    _chunks: list[AttentionChunk] | None = None
    _placement: tuple[np.ndarray, np.ndarray, int, int] | None = None
    _cache: dict[str, Tensor] = field(default_factory=dict)

    @property
    def chunks(self) -> list[AttentionChunk]:
        """The stream cut into runs (planned once; varlen attention needs none)."""
        if self._chunks is None:
            prefix_length = 0 if self.prefix is None else self.prefix.shape[2]
            self._chunks = plan_chunks(
                self.lengths, prefix_length, on_accelerator=self.device.type != "cpu"
            )
        return self._chunks

    @property
    def max_length(self) -> int:
        return max(self.lengths)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the tensors that run through the model."""
        _, _, rows, width = self._place_sequences()
        return rows, width

    def _place_sequences(self) -> tuple[np.ndarray, np.ndarray, int, int]:
        """Row and first column of each sequence; rows and columns of the whole."""
        if self._placement is None:
            count, token_ends = len(self.lengths), np.cumsum(self.lengths)
            if self.kind == "padded":
                first_columns = np.zeros(count, dtype=np.int64)
                self._placement = np.arange(count), first_columns, count, self.max_length
            elif self.kind == "packed":
                width = packed_row_width(self.lengths)
                rows, packed_columns, row_count = pack_rows(self.lengths, width)
                self._placement = np.asarray(rows), np.asarray(packed_columns), row_count, width
            else:
                row = np.zeros(count, dtype=np.int64)
                self._placement = row, token_ends - self.lengths, 1, int(token_ends[-1])
        return self._placement

    def cu_seqlens(self) -> Tensor:
        """Start of each sequence among the tokens and the end of the last, int32 [B + 1]."""
        return self._cached_tensor(
            "offsets", lambda: np.concatenate([[0], np.cumsum(self.lengths)]).astype(np.int32)
        )

    def positions(self) -> Tensor:
        """Position of each token within its sequence, int64 [N]."""
        return self._cached_tensor("positions", self._token_positions)

    def token_indices(self) -> Tensor:
        """Where each token lies in the flattened tensors, int64 [N]."""

        def compute() -> np.ndarray:
            rows, first_columns, _, width = self._place_sequences()
            return np.repeat(rows * width + first_columns, self.lengths) + self._token_positions()

        return self._cached_tensor("cells", compute)

    def cls_indices(self) -> Tensor:
        """Cell of each sequence's first own token (after a prompt), int64 [B]."""

        def compute() -> np.ndarray:
            rows, first_columns, _, width = self._place_sequences()
            return rows * width + first_columns + self.prompt_length

        return self._cached_tensor("starts", compute)

    def content_indices(self) -> Tensor:
        """Which tokens are no prompt, as places among the tokens, int64 [N − B·prompt]."""
        return self._cached_tensor(
            "own", lambda: np.flatnonzero(self._token_positions() >= self.prompt_length)
        )

    def prompt_indices(self) -> Tensor:
        """Which tokens are of a prompt, as places among the tokens, int64 [B·prompt]."""
        return self._cached_tensor(
            "prompted", lambda: np.flatnonzero(self._token_positions() < self.prompt_length)
        )

    def sequence_ids(self) -> Tensor:
        """The sequence that each cell belongs to, −1 where none does, int64 in ``shape``."""

        def compute() -> np.ndarray:
            rows, first_columns, row_count, width = self._place_sequences()
            ids = np.full(row_count * width, -1, dtype=np.int64)
            slots = np.repeat(rows * width + first_columns, self.lengths) + self._token_positions()
            ids[slots] = np.repeat(np.arange(len(self.lengths)), self.lengths)
            return ids.reshape(row_count, width)

        return self._cached_tensor("owner", compute)

    def token_mask(self) -> Tensor:
        """Which cells hold a token, bool in ``shape``."""
        if "real" not in self._cache:
            self._cache["real"] = self.sequence_ids() >= 0
        return self._cache["real"]

    def chunk_gather_indices(self, chunk: AttentionChunk) -> Tensor:
        """Of an unequal run: the token in each of its n·T cells, int64; padding repeats the last.

        Tokens count from the run's first.
        """

        def compute() -> np.ndarray:
            lengths = np.asarray(self.lengths[chunk.first_sequence : chunk.end_sequence])
            token_starts = np.cumsum(lengths) - lengths
            clamped_positions = np.minimum(
                np.arange(chunk.max_length)[None, :], lengths[:, None] - 1
            )
            return (token_starts[:, None] + clamped_positions).reshape(-1)

        return self._cached_tensor(f"cells{chunk.first_sequence}", compute)

    def chunk_token_slots(self, chunk: AttentionChunk) -> Tensor:
        """Of an unequal run: where in its n·T cells its tokens lie, int64 [stop − start]."""
        return self._cached_tensor(
            f"places{chunk.first_sequence}", lambda: np.flatnonzero(self._chunk_mask(chunk))
        )

    def chunk_token_mask(self, chunk: AttentionChunk) -> Tensor:
        """Which cells [n, T] of a run hold a token, bool."""
        return self._cached_tensor(f"real{chunk.first_sequence}", lambda: self._chunk_mask(chunk))

    def _chunk_mask(self, chunk: AttentionChunk) -> np.ndarray:
        lengths = np.asarray(self.lengths[chunk.first_sequence : chunk.end_sequence])
        return np.arange(chunk.max_length)[None, :] < lengths[:, None]

    def _token_positions(self) -> np.ndarray:
        lengths = np.asarray(self.lengths)
        return np.arange(int(lengths.sum())) - np.repeat(np.cumsum(lengths) - lengths, lengths)

    def _cached_tensor(self, name: str, compute: Callable[[], np.ndarray]) -> Tensor:
        """A tensor that every layer asks for, made once and sent to the device once."""
        if name not in self._cache:
            self._cache[name] = to_device(compute(), self.device)
        return self._cache[name]
