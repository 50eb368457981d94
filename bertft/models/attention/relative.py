"""Attention with relative positions, of DeBERTa-v2/v3 and MPNet, in every layout.

With δ = i − j for query i and key j, and T tokens in the longest sequence attended together:

    DeBERTa   (q_i·k_j + q_i·K_δ + k_j·Q_δ) / √(c·d)     He et al. 2021, arXiv 2006.03654, eq. 4
    MPNet     q_i·k_j / √d + b_δ                         Song et al. 2020, arXiv 2004.09297

K and Q project the embeddings of relative positions, c counts the terms, and a prefix has no
position: its keys have the first term alone. The architectures do not call transformers'
``AttentionInterface``, so ``install_relative_attention`` replaces the classes of their modules.

transformers multiplies each query with the embeddings of all 512 relative positions and gathers T
of them per query. Here, tables hold one row per distance that occurs, 2·T − 1 in all, in the order
of the distance. The products q·Kᵀ of a head are a matrix [T, 2·T − 1], of which the scores are a
view: row i begins one element earlier than row i − 1 (Shaw et al. 2018; Dai et al. 2019, app. B).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers.activations import ACT2FN
from transformers.models.deberta_v2 import modeling_deberta_v2 as deberta
from transformers.models.mpnet import modeling_mpnet as mpnet

from bertft.data.batch import to_device
from bertft.models.dropout import dropout as fast_dropout
from bertft.models.forward_state import ForwardState, current_forward_state
from bertft.models.sequence_layout import AttentionChunk, map_chunks, scatter_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["DistanceTables", "attend_with_distances", "install_relative_attention"]


def install_relative_attention(model: PreTrainedModel) -> None:
    """Let the attention of ``model`` read the ``ForwardState`` of a pass that has one.

    Parameters, submodules and passes without a state do not change. The classes are replaced, not
    methods of the modules, so that copies of the model work.
    """
    for module in model.modules():
        replacement = _REPLACEMENTS.get(type(module))
        if replacement is not None:
            module.__class__ = replacement


@dataclass(frozen=True)
class DistanceTables:
    """What depends on the distance in a layer; None: the term does not exist.

    Attributes:
        for_queries: K, multiplied with queries: [heads, 2·L − 1, d]; row r is δ = L − 1 − r.
        for_keys: Q, multiplied with keys: [heads, 2·L − 1, d]; row r is δ = r − (L − 1).
        bias: b, added to the scores: [heads, 2·L − 1]; column r is δ = r − (L − 1).
        max_length: L, at least the number of tokens of every sequence.
    """

    for_queries: Tensor | None
    for_keys: Tensor | None
    bias: Tensor | None
    max_length: int

    def central_rows(self, length: int) -> slice:
        """The rows of the distances between ``length`` tokens."""
        return slice(self.max_length - length, self.max_length + length - 1)


def attend_with_distances(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    tables: DistanceTables,
    state: ForwardState,
    prefix: Tensor | None,
    dropout: float,
) -> Tensor:
    """Attention within each sequence of the layout.

    Args:
        query: [R, W, heads, d], already scaled.
        key: [R, W, heads, d].
        value: [R, W, heads, d].
        tables: Tables of the layer, with their scale.
        state: The state of the pass.
        prefix: Keys and values [2, P, heads, d] before those of each sequence, or None.
        dropout: The rate of the attention weights.

    Returns:
        [R, W, heads·d].
    """
    layout = state.layout
    if layout.kind != "unpadded":
        visible_keys = _visible_keys(state, None)
        output = _attend_rows(query, key, value, tables, visible_keys, prefix, dropout)
        return output.flatten(2)

    def attend(chunk: AttentionChunk, rows: list[Tensor]) -> Tensor:
        visible_keys = _visible_keys(state, chunk)
        return _attend_rows(rows[0], rows[1], rows[2], tables, visible_keys, prefix, dropout)

    return map_chunks([query[0], key[0], value[0]], layout, attend).unsqueeze(0).flatten(2)


def _attend_rows(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    tables: DistanceTables,
    visible_keys: Tensor | None,
    prefix: Tensor | None,
    dropout: float,
) -> Tensor:
    """[n, T, heads, d] of each → [n, T, heads, d]; ``visible_keys`` [n, 1 or T, T] or None."""
    length = query.shape[1]
    rows = tables.central_rows(length)
    query, key, value = (tensor.permute(2, 0, 1, 3) for tensor in (query, key, value))
    scores = _DistanceScores.apply(
        query.contiguous(),
        key.contiguous(),
        None if tables.for_queries is None else tables.for_queries[:, rows],
        None if tables.for_keys is None else tables.for_keys[:, rows],
    )  # [heads, n, T, T]
    if tables.bias is not None:
        positions = torch.arange(length, device=query.device)
        distances = positions[:, None] - positions[None, :] + length - 1
        bias = tables.bias[:, rows].index_select(1, distances.flatten())
        scores = scores + bias.view(-1, 1, length, length)
    if visible_keys is not None:
        scores = scores.masked_fill(~visible_keys.unsqueeze(0), float("-inf"))
    if prefix is not None:
        prefix_keys, prefix_values = prefix.to(key.dtype).transpose(1, 2)  # [heads, P, d] each
        prefix_scores = torch.einsum("hntd,hpd->hntp", query, prefix_keys)
        scores = torch.cat([prefix_scores, scores], -1)
        expanded_values = prefix_values.unsqueeze(1).expand(-1, value.shape[1], -1, -1)
        value = torch.cat([expanded_values, value], 2)
    weights = torch.softmax(scores, -1)
    if dropout:
        weights = fast_dropout(weights, dropout)
    return torch.matmul(weights, value).permute(1, 2, 0, 3)


def _visible_keys(state: ForwardState, chunk: AttentionChunk | None) -> Tensor | None:
    """Bool mask [n, 1 or T, T] of the keys that each query attends to; None: all."""
    key = ("relative", -1 if chunk is None else chunk.first_sequence)
    if key not in state.masks:
        keys = state.layout.visible_keys(chunk)
        state.masks[key] = keys if keys is None or keys.dim() == 3 else keys.unsqueeze(1)
    return state.masks[key]


class _DistanceScores(torch.autograd.Function):
    """q_i·k_j + q_i·K_δ + k_j·Q_δ: [heads, n, T, d] twice and [heads, 2·T − 1, d] twice →
    [heads, n, T, T]."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, for_queries: Tensor | None, for_keys: Tensor | None
    ) -> Tensor:
        ctx.save_for_backward(query, key, for_queries, for_keys)
        scores = torch.matmul(query, key.transpose(2, 3))
        if for_queries is not None:
            scores += _by_position(_times_table(query, for_queries))
        if for_keys is not None:
            scores += _by_position(_times_table(key, for_keys)).transpose(2, 3)
        return scores

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        query, key, for_queries, for_keys = ctx.saved_tensors
        query_grad = torch.matmul(grad, key)
        key_grad = torch.matmul(grad.transpose(2, 3), query)
        table_grads: list[Tensor | None] = [None, None]
        for number, (table, factor, factor_grad, score_grad) in enumerate(
            (
                (for_queries, query, query_grad, grad),
                (for_keys, key, key_grad, grad.transpose(2, 3)),
            )
        ):
            if table is None:
                continue
            by_distance = grad.new_zeros(*grad.shape[:3], table.shape[1])
            _by_position(by_distance).copy_(score_grad)
            by_distance = by_distance.flatten(1, 2)  # [heads, n·T, 2·T − 1]
            factor_grad += torch.bmm(by_distance, table).view_as(factor_grad)
            if ctx.needs_input_grad[2 + number]:
                table_grads[number] = torch.bmm(by_distance.transpose(1, 2), factor.flatten(1, 2))
        return query_grad, key_grad, *table_grads


