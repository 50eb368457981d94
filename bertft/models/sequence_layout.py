"""Where the tokens of a batch are while the encoder runs: the geometry of its tensors.

A batch holds B sequences end to end, N tokens in all. Three layouts carry it through the model:

    unpadded  tensors [1, W, ...], W is N or rounded up; attention looks up where each sequence
              begins
    packed    tensors [R, W, ...]: several sequences per row; a mask separates them in attention
    padded    tensors [B, T, ...], T the longest: the reference, and the layout for encoders
              outside transformers' attention interface

A slot is a position of the flattened tensors, R·W in all; slots without a token are padding.
Unpadded sequences are attended in chunks, each a few neighbours padded to one length.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from bertft.data.batch import to_device

__all__ = [
    "AttentionChunk",
    "SequenceLayout",
    "content_tokens",
    "map_chunks",
    "pack_rows",
    "packed_row_width",
    "pad_chunk",
    "plan_chunks",
    "rounded_slot_count",
    "scatter_tokens",
    "unpad_chunk",
]


@dataclass
class SequenceLayout:
    """Where each token of a forward pass is. Fields do not change; derived tensors are cached.

    Args:
        lengths: Tokens of each sequence, including those of a soft prompt.
        kind: ``"unpadded"``, ``"packed"`` or ``"padded"``.
        device: Where the derived tensors are placed.
        prompt_length: Vectors that a soft prompt adds before each sequence.
        prefix_length: Keys that a prefix adds before those of each sequence. They take no slot.
        rounded: Whether the unpadded layout ends with slots without a token, so that their number
            is ``rounded_slot_count`` and few shapes occur.
    """

    lengths: list[int]
    kind: str
    device: torch.device
    prompt_length: int = 0
    prefix_length: int = 0
    rounded: bool = False
    _chunks: list[AttentionChunk] | None = None
    _placement: tuple[np.ndarray, np.ndarray, int, int] | None = None
    _cache: dict[str, Tensor] = field(default_factory=dict)

    @property
    def chunks(self) -> list[AttentionChunk]:
        """The batch cut for attention over unpadded tokens; planned on first use."""
        if self._chunks is None:
            on_accelerator = self.device.type != "cpu"
            multiple = _ROUNDED_CHUNK_LENGTH if self.rounded else 1
            self._chunks = plan_chunks(self.lengths, self.prefix_length, on_accelerator, multiple)
        return self._chunks

    @property
    def max_length(self) -> int:
        return max(self.lengths)

    @property
    def longest_row(self) -> int:
        """T of the longest row that is attended: at least ``max_length``."""
        if self.kind == "unpadded":
            return max(chunk.max_length for chunk in self.chunks)
        return self.shape[1]

    @property
    def shape(self) -> tuple[int, int]:
        """R and W: rows and columns of the tensors in the model."""
        _, _, rows, width = self._place_sequences()
        return rows, width

    def _place_sequences(self) -> tuple[np.ndarray, np.ndarray, int, int]:
        """Row and first column of each sequence; the number of rows and of columns."""
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
                row, width = np.zeros(count, dtype=np.int64), int(token_ends[-1])
                if self.rounded:
                    width = rounded_slot_count(width)
                self._placement = row, token_ends - self.lengths, 1, width
        return self._placement

    @property
    def surplus_slots(self) -> int:
        """Slots of the unpadded layout after its last token."""
        return self.shape[1] - sum(self.lengths)

    def cu_seqlens(self) -> Tensor:
        """Start of each sequence among the tokens, and the end of the last, int32 [B + 1]."""
        return self._cached_tensor(
            "cu_seqlens", lambda: np.concatenate([[0], np.cumsum(self.lengths)]).astype(np.int32)
        )

    def positions(self) -> Tensor:
        """Position of each token within its sequence, int64 [N]."""
        return self._cached_tensor("positions", self._token_positions)

    def token_indices(self) -> Tensor:
        """The slot of each token, int64 [N]."""

        def compute() -> np.ndarray:
            rows, first_columns, _, width = self._place_sequences()
            return np.repeat(rows * width + first_columns, self.lengths) + self._token_positions()

        return self._cached_tensor("token_indices", compute)

    def cls_indices(self) -> Tensor:
        """The slot of each sequence's first token after its prompt, int64 [B]."""

        def compute() -> np.ndarray:
            rows, first_columns, _, width = self._place_sequences()
            return rows * width + first_columns + self.prompt_length

        return self._cached_tensor("cls_indices", compute)

    def content_indices(self) -> Tensor:
        """Indices, among the tokens, of those outside a prompt, int64 [N − B·prompt_length]."""
        return self._cached_tensor(
            "content_indices", lambda: np.flatnonzero(self._token_positions() >= self.prompt_length)
        )

    def prompt_indices(self) -> Tensor:
        """Indices, among the tokens, of those of a prompt, int64 [B·prompt_length]."""
        return self._cached_tensor(
            "prompt_indices", lambda: np.flatnonzero(self._token_positions() < self.prompt_length)
        )

    def sequence_ids(self) -> Tensor:
        """The sequence of each slot, −1 for padding, int64 [R, W]."""

        def compute() -> np.ndarray:
            rows, first_columns, row_count, width = self._place_sequences()
            ids = np.full(row_count * width, -1, dtype=np.int64)
            slots = np.repeat(rows * width + first_columns, self.lengths) + self._token_positions()
            ids[slots] = np.repeat(np.arange(len(self.lengths)), self.lengths)
            return ids.reshape(row_count, width)

        return self._cached_tensor("sequence_ids", compute)

    def token_mask(self) -> Tensor:
        """Which slots hold a token, bool [R, W]."""
        if "token_mask" not in self._cache:
            self._cache["token_mask"] = self.sequence_ids() >= 0
        return self._cache["token_mask"]

    def chunk_gather_indices(self, chunk: AttentionChunk) -> Tensor:
        """The token of each of the chunk's n·T slots, counted from its first token, int64 [n·T].

        Padding repeats the last token of its sequence.
        """

        def compute() -> np.ndarray:
            lengths = np.asarray(self.lengths[chunk.first_sequence : chunk.end_sequence])
            token_starts = np.cumsum(lengths) - lengths
            clamped_positions = np.minimum(
                np.arange(chunk.max_length)[None, :], lengths[:, None] - 1
            )
            return (token_starts[:, None] + clamped_positions).reshape(-1)

        return self._cached_tensor(f"chunk_gather_indices/{chunk.first_sequence}", compute)

    def chunk_token_slots(self, chunk: AttentionChunk) -> Tensor:
        """The slot, among the chunk's n·T, of each of its tokens, int64."""
        return self._cached_tensor(
            f"chunk_token_slots/{chunk.first_sequence}",
            lambda: np.flatnonzero(self._chunk_mask(chunk)),
        )

    def chunk_token_mask(self, chunk: AttentionChunk) -> Tensor:
        """Which of the chunk's slots hold a token, bool [n, T]."""
        return self._cached_tensor(
            f"chunk_token_mask/{chunk.first_sequence}", lambda: self._chunk_mask(chunk)
        )

    def visible_keys(self, chunk: AttentionChunk | None = None) -> Tensor | None:
        """The keys that attend to each other in ``chunk``, or in the rows of the layout.

        Bool [n, T], the keys of all queries of a row, or [n, T, T] with those of each query; None:
        all keys of a row.
        """
        if chunk is not None:
            return None if chunk.equal_lengths else self.chunk_token_mask(chunk)
        if self.kind == "packed":
            sequence_ids = self.sequence_ids()
            return sequence_ids[:, :, None] == sequence_ids[:, None, :]
        return None if min(self.lengths) == self.max_length else self.token_mask()

    def _chunk_mask(self, chunk: AttentionChunk) -> np.ndarray:
        lengths = np.asarray(self.lengths[chunk.first_sequence : chunk.end_sequence])
        return np.arange(chunk.max_length)[None, :] < lengths[:, None]

    def _token_positions(self) -> np.ndarray:
        lengths = np.asarray(self.lengths)
        return np.arange(int(lengths.sum())) - np.repeat(np.cumsum(lengths) - lengths, lengths)

    def _cached_tensor(self, name: str, compute: Callable[[], np.ndarray]) -> Tensor:
        """A tensor that every layer uses: computed and sent to the device once."""
        if name not in self._cache:
            self._cache[name] = to_device(compute(), self.device)
        return self._cache[name]


