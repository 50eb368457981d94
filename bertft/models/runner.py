"""Run a transformers encoder with its head on a ``Batch``, in any layout.

The model is not changed: the runner lays out the inputs, a hook on the base model prepares the
input of the head, and attention is computed in ``bertft.models.attention``. The logits do not
depend on the layout: [B, C] for sequence-level heads, [N, C] for token-level heads.

After the attention of a layer, tokens are independent: projection, feed-forward, norms. A
classifier uses the first token of each sequence, masked language modelling the masked tokens. The
top layer needs keys and values of all tokens, but hooks in it select those tokens for the rest of
the layer, three quarters of its products. The results are the same. In architectures without a
known place for the hooks, the top layer computes all tokens.
"""

from __future__ import annotations

import contextlib
import inspect
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from bertft.config.choices import LAYOUTS
from bertft.data.batch import Batch
from bertft.errors import BertftError, UsageError
from bertft.models.attention import ATTENTION_NAME, register_attention
from bertft.models.compilation import compile_layers, eager
from bertft.models.families import encoder_family, encoder_layers
from bertft.models.forward_state import (
    ActivationRecorder,
    ForwardState,
    current_forward_state,
    use_forward_state,
)
from bertft.models.frozen_layers import FrozenLayers, StatesReached
from bertft.models.fused import install_fused_layers
from bertft.models.sequence_layout import (
    SequenceLayout,
    content_tokens,
    rounded_slot_count,
    scatter_tokens,
)
from bertft.models.token_selection import enable_token_selection

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["EncoderRunner", "accepts_argument", "extract_logits"]