def _times_table(factor: Tensor, table: Tensor) -> Tensor:
    """[heads, n, T, d] and [heads, D, d] → [heads, n, T, D]."""
    products = torch.bmm(factor.flatten(1, 2), table.transpose(1, 2))
    return products.view(*factor.shape[:3], -1)


def _by_position(by_distance: Tensor) -> Tensor:
    """The view [heads, n, T, T] of [heads, n, T, 2·T − 1] with (i, j) → (i, j − i + T − 1)."""
    heads, n, length, distances = by_distance.shape
    head_stride, row_stride = n * length * distances, length * distances
    return by_distance.as_strided(
        (heads, n, length, length),
        (head_stride, row_stride, distances - 1, 1),
        by_distance.storage_offset() + length - 1,
    )


def _distances(length: int, device: torch.device) -> Tensor:
    """−(length − 1) to length − 1, int64."""
    return torch.arange(1 - length, length, device=device)


def _layer_prefix(state: ForwardState, attention: Any, heads: int) -> Tensor | None:
    """[2, P, heads, d] of the layer of ``attention``, which ``EncoderRunner`` numbers."""
    if state.prefix is None:
        return None
    return state.prefix[attention.layer_idx].unflatten(-1, (heads, -1))


class _DebertaEncoder(deberta.DebertaV2Encoder):
    """Passes the state to its layers in place of relative positions.

    The layers get it as an argument, so that gradient checkpointing repeats it.
    """

    def get_rel_pos(
        self, hidden_states: Any, query_states: Any = None, relative_pos: Any = None
    ) -> Any:
        state = current_forward_state()
        return state or super().get_rel_pos(hidden_states, query_states, relative_pos)

    def get_attention_mask(self, attention_mask: Tensor) -> Tensor:
        if current_forward_state():
            return attention_mask  # of no use, and its square would have W² elements
        return super().get_attention_mask(attention_mask)