def content_tokens(states: Tensor, layout: SequenceLayout) -> Tensor:
    """States [R, W, ...] → [N, ...] of the batch's tokens, without those of a prompt."""
    flat = states.flatten(0, 1)
    if layout.kind == "unpadded" and not layout.prompt_length:
        return flat[: sum(layout.lengths)] if layout.surplus_slots else flat
    return flat[layout.token_indices()[layout.content_indices()]]


def scatter_tokens(values: Tensor, layout: SequenceLayout, fill_value: int = 0) -> Tensor:
    """Values [N, ...] of the tokens → [R, W, ...] in the layout's shape."""
    if layout.kind == "unpadded" and not layout.surplus_slots:
        return values.unsqueeze(0)
    rows, width = layout.shape
    slots = values.new_full((rows * width, *values.shape[1:]), fill_value)
    return slots.index_copy(0, layout.token_indices(), values).unflatten(0, (rows, width))


def map_chunks(
    tensors: Sequence[Tensor],
    layout: SequenceLayout,
    attend: Callable[[AttentionChunk, list[Tensor]], Tensor],
) -> Tensor:
    """Attention over unpadded tokens: ``tensors`` [W, ...] → [W, ...].

    ``attend``: the chunk and its rows [n, T, ...] of each tensor → [n, T, ...]. Slots without a
    token are 0 in the result.
    """
    chunks = layout.chunks
    sizes = [chunk.token_end - chunk.token_start for chunk in chunks]
    surplus = [layout.surplus_slots] if layout.surplus_slots else []
    # Split, not sliced: a slice's gradient is as large as all tokens.
    split_tensors = [tensor.split(sizes + surplus)[: len(sizes)] for tensor in tensors]
    outputs = []
    for chunk, *chunk_tokens in zip(chunks, *split_tensors, strict=True):
        rows = [pad_chunk(tokens, chunk, layout) for tokens in chunk_tokens]
        outputs.append(unpad_chunk(attend(chunk, rows), chunk, layout))
    outputs.extend(outputs[0].new_zeros(count, *outputs[0].shape[1:]) for count in surplus)
    return torch.cat(outputs) if len(outputs) > 1 else outputs[0]


