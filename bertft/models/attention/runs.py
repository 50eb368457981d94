"""Attention over the stream, one call a run of sequences of about one length."""

from __future__ import annotations

import torch
from torch import Tensor

from bertft.models.attention.call import Call, dense, join, visible
from bertft.models.plans import Run
from bertft.models.sequences import Sequences

__all__ = ["attend"]


def attend(call: Call, sequences: Sequences) -> Tensor:
    """[1, N, heads, d]."""
    # [1, heads, N, d] came from a transpose of [1, N, heads, d]: go back without a copy.
    q, k, v = (each[0].transpose(0, 1) for each in (call.query, call.key, call.value))
    pieces = []
    for run in sequences.runs:
        qs, ks, vs = (_take(each, run, sequences) for each in (q, k, v))
        real = None if run.equal else sequences.run_real(run)
        mask = visible(real, run.longest, call)
        ks, vs = join(call.prefix, ks, vs)
        output = dense(qs, ks, vs, mask, call).transpose(1, 2)  # [n, T, heads, d]
        pieces.append(output.flatten(0, 1) if real is None else output[real])
    return torch.cat(pieces).unsqueeze(0) if len(pieces) > 1 else pieces[0].unsqueeze(0)


def _take(tokens: Tensor, run: Run, sequences: Sequences) -> Tensor:
    """Tokens [N, heads, d] of a run as [n, heads, T, d]."""
    if run.equal:
        part = tokens[run.start : run.stop].unflatten(0, (run.last - run.first, run.longest))
    else:
        part = tokens[sequences.run_cells(run)]
    return part.transpose(1, 2)
