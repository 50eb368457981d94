"""How the sequences of a batch lie in memory while the encoder runs.

A batch holds B sequences end to end, N tokens in all. Two layouts carry it through the model:

    stream   tensors [1, N, ...]: no padding; attention looks up where each sequence lies
    padded   tensors [B, T, ...], T the longest: the reference, and the form for encoders
             outside transformers' attention interface

``Sequences`` travels through the model's forward in its keyword arguments, so that it is exact
under gradient checkpointing, and reaches the attention function in every layer.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

__all__ = ["Run", "Sequences", "plan_runs"]

# One more attention call costs about as much as this many (query, key) pairs: below it,
# sequences of unlike length are padded together instead (see docs/performance.md).
_CALL_IN_PAIRS = 6_000


@dataclass(frozen=True)
class Run:
    """Neighbouring sequences attended in one call: rows ``[first, last)`` of the batch.

    ``start:stop`` are their tokens in the stream. ``longest`` is T of the call; ``equal`` says
    that every sequence has that length, so that the tokens are a view and need no mask.
    """

    first: int
    last: int
    start: int
    stop: int
    longest: int
    equal: bool


def plan_runs(lengths: list[int], prefix: int = 0) -> list[Run]:
    """Cut the batch into runs of least calls · constant + padded pairs, by dynamic programming.

    Sequences are taken in the batch's order, so sort a batch by length before laying it out.
    """
    count = len(lengths)
    best = [0.0] * (count + 1)
    cut = [0] * (count + 1)
    for stop in range(1, count + 1):
        best[stop] = float("inf")
        longest = 0
        for start in range(stop - 1, -1, -1):
            longest = max(longest, lengths[start])
            cost = best[start] + _CALL_IN_PAIRS + (stop - start) * longest * (longest + prefix)
            if cost < best[stop]:
                best[stop], cut[stop] = cost, start
            if stop - start >= 64:  # bounds the planning itself; a run of 64 amortises its call
                break
    offsets = np.concatenate([[0], np.cumsum(lengths)]).tolist()
    runs: list[Run] = []
    stop = count
    while stop:
        start = cut[stop]
        part = lengths[start:stop]
        runs.append(
            Run(start, stop, offsets[start], offsets[stop], max(part), min(part) == max(part))
        )
        stop = start
    return runs[::-1]


@dataclass
class Sequences:
    """The sequences of one forward pass: their ``lengths``, the layout, and the prefix if any.

    ``prefix`` is [layers, 2, L, heads·d] (keys, values). ``calls`` counts attention calls, so
    that a model which silently ignores the interface is found out.
    """

    lengths: list[int]
    layout: str
    device: torch.device
    prefix: Tensor | None = None
    calls: int = 0
    chosen: Tensor | None = None  # tokens of the batch that the head is asked about
    prompt: int = 0  # vectors that a soft prompt put before each sequence; ``lengths`` count them
    _runs: list[Run] | None = None
    _cache: dict[str, Tensor] = field(default_factory=dict)

    @property
    def runs(self) -> list[Run]:
        """The stream cut into runs (planned once; varlen attention needs none)."""
        if self._runs is None:
            self._runs = plan_runs(self.lengths, 0 if self.prefix is None else self.prefix.shape[2])
        return self._runs

    @property
    def longest(self) -> int:
        return max(self.lengths)

    def offsets(self) -> Tensor:
        """Start of each sequence in the stream and the end of the last, int32 [B + 1]."""
        if "offsets" not in self._cache:
            bounds = np.concatenate([[0], np.cumsum(self.lengths)]).astype(np.int32)
            self._cache["offsets"] = torch.from_numpy(bounds).to(self.device, non_blocking=True)
        return self._cache["offsets"]

    def real(self) -> Tensor:
        """Which cells of the padded [B, T] hold a token, bool."""
        if "real" not in self._cache:
            lengths = np.asarray(self.lengths)
            cells = np.arange(self.longest)[None, :] < lengths[:, None]
            self._cache["real"] = torch.from_numpy(cells).to(self.device, non_blocking=True)
        return self._cache["real"]

    def positions(self) -> Tensor:
        """Position of each token within its sequence, int64 [N]."""
        if "positions" not in self._cache:
            lengths = np.asarray(self.lengths)
            starts = np.repeat(np.cumsum(lengths) - lengths, lengths)
            flat = np.arange(int(lengths.sum())) - starts
            self._cache["positions"] = torch.from_numpy(flat).to(self.device, non_blocking=True)
        return self._cache["positions"]

    def starts(self) -> Tensor:
        """Stream position of each sequence's first own token (after a prompt), int64 [B]."""
        if "starts" not in self._cache:
            lengths = np.asarray(self.lengths)
            first = np.cumsum(lengths) - lengths + self.prompt
            self._cache["starts"] = torch.from_numpy(first).to(self.device, non_blocking=True)
        return self._cache["starts"]

    def own(self) -> Tensor:
        """Stream positions of the tokens that are no prompt, int64 [N − B·prompt]."""
        if "own" not in self._cache:
            self._cache["own"] = torch.nonzero(self.positions() >= self.prompt).squeeze(1)
        return self._cache["own"]

    def run_cells(self, run: Run) -> Tensor:
        """Of an unequal run: index [n, T] into the stream's tokens, padding pointing at a token."""
        key = f"cells{run.first}"
        if key not in self._cache:
            lengths = np.asarray(self.lengths[run.first : run.last])
            starts = run.start + np.cumsum(lengths) - lengths
            step = np.minimum(np.arange(run.longest)[None, :], lengths[:, None] - 1)
            self._cache[key] = torch.from_numpy(starts[:, None] + step).to(self.device)
        return self._cache[key]

    def run_real(self, run: Run) -> Tensor:
        """For an unequal run: which cells [n, T] hold a token, bool."""
        key = f"real{run.first}"
        if key not in self._cache:
            lengths = np.asarray(self.lengths[run.first : run.last])
            cells = np.arange(run.longest)[None, :] < lengths[:, None]
            self._cache[key] = torch.from_numpy(cells).to(self.device)
        return self._cache[key]
