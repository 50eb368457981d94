"""How the sequences of a batch lie in memory while the encoder runs.

A batch holds B sequences end to end, N tokens in all. Three layouts carry it through the model:

    unpadded  tensors [1, N, ...]: no padding; attention looks up where each sequence begins
    packed    tensors [R, W, ...]: several sequences per row, a mask separates them in attention
    padded    tensors [B, T, ...], T the longest: the reference, and the layout for encoders
              outside transformers' attention interface

``Sequences`` travels through the model's forward in its keyword arguments, so that it is exact
under gradient checkpointing, and reaches the attention function in every layer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from bertft.data.batch import sent
from bertft.models.plans import Run, plan_rows, plan_runs, row_width
from bertft.models.trace import Trace

__all__ = ["Sequences"]


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
    asked: Tensor | None = None  # cells that the top layer goes on with; None: all
    narrowed: bool = False  # whether it did
    prompt: int = 0  # vectors that a soft prompt put before each sequence; ``lengths`` count them
    trace: Trace | None = None  # asks the attention function for what it sees
    masks: dict[object, Tensor | None] = field(default_factory=dict)  # attention's, for all layers
    _runs: list[Run] | None = None
    _rows: tuple[np.ndarray, np.ndarray, int, int] | None = None
    _cache: dict[str, Tensor] = field(default_factory=dict)

    @property
    def runs(self) -> list[Run]:
        """The stream cut into runs (planned once; varlen attention needs none)."""
        if self._runs is None:
            before = 0 if self.prefix is None else self.prefix.shape[2]
            self._runs = plan_runs(self.lengths, before, launched=self.device.type != "cpu")
        return self._runs

    @property
    def longest(self) -> int:
        return max(self.lengths)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the tensors that run through the model."""
        _, _, rows, width = self._places()
        return rows, width

    def _places(self) -> tuple[np.ndarray, np.ndarray, int, int]:
        """Row and first column of each sequence; rows and columns of the whole."""
        if self._rows is None:
            count, ends = len(self.lengths), np.cumsum(self.lengths)
            if self.layout == "padded":
                firsts = np.zeros(count, dtype=np.int64)
                self._rows = np.arange(count), firsts, count, self.longest
            elif self.layout == "packed":
                width = row_width(self.lengths)
                rows, starts, filled = plan_rows(self.lengths, width)
                self._rows = np.asarray(rows), np.asarray(starts), filled, width
            else:
                row = np.zeros(count, dtype=np.int64)
                self._rows = row, ends - self.lengths, 1, int(ends[-1])
        return self._rows

    def offsets(self) -> Tensor:
        """Start of each sequence among the tokens and the end of the last, int32 [B + 1]."""
        return self._kept(
            "offsets", lambda: np.concatenate([[0], np.cumsum(self.lengths)]).astype(np.int32)
        )

    def positions(self) -> Tensor:
        """Position of each token within its sequence, int64 [N]."""
        return self._kept("positions", self._steps)

    def cells(self) -> Tensor:
        """Where each token lies in the flattened tensors, int64 [N]."""

        def find() -> np.ndarray:
            rows, firsts, _, width = self._places()
            return np.repeat(rows * width + firsts, self.lengths) + self._steps()

        return self._kept("cells", find)

    def starts(self) -> Tensor:
        """Cell of each sequence's first own token (after a prompt), int64 [B]."""

        def find() -> np.ndarray:
            rows, firsts, _, width = self._places()
            return rows * width + firsts + self.prompt

        return self._kept("starts", find)

    def own(self) -> Tensor:
        """Which tokens are no prompt, as places among the tokens, int64 [N − B·prompt]."""
        return self._kept("own", lambda: np.flatnonzero(self._steps() >= self.prompt))

    def prompted(self) -> Tensor:
        """Which tokens are of a prompt, as places among the tokens, int64 [B·prompt]."""
        return self._kept("prompted", lambda: np.flatnonzero(self._steps() < self.prompt))

    def owner(self) -> Tensor:
        """The sequence that each cell belongs to, −1 where none does, int64 in ``shape``."""

        def find() -> np.ndarray:
            rows, firsts, count, width = self._places()
            owner = np.full(count * width, -1, dtype=np.int64)
            cells = np.repeat(rows * width + firsts, self.lengths) + self._steps()
            owner[cells] = np.repeat(np.arange(len(self.lengths)), self.lengths)
            return owner.reshape(count, width)

        return self._kept("owner", find)

    def real(self) -> Tensor:
        """Which cells hold a token, bool in ``shape``."""
        if "real" not in self._cache:
            self._cache["real"] = self.owner() >= 0
        return self._cache["real"]

    def run_cells(self, run: Run) -> Tensor:
        """Of an unequal run: the token in each of its n·T cells, int64; padding repeats the last.

        Tokens count from the run's first.
        """

        def find() -> np.ndarray:
            lengths = np.asarray(self.lengths[run.first : run.last])
            starts = np.cumsum(lengths) - lengths
            step = np.minimum(np.arange(run.longest)[None, :], lengths[:, None] - 1)
            return (starts[:, None] + step).reshape(-1)

        return self._kept(f"cells{run.first}", find)

    def run_places(self, run: Run) -> Tensor:
        """Of an unequal run: where in its n·T cells its tokens lie, int64 [stop − start]."""
        return self._kept(f"places{run.first}", lambda: np.flatnonzero(self._held(run)))

    def run_real(self, run: Run) -> Tensor:
        """Which cells [n, T] of a run hold a token, bool."""
        return self._kept(f"real{run.first}", lambda: self._held(run))

    def _held(self, run: Run) -> np.ndarray:
        lengths = np.asarray(self.lengths[run.first : run.last])
        return np.arange(run.longest)[None, :] < lengths[:, None]

    def _steps(self) -> np.ndarray:
        lengths = np.asarray(self.lengths)
        return np.arange(int(lengths.sum())) - np.repeat(np.cumsum(lengths) - lengths, lengths)

    def _kept(self, name: str, find: Callable[[], np.ndarray]) -> Tensor:
        """A tensor that every layer asks for, made once and sent to the device once."""
        if name not in self._cache:
            self._cache[name] = sent(find(), self.device)
        return self._cache[name]