def pad_chunk(tokens: Tensor, chunk: AttentionChunk, layout: SequenceLayout) -> Tensor:
    """The tokens of ``chunk``, end to end → [n, T, ...]; a view for equal lengths."""
    if not chunk.equal_lengths:
        tokens = _PadChunk.apply(
            tokens, layout.chunk_gather_indices(chunk), layout.chunk_token_slots(chunk)
        )
    return tokens.unflatten(0, (chunk.end_sequence - chunk.first_sequence, chunk.max_length))


def unpad_chunk(rows: Tensor, chunk: AttentionChunk, layout: SequenceLayout) -> Tensor:
    """Undo ``pad_chunk``: [n, T, ...] → the tokens of ``chunk``."""
    slots = rows.flatten(0, 1)
    if chunk.equal_lengths:
        return slots
    return _UnpadChunk.apply(slots, layout.chunk_token_slots(chunk))


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


@dataclass(frozen=True)
class AttentionChunk:
    """Neighbouring sequences that are attended in one call.

    ``first_sequence:end_sequence`` are the sequences, ``token_start:token_end`` their tokens among
    the N tokens. ``max_length`` is T, the padded length. ``equal_lengths``: every sequence has that
    length, so that the tokens are a view and need no mask.
    """

    first_sequence: int
    end_sequence: int
    token_start: int
    token_end: int
    max_length: int
    equal_lengths: bool


# One more attention call costs about as much as this many (query, key) pairs: below it,
# sequences of different lengths are padded together instead (see docs/performance.md).
_CALL_COST_IN_PAIRS = 6_000

# On an accelerator: about ten kernel launches of 10 µs each. At 10¹⁴ operations per second and
# 12 · 768 of them per pair (BERT-base, both passes), a million pairs take 92 µs. Not measured.
_LAUNCH_COST_IN_PAIRS = 1_000_000