class EncoderRunner:
    """``runner(batch)`` → logits.

    A prefix (``model.prefix``) or soft prompt (``model.prompt``) of the model is used if present.
    Encoders whose attention is not ours (``supports_layouts``) always run padded, and one row at a
    time if padding changes their outputs.

    Args:
        model: A transformers model with a task head.
        level: The task's level, ``"sequence"`` or ``"token"``.
        layout: ``"unpadded"``, ``"packed"``, ``"padded"``, or ``"auto"`` (unpadded).
        fused_layers: Whether hand-written layers compute the encoder where they can
            (``bertft.models.fused``).

    Attributes:
        temperature: Divides all logits, in fp32, if it is not None.
        compiled: Whether the layers are compiled (see ``compile``).
        frozen: The layers that are skipped for batches with ``frozen_states``; None: such states
            are ignored.
    """

    def __init__(
        self, model: PreTrainedModel, level: str, layout: str = "auto", fused_layers: bool = True
    ) -> None:
        self.model, self.level = model, level
        self.family = encoder_family(model)
        if layout == "auto" or not self.family.supports_layouts:
            layout = "unpadded" if self.family.supports_layouts else "padded"
        if layout not in LAYOUTS:
            raise ValueError(f"unknown layout {layout!r}")
        self.layout = layout
        self.temperature: float | None = None
        self.compiled = False
        self.frozen: FrozenLayers | None = None
        self.base: Any = model.base_model
        self._attention_checked = False
        self._accepts_token_types = accepts_argument(self.base, "token_type_ids")
        self._accepts_attention_mask = accepts_argument(self.base, "attention_mask")
        self._padding_position = _padding_position(self.base)
        self._uses_mean_pooling = getattr(model.config, "classifier_pooling", None) == "mean"
        if any(getattr(module, "is_causal", False) is True for module in model.modules()):
            raise UsageError(
                f"this {self.family.model_type} model is a decoder: tokens attend only to those"
                " before them",
                where="model.path",
                hint="Choose an encoder. If the model is an encoder, such as a BERT, set is_decoder"
                " to false in its config.json",
            )
        if self.family.uses_attention_interface:
            register_attention()
            model.set_attn_implementation(ATTENTION_NAME)
        if self.family.has_relative_attention:
            from bertft.models.attention.relative import install_relative_attention

            install_relative_attention(model)
        if self.family.supports_layouts:
            _number_layers(model)
            self.base.register_forward_hook(self._prepare_head_input)
        self._selects_tokens = self.family.supports_layouts and enable_token_selection(model)
        if fused_layers and self.family.uses_attention_interface:
            install_fused_layers(model)

    def __call__(self, batch: Batch, recorder: ActivationRecorder | None = None) -> Tensor:
        """The logits of a batch on the model's device; ``recorder`` records inner states.

        Raises:
            UsageError: ``recorder`` records attention, which this encoder does not expose.
            BertftError: The encoder declares the attention interface but does not call it.
        """
        if self.compiled and not torch.is_grad_enabled():
            with eager():
                logits = self._forward(batch, recorder)
        else:
            logits = self._forward(batch, recorder)
        if self.temperature is None:
            return logits
        # By a tensor: CUDA would multiply by the rounded inverse of a number. The tensor is filled
        # on the device: a copy from the host would synchronize.
        return logits.float() / torch.full((), self.temperature, device=logits.device)

    def compile(self, device: torch.device) -> None:
        """Compile the encoder's layers for ``device``. Raises what ``compile_layers`` does."""
        compile_layers(self.model, device)
        self.compiled = True

    def compute_frozen_states(self, batch: Batch) -> Tensor:
        """The states of ``batch`` after the layers ``frozen``, for its ``frozen_states``.

        One vector per sequence [B, H] if only the head of a sequence-level task comes after them,
        else one per token [N, H]. The pass ends when they are computed.
        """
        assert self.frozen is not None
        try:
            with self.frozen.ending(), eager() if self.compiled else contextlib.nullcontext():
                self._forward(replace(batch, frozen_states=None), None)
        except StatesReached as reached:
            if not self.frozen.includes_all:
                return content_tokens(reached.states, reached.layout)
            if self.level == "sequence":
                return reached.states[: len(batch), 0]
            return reached.states[0, : len(batch.input_ids)]
        raise BertftError("the encoder did not reach the end of its frozen layers")

    def _forward(self, batch: Batch, recorder: ActivationRecorder | None) -> Tensor:
        if self.family.runs_rows_alone:
            return self._forward_row_by_row(batch, recorder)
        if not self.family.supports_layouts:
            return self._forward_padded(batch, recorder)
        if recorder is not None and recorder.attention_layers:
            self._check_attention_is_recorded()
        prefix = _find_submodule(self.model, "prefix")
        prompt = _find_submodule(self.model, "prompt")
        prefix_states = prefix() if prefix is not None else None  # [layers, 2, L, heads·d]
        prompt_vectors = prompt() if prompt is not None else None  # [L, width]
        prompt_length = 0 if prompt_vectors is None else prompt_vectors.shape[0]
        layout = SequenceLayout(
            lengths=[length + prompt_length for length in batch.lengths.tolist()],
            kind=self.layout,
            device=batch.input_ids.device,
            prompt_length=prompt_length,
            prefix_length=0 if prefix_states is None else prefix_states.shape[2],
            rounded=self._rounds_slots(batch.input_ids),
        )
        state = ForwardState(layout, prefix_states, recorder, head_tokens=batch.selected_tokens)
        if self._selects_tokens and not (recorder and recorder.record_hidden):
            state.selected_indices = self._indices_for_head(state)
        position_shift = prefix.length if prefix is not None and prefix.shift_positions else 0
        inputs = self._model_inputs(batch, layout, prompt_vectors, position_shift)
        states = None
        if self.frozen is not None and recorder is None and state.head_tokens is None:
            states = batch.frozen_states
        with use_forward_state(state), self._begin_with(states, state):
            output = self._call_model(inputs, state, {"forward_state": state})
        logits = extract_logits(output)
        if not self._attention_checked and states is None:
            self._check_attention_calls(state)
        return self._select_logits(logits, batch)

    def _begin_with(
        self, states: Tensor | None, state: ForwardState
    ) -> contextlib.AbstractContextManager[None]:
        """The context of a pass that begins with the stored ``states``; None: with the tokens."""
        if self.frozen is None or states is None:
            return contextlib.nullcontext()
        layout = state.layout
        if not self.frozen.includes_all:
            return self.frozen.beginning(scatter_tokens(states, layout))
        # As many rows as the head gets from the base, so that it rounds in the same way.
        row_count = len(states)
        if state.selected_indices is not None:
            row_count = len(state.selected_indices)
        elif self.level == "token" and layout.kind == "unpadded":
            row_count = layout.shape[1]
        state.tokens_selected = True
        padding = states.new_zeros(row_count - len(states), states.shape[1])
        return self.frozen.beginning(torch.cat([states, padding]).unsqueeze(0))

    def _rounds_slots(self, input_ids: Tensor) -> bool:
        """Whether few shapes should occur.

        A CPU generates kernels of half precision for each shape, and passes without gradients have
        tensors of many sizes, which fragment the heap.
        """
        if not input_ids.is_cpu:
            return False
        if not torch.is_grad_enabled():
            return True
        return torch.is_autocast_enabled("cpu") or next(self.base.parameters()).element_size() < 4

    def _call_model(
        self, inputs: dict[str, Tensor], state: ForwardState, extra_arguments: dict[str, Any]
    ) -> Any:
        """The model's output; hidden states go to the state's recorder if it records them."""
        recorder = state.recorder
        if recorder is None or not recorder.record_hidden:
            return self.model(**inputs, **extra_arguments)
        output = self.model(**inputs, **extra_arguments, output_hidden_states=True)
        recorder.hidden_states[:] = [
            content_tokens(layer_states, state.layout) for layer_states in output.hidden_states
        ]
        return output

    def _model_inputs(
        self,
        batch: Batch,
        layout: SequenceLayout,
        prompt_vectors: Tensor | None,
        position_shift: int,
    ) -> dict[str, Tensor]:
        """Keyword arguments of the model, [R, W] each; a prompt is passed as embeddings."""
        token_types = batch.token_type_ids if self._accepts_token_types else None
        if prompt_vectors is None:
            token_inputs: dict[str, Tensor] = {"input_ids": batch.input_ids}
        else:
            token_inputs = {"inputs_embeds": self._embed_with_prompt(batch, layout, prompt_vectors)}
            if token_types is not None:
                token_types = token_types.new_zeros(sum(layout.lengths)).index_copy(
                    0, layout.content_indices(), token_types
                )
        if token_types is not None:
            token_inputs["token_type_ids"] = token_types
        token_inputs["position_ids"] = self._position_ids(
            batch, layout, prompt_vectors is not None, position_shift
        )
        if self.family.has_relative_attention:  # without it, transformers searches for padding
            token_inputs["attention_mask"] = torch.ones_like(token_inputs["position_ids"])
        # Slots without a token hold 0 everywhere: attention masks them and nothing reads them after
        # it, so the id of the pad token does not matter.
        return {name: scatter_tokens(value, layout) for name, value in token_inputs.items()}

    def _position_ids(
        self, batch: Batch, layout: SequenceLayout, has_prompt: bool, position_shift: int
    ) -> Tensor:
        """Position ids [N], from 0, or for RoBERTa's family from the position of padding + 1.

        That family does not count tokens with the id of padding and gives them the position of
        padding, wherever they are: a text may contain the pad token, and a config may use the end
        token as padding.
        """
        positions, padding_id = layout.positions() + position_shift, self._padding_position
        if padding_id is None:
            return positions
        if has_prompt:  # the model counts embeddings, which have no ids
            return positions + padding_id + 1
        is_padding = batch.input_ids == padding_id
        padding_count = is_padding.cumsum(0) - is_padding.long()  # before each token of the batch
        sequence_starts = (
            torch.arange(len(padding_count), device=padding_count.device) - layout.positions()
        )
        position_ids = positions + padding_id + 1 - (padding_count - padding_count[sequence_starts])
        return position_ids.masked_fill(is_padding, padding_id)

    def _embed_with_prompt(
        self, batch: Batch, layout: SequenceLayout, prompt_vectors: Tensor
    ) -> Tensor:
        """[N + B·L, width]: word embeddings with the prompt before each sequence."""
        word_embeddings = self.base.get_input_embeddings()(batch.input_ids)
        total, width = sum(layout.lengths), word_embeddings.shape[1]
        embeddings = word_embeddings.new_zeros(total, width).index_copy(
            0, layout.content_indices(), word_embeddings
        )
        repeated_prompt = prompt_vectors.to(word_embeddings.dtype).repeat(len(layout.lengths), 1)
        return embeddings.index_copy(0, layout.prompt_indices(), repeated_prompt)

    def _prepare_head_input(self, base: nn.Module, _: Any, output: Any) -> Any:
        """Hook: turn the base's output into the head's input.

        That is [B, 1, H] for a sequence-level head, [1, N, H] of the batch's tokens for a
        token-level head, or [1, K, H] if the batch selects K tokens.
        """
        state = current_forward_state()
        if state is None:
            return output
        layout = state.layout
        if state.tokens_selected:
            hidden = output.last_hidden_state
            hidden = hidden.transpose(0, 1) if self.level == "sequence" else hidden
        elif self.level == "sequence":
            hidden = self._pool(output.last_hidden_state.flatten(0, 1), layout).unsqueeze(1)
        elif layout.kind == "unpadded" and state.head_tokens is None and not layout.prompt_length:
            hidden = output.last_hidden_state  # surplus slots too: ``_select_logits`` drops them
        else:
            hidden = content_tokens(output.last_hidden_state, layout).unsqueeze(0)
        if state.head_tokens is not None and not state.tokens_selected:
            hidden = hidden[:, state.head_tokens]
        output["last_hidden_state"] = hidden
        # The base ran its pooler on the first vector of each row: that of a prompt, or of the first
        # of several sequences.
        if self.level == "sequence" and getattr(base, "pooler", None) is not None:
            output["pooler_output"] = _apply_pooler(base, hidden)
        return output

    def _indices_for_head(self, state: ForwardState) -> Tensor | None:
        """The slots whose last hidden states the head uses; None: all, or a mean of all."""
        layout = state.layout
        if self.level == "sequence":
            if self._uses_mean_pooling:
                return None
            indices = layout.cls_indices()
        elif state.head_tokens is None or not len(state.head_tokens):  # a pooler needs one token
            return None
        else:
            indices = layout.token_indices()[layout.content_indices()][state.head_tokens]
        if not layout.rounded:
            return indices
        # The last slot again and again: ``_select_logits`` drops its copies.
        values_per_octave = 4 if self.level == "sequence" else 16  # of few and of many slots
        surplus_count = rounded_slot_count(len(indices), values_per_octave) - len(indices)
        return torch.cat([indices, indices[-1:].expand(surplus_count)])

    def _pool(self, hidden: Tensor, layout: SequenceLayout) -> Tensor:
        """Slots [R·W, H] → [B, H]: the first token, or the mean if the model pools by mean."""
        if not self._uses_mean_pooling:
            return hidden[layout.cls_indices()]
        content_states = hidden[layout.token_indices()[layout.content_indices()]]
        # Sums of many tokens need more than 8 bits: the CPU kernel widens them, CUDA's does not.
        wide_states = (
            content_states if content_states.element_size() >= 4 else content_states.float()
        )
        counts = layout.cu_seqlens().diff() - layout.prompt_length
        sequence_ids = torch.repeat_interleave(
            torch.arange(len(layout.lengths), device=hidden.device),
            counts,
            output_size=content_states.shape[0],
        )
        sums = wide_states.new_zeros(len(layout.lengths), content_states.shape[1]).index_add(
            0, sequence_ids, wide_states
        )
        return (sums / counts.unsqueeze(1)).to(content_states.dtype)

    def _select_logits(self, logits: Tensor, batch: Batch) -> Tensor:
        """The logits [B, C] of sequences, or [N or K, C] of tokens in the batch's order.

        Those of surplus slots, which a rounded layout and selection add at the end, are dropped.
        """
        if self.level == "sequence":
            return logits[: len(batch.lengths)]
        tokens = batch.input_ids if batch.selected_tokens is None else batch.selected_tokens
        return logits[0, : len(tokens)]

    def _forward_row_by_row(self, batch: Batch, recorder: ActivationRecorder | None) -> Tensor:
        """For encoders whose outputs depend on padding: one unpadded sequence at a time."""
        logits, states = [], []
        ids_by_row = batch.input_ids.split(batch.lengths.tolist())
        types_by_row = [None] * len(ids_by_row)
        if batch.token_type_ids is not None:
            types_by_row = batch.token_type_ids.split(batch.lengths.tolist())
        for number, (row_ids, row_types) in enumerate(zip(ids_by_row, types_by_row, strict=True)):
            row = Batch(
                row_ids,
                batch.lengths[number : number + 1],
                row_types,
                {},
                batch.feature_indices[number : number + 1],
            )
            row_recorder = (
                None
                if recorder is None
                else ActivationRecorder(recorder.attention_layers, recorder.record_hidden)
            )
            logits.append(self._forward_padded(row, row_recorder))
            if row_recorder is not None:
                states.append(row_recorder.hidden_states)
        if recorder is not None:
            recorder.hidden_states[:] = [torch.cat(layer) for layer in zip(*states, strict=True)]
        all_logits = torch.cat(logits)
        return all_logits if batch.selected_tokens is None else all_logits[batch.selected_tokens]

    def _forward_padded(self, batch: Batch, recorder: ActivationRecorder | None) -> Tensor:
        """For encoders outside the interface: padded, with the model's own attention."""
        if recorder is not None and recorder.attention_layers:
            self._check_attention_is_recorded()
        layout = SequenceLayout(batch.lengths.tolist(), "padded", batch.input_ids.device)
        padding_id = self.model.config.pad_token_id or 0
        inputs = {"input_ids": scatter_tokens(batch.input_ids, layout, padding_id)}
        if self._accepts_attention_mask:
            inputs["attention_mask"] = layout.token_mask().long()
        if batch.token_type_ids is not None and self._accepts_token_types:
            inputs["token_type_ids"] = scatter_tokens(batch.token_type_ids, layout)
        state = ForwardState(layout, recorder=recorder)
        logits = extract_logits(self._call_model(inputs, state, {}))
        if self.level == "sequence":
            return logits
        logits = logits.flatten(0, 1)[layout.token_indices()]
        return logits if batch.selected_tokens is None else logits[batch.selected_tokens]

    def _check_attention_is_recorded(self) -> None:
        if not self.family.uses_attention_interface:
            raise UsageError(
                f"the attention of a {self.family.model_type} model cannot be recorded",
                where="method.distill",
                hint="Set method.distill.attention_weight=0 and method.distill.relation_weight=0;"
                " method.distill.hidden_weight is supported",
            )

    def _check_attention_calls(self, state: ForwardState) -> None:
        expected = self.family.layers
        if state.attention_calls < expected:
            raise BertftError(
                "this encoder does not use transformers' AttentionInterface, which bertft needs"
                f" (calls: {state.attention_calls} in {expected} layers)",
                where=type(self.model).__name__,
                hint="Choose an encoder of another type, such as bert or roberta",
            )
        self._attention_checked = True


