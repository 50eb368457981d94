"""Attention over the stream, one call a run of sequences of about one length."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from bertft.models.attention.call import AttentionInputs, sdpa, prepend_prefix, cached_mask
from bertft.models.padding import pad_chunk, unpad_chunk
from bertft.models.plans import AttentionChunk
from bertft.models.sequences import SequenceLayout

__all__ = ["attend_chunks"]


def attend_chunks(inputs: AttentionInputs, state: SequenceLayout) -> Tensor:
    """[1, N, heads, d]."""
    # [1, heads, N, d] came from a transpose of [1, N, heads, d]: go back without a copy. Split, not
    # sliced: a slice's gradient is as large as all tokens.
    sizes = [run.token_end - run.token_start for run in state.chunks]
    q, k, v = (tensor[0].transpose(0, 1).split(sizes) for tensor in (inputs.query, inputs.key, inputs.value))
    pieces = []
    for chunk, *chunk_tokens in zip(state.chunks, q, k, v, strict=True):
        qs, ks, vs = (pad_chunk(each, chunk, state).transpose(1, 2) for each in chunk_tokens)
        mask = cached_mask(state, chunk.first_sequence, partial(_visible_keys_of_chunk, chunk, state), chunk.max_length, inputs)
        ks, vs = prepend_prefix(inputs.prefix, ks, vs)
        output = sdpa(qs, ks, vs, mask, inputs).transpose(1, 2)  # [n, T, heads, d]
        pieces.append(unpad_chunk(output, chunk, state))
    return torch.cat(pieces).unsqueeze(0) if len(pieces) > 1 else pieces[0].unsqueeze(0)


def _visible_keys_of_chunk(chunk: AttentionChunk, layout: SequenceLayout) -> Tensor | None:
    return None if chunk.equal_lengths else layout.chunk_token_mask(chunk)
