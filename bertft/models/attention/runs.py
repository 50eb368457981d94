"""Attention over the stream, one call a run of sequences of about one length."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from bertft.models.attention.call import Call, dense, join, mask_of
from bertft.models.padding import pad, unpad
from bertft.models.plans import Run
from bertft.models.sequences import Sequences

__all__ = ["attend"]


def attend(call: Call, sequences: Sequences) -> Tensor:
    """[1, N, heads, d]."""
    # [1, heads, N, d] came from a transpose of [1, N, heads, d]: go back without a copy. Split, not
    # sliced: a slice's gradient is as large as all tokens.
    sizes = [run.stop - run.start for run in sequences.runs]
    q, k, v = (each[0].transpose(0, 1).split(sizes) for each in (call.query, call.key, call.value))
    pieces = []
    for run, *tokens in zip(sequences.runs, q, k, v, strict=True):
        qs, ks, vs = (pad(each, run, sequences).transpose(1, 2) for each in tokens)
        mask = mask_of(sequences, run.first, partial(_seen, run, sequences), run.longest, call)
        ks, vs = join(call.prefix, ks, vs)
        output = dense(qs, ks, vs, mask, call).transpose(1, 2)  # [n, T, heads, d]
        pieces.append(unpad(output, run, sequences))
    return torch.cat(pieces).unsqueeze(0) if len(pieces) > 1 else pieces[0].unsqueeze(0)


def _seen(run: Run, sequences: Sequences) -> Tensor | None:
    return None if run.equal else sequences.run_real(run)