def _number_layers(model: PreTrainedModel) -> None:
    """Set ``layer_idx`` on attention modules of architectures that do not (DistilBERT)."""
    try:
        layers = encoder_layers(model)
    except UsageError:  # shared layers: the attention calls of a pass are counted instead
        return
    for number, layer in enumerate(layers):
        for module in layer.modules():
            if not hasattr(module, "layer_idx"):
                module.layer_idx = number  # type: ignore[assignment]


def _apply_pooler(base: Any, hidden: Tensor) -> Tensor:
    """The base's pooler on hidden states [B, T, H]."""
    if isinstance(base.pooler, nn.Linear):  # ALBERT
        return base.pooler_activation(base.pooler(hidden[:, 0]))
    return base.pooler(hidden)


def _find_submodule(model: nn.Module, name: str) -> Any:
    child = getattr(model, name, None)
    return child if isinstance(child, nn.Module) else None


def extract_logits(output: Any) -> Tensor:
    """The logits of a model output; start and end logits are stacked: [..., 2]."""
    if getattr(output, "logits", None) is not None:
        return output.logits
    return torch.stack([output.start_logits, output.end_logits], -1)


def accepts_argument(module: nn.Module, argument: str) -> bool:
    """Whether the module's forward has a parameter of this name."""
    return argument in inspect.signature(module.forward).parameters


def _padding_position(base: nn.Module) -> int | None:
    """The pad token's id and position in RoBERTa's family; None for other encoders."""
    embeddings = getattr(base, "embeddings", None)
    table = getattr(embeddings, "position_embeddings", None)
    return getattr(table, "padding_idx", None)