class _DebertaAttention(deberta.DisentangledSelfAttention):
    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor,
        output_attentions: bool = False,
        query_states: Tensor | None = None,
        relative_pos: Any = None,
        rel_embeddings: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        state = relative_pos
        if not isinstance(state, ForwardState):
            return super().forward(
                hidden_states,
                attention_mask,
                output_attentions,
                query_states,
                relative_pos,
                rel_embeddings,
            )
        state.attention_calls += 1
        heads = self.num_attention_heads
        query, key, value = (
            projection(hidden_states).unflatten(-1, (heads, -1))
            for projection in (self.query_proj, self.key_proj, self.value_proj)
        )
        terms = 1 + ("c2p" in self.pos_att_type) + ("p2c" in self.pos_att_type)
        scale = deberta.scaled_size_sqrt(query, terms).to(query.dtype)
        tables = self._tables(rel_embeddings, state, scale)
        output = attend_with_distances(
            query / scale,
            key,
            value,
            tables,
            state,
            _layer_prefix(state, self, heads),
            self.dropout.p if self.training else 0.0,
        )
        return output, None

    def _tables(
        self, rel_embeddings: Tensor | None, state: ForwardState, scale: Tensor
    ) -> DistanceTables:
        length = state.layout.longest_row
        if not self.relative_attention or rel_embeddings is None:
            return DistanceTables(None, None, None, length)
        occurring, rows = _deberta_buckets(self, state, length, rel_embeddings.device)
        embeddings = self.pos_dropout(rel_embeddings[occurring])
        key_projection = (
            self.key_proj if self.share_att_key else getattr(self, "pos_key_proj", None)
        )
        query_projection = (
            self.query_proj if self.share_att_key else getattr(self, "pos_query_proj", None)
        )
        for_queries = for_keys = None
        if "c2p" in self.pos_att_type and key_projection is not None:
            for_queries = self._table(key_projection(embeddings), rows.flip(0))
        if "p2c" in self.pos_att_type and query_projection is not None:
            for_keys = self._table(query_projection(embeddings) / scale, rows)
        return DistanceTables(for_queries, for_keys, None, length)

    def _table(self, projected: Tensor, rows: Tensor) -> Tensor:
        """[buckets, heads·d] → [heads, 2·L − 1, d]."""
        by_distance = projected.index_select(0, rows)
        return by_distance.unflatten(-1, (self.num_attention_heads, -1)).transpose(0, 1)