_MAX_CHUNK_SEQUENCES = 64  # bounds the planning; on a CPU, 64 sequences amortize one call

# A rounded layout of at least this many sequences has chunks of a multiple of so many sequences.
_CHUNK_MULTIPLES = {128: 16, 32: 4}

# Chunks of a rounded layout have lengths that are multiples of this.
_ROUNDED_CHUNK_LENGTH = 8

# Row widths are multiples of this, so that few shapes occur and kernels are reused.
_ROW_MULTIPLE = 64


def plan_chunks(
    lengths: list[int],
    prefix_length: int = 0,
    on_accelerator: bool = False,
    length_multiple: int = 1,
) -> list[AttentionChunk]:
    """Cut a batch into the chunks of least cost, by dynamic programming.

    The cost is a constant per attention call plus the padded pairs of all calls. Sequences keep
    the batch's order, so sort a batch by length before laying it out.

    Args:
        lengths: Tokens of each sequence.
        prefix_length: Keys that a prefix adds to each sequence.
        on_accelerator: Weigh a call by its kernel launches, and cut large batches at about 64
            candidate borders only: few large chunks are best there, and the device waits for the
            plan.
        length_multiple: ``max_length`` of a chunk is a multiple of it. If it is above 1, the chunks
            of large batches have a multiple of 4 or 16 sequences, except for the last: few shapes
            occur.
    """
    count = len(lengths)
    padded_lengths = [-(-length // length_multiple) * length_multiple for length in lengths]
    call_cost = _LAUNCH_COST_IN_PAIRS if on_accelerator else _CALL_COST_IN_PAIRS
    border_step = max(1, -(-count // _MAX_CHUNK_SEQUENCES)) if on_accelerator else 1
    max_blocks = _MAX_CHUNK_SEQUENCES
    if length_multiple > 1 and not on_accelerator:
        border_step = next((step for n, step in _CHUNK_MULTIPLES.items() if count >= n), 1)
        max_blocks = _MAX_CHUNK_SEQUENCES // border_step
    borders = [*range(0, count, border_step), count]
    block_max_lengths = [max(padded_lengths[start:stop]) for start, stop in pairwise(borders)]
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
            if stop - start >= max_blocks:
                break
    offsets = np.concatenate([[0], np.cumsum(lengths)]).tolist()
    chunks: list[AttentionChunk] = []
    stop = len(borders) - 1
    while stop:
        first_sequence, end_sequence = borders[best_starts[stop]], borders[stop]
        chunk_lengths = lengths[first_sequence:end_sequence]
        max_length = max(padded_lengths[first_sequence:end_sequence])
        chunks.append(
            AttentionChunk(
                first_sequence,
                end_sequence,
                offsets[first_sequence],
                offsets[end_sequence],
                max_length,
                min(chunk_lengths) == max_length,
            )
        )
        stop = best_starts[stop]
    return chunks[::-1]


def rounded_slot_count(count: int, values_per_octave: int = 16) -> int:
    """``count`` rounded up so that it has few values between two powers of two, multiples of 8.

    With 16 values, 2 % of the slots are surplus on average, with 4 values 10 %. oneDNN generates
    code for each number of rows of a product and keeps it, up to 1 MB in bf16; see
    docs/performance.md.
    """
    octave = 1 << max(0, count.bit_length() - 1)
    multiple = max(8, octave // values_per_octave)
    return -(-count // multiple) * multiple


def packed_row_width(lengths: list[int]) -> int:
    """Slots per row: the longest sequence, rounded up to a multiple of 64."""
    return -(-max(lengths) // _ROW_MULTIPLE) * _ROW_MULTIPLE


def pack_rows(lengths: list[int], width: int) -> tuple[list[int], list[int], int]:
    """Row and first column of each sequence, and the number of rows: first fit, longest first.

    Needs at most 11/9 of the fewest rows possible, and 6/9 of one more (Dósa 2007).
    """
    rows, first_slots = [0] * len(lengths), [0] * len(lengths)
    filled: list[int] = []
    for sequence in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
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