def _deberta_buckets(
    attention: deberta.DisentangledSelfAttention,
    state: ForwardState,
    length: int,
    device: torch.device,
) -> tuple[slice, Tensor]:
    """The relative embeddings that occur, and the row among them of each distance, ascending.

    The rows are int64 [2·length − 1]. They are computed by the first layer, on the CPU, so that
    the slice does not wait for an accelerator.
    """
    span = attention.pos_ebd_size
    key = ("deberta buckets", span, attention.max_relative_positions)
    if key not in state.groups:
        distances = _distances(length, torch.device("cpu"))
        if attention.position_buckets > 0 and attention.max_relative_positions > 0:
            distances = deberta.make_log_bucket_position(
                distances, attention.position_buckets, attention.max_relative_positions
            ).long()
        rows = (distances + span).clamp(0, 2 * span - 1)
        first, last = int(rows[0]), int(rows[-1])
        state.groups[key] = slice(first, last + 1), to_device((rows - first).numpy(), device)
    buckets: tuple[slice, Tensor] = state.groups[key]
    return buckets


class _DebertaConvolution(deberta.ConvLayer):
    """A convolution over the tokens of each sequence alone, with zeros before and after it."""

    def forward(self, hidden_states: Tensor, residual_states: Tensor, input_mask: Any) -> Tensor:
        state = current_forward_state()
        if state is None:
            return super().forward(hidden_states, residual_states, input_mask)
        layout = state.layout
        tokens = hidden_states.flatten(0, 1)[layout.token_indices()]
        margin = (self.conv.kernel_size[0] - 1) // 2
        sequence_numbers = layout.sequence_ids().flatten()[layout.token_indices()]
        slots = torch.arange(len(tokens), device=tokens.device) + margin * (sequence_numbers + 1)
        spaced = tokens.new_zeros(
            len(tokens) + margin * (len(layout.lengths) + 1), tokens.shape[1]
        ).index_copy(0, slots, tokens)
        convolved = self.conv(spaced.T.unsqueeze(0))[0].T[slots]
        activation: Callable[[Tensor], Tensor] = ACT2FN[self.conv_act]
        output = activation(self.dropout(scatter_tokens(convolved, layout)))
        return self.LayerNorm(residual_states + output).to(residual_states)


@dataclass(frozen=True)
class _MpnetBias:
    """The argument ``position_bias`` of MPNet's layers: the state, and the tables of all layers."""

    state: ForwardState
    tables: DistanceTables


class _MpnetEncoder(mpnet.MPNetEncoder):
    def compute_position_bias(
        self, x: Tensor, position_ids: Any = None, num_buckets: int = 32
    ) -> Any:
        state = current_forward_state()
        if state is None:
            return super().compute_position_bias(x, position_ids, num_buckets)
        length = state.layout.longest_row
        buckets = self.relative_position_bucket(-_distances(length, x.device), num_buckets)
        bias = self.relative_attention_bias(buckets).T
        return _MpnetBias(state, DistanceTables(None, None, bias, length))


class _MpnetAttention(mpnet.MPNetSelfAttention):
    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        position_bias: Any = None,
        output_attentions: bool = False,
        **kwargs: Any,
    ) -> tuple[Tensor, ...]:
        if not isinstance(position_bias, _MpnetBias):
            return super().forward(
                hidden_states, attention_mask, position_bias, output_attentions, **kwargs
            )
        state, heads = position_bias.state, self.num_attention_heads
        state.attention_calls += 1
        query, key, value = (
            projection(hidden_states).unflatten(-1, (heads, -1))
            for projection in (self.q, self.k, self.v)
        )
        attention = attend_with_distances(
            query * self.attention_head_size**-0.5,
            key,
            value,
            position_bias.tables,
            state,
            _layer_prefix(state, self, heads),
            self.dropout.p if self.training else 0.0,
        )
        return (self.o(attention),)


_REPLACEMENTS: dict[type[nn.Module], type[nn.Module]] = {
    deberta.DebertaV2Encoder: _DebertaEncoder,
    deberta.DisentangledSelfAttention: _DebertaAttention,
    deberta.ConvLayer: _DebertaConvolution,
    mpnet.MPNetEncoder: _MpnetEncoder,
    mpnet.MPNetSelfAttention: _MpnetAttention,
}
