"""Run a transformers encoder with its head over a ``Batch``, in any layout.

The model itself stays untouched: inputs are laid out here, a hook on its base model hands the
head what it expects, and attention happens in ``bertft.models.attention``. Logits come back
independent of the layout: [B, C] for sequence-level heads, [N, C] for token-level ones, or [K, C]
where the batch names the K tokens that it asks about: the head then runs on those alone.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from bertft.data.batch import Batch
from bertft.errors import BertftError, UsageError
from bertft.models.attention import NAME, register
from bertft.models.families import family_of, layers_of
from bertft.models.sequences import Sequences

__all__ = ["EncoderRunner"]


class EncoderRunner:
    """``runner(batch)`` → logits. ``level`` is the task's: "sequence" or "token".

    ``layout``: "stream", "padded", or "auto" (stream). Encoders outside the attention interface
    always run padded. A prefix (``model.prefix``) or soft prompt (``model.prompt``) is found on
    the model. Raises BertftError if an encoder takes the interface's name but never calls it.
    """

    def __init__(self, model: Any, level: str, layout: str = "auto") -> None:
        self.model, self.level = model, level
        self.family = family_of(model)
        if layout == "auto" or not self.family.interface:
            layout = "stream" if self.family.interface else "padded"
        self.layout = layout
        self.base: Any = model.base_model
        self._checked = False
        self._takes_types = _accepts(self.base, "token_type_ids")
        self._first_position = _first_position(self.base)
        self._mean_pooled = getattr(model.config, "classifier_pooling", None) == "mean"
        if any(getattr(module, "is_causal", False) is True for module in model.modules()):
            raise UsageError(
                f"this {self.family.model_type} model is a decoder: a token sees only those before",
                where="model.path",
                hint="Take an encoder; of a BERT, set is_decoder to false in its config.json",
            )
        if self.family.interface:
            register()
            model.set_attn_implementation(NAME)
            _number_layers(model)
            self.base.register_forward_hook(self._hand_to_head, with_kwargs=True)

    def __call__(self, batch: Batch) -> Tensor:
        """Logits of a batch that lies on the model's device."""
        if not self.family.interface:
            return self._plain(batch)
        prefix, prompt = _module(self.model, "prefix"), _module(self.model, "prompt")
        vectors = prompt() if prompt is not None else None  # [L, width]
        before = 0 if vectors is None else vectors.shape[0]
        sequences = Sequences(
            lengths=[n + before for n in batch.lengths.tolist()],
            layout=self.layout,
            device=batch.input_ids.device,
            prefix=prefix() if prefix is not None else None,
            prompt=before,
            chosen=batch.chosen,
        )
        shift = prefix.length if prefix is not None and prefix.shift_positions else 0
        inputs = self._inputs(batch, sequences, vectors, shift)
        logits = _logits(self.model(**inputs, sequences=sequences))
        if not self._checked:
            self._check(sequences)
        return self._in_order(logits, sequences)

    def _inputs(
        self, batch: Batch, sequences: Sequences, vectors: Tensor | None, shift: int
    ) -> dict[str, Tensor]:
        """Keyword arguments of the model: [1, N] or [B, T], with a prompt as embeddings."""
        types = batch.token_type_ids if self._takes_types else None
        if vectors is None:
            tokens: dict[str, Tensor] = {"input_ids": batch.input_ids}
        else:
            tokens = {"inputs_embeds": self._embed(batch, sequences, vectors)}
            if types is not None:
                types = types.new_zeros(sum(sequences.lengths)).index_copy(
                    0, sequences.own(), types
                )
        if types is not None:
            tokens["token_type_ids"] = types
        tokens["position_ids"] = sequences.positions() + self._first_position + shift
        if self.layout == "stream":
            return {name: value.unsqueeze(0) for name, value in tokens.items()}
        # ``input_ids`` of padding are 0 everywhere: their cells are masked in attention and never
        # read after it, so the pad token's identity does not matter.
        return {name: _pad(value, sequences) for name, value in tokens.items()}

    def _embed(self, batch: Batch, sequences: Sequences, vectors: Tensor) -> Tensor:
        """[N + B·L, width]: word embeddings with the prompt before each sequence."""
        words = self.base.get_input_embeddings()(batch.input_ids)
        total, width = sum(sequences.lengths), words.shape[1]
        spots = torch.nonzero(sequences.positions() < sequences.prompt).squeeze(1)
        joined = words.new_zeros(total, width).index_copy(0, sequences.own(), words)
        repeated = vectors.to(words.dtype).repeat(len(sequences.lengths), 1)
        return joined.index_copy(0, spots, repeated)

    def _hand_to_head(self, base: nn.Module, _: Any, kwargs: dict[str, Any], output: Any) -> Any:
        """Give the head [B, 1, H] (sequence level) or what it would see without a prompt."""
        sequences: Sequences | None = kwargs.get("sequences")
        if sequences is None:
            return output
        hidden = output.last_hidden_state
        if self.layout == "stream":
            if self.level == "sequence":
                hidden = self._pool_stream(hidden[0], sequences).unsqueeze(1)
            elif sequences.prompt:
                hidden = hidden[:, sequences.own()]
        elif sequences.prompt:
            hidden = hidden[:, sequences.prompt :]
        if self.layout == "padded" and self.level == "sequence" and self._mean_pooled:
            own = sequences.real()[:, sequences.prompt :].unsqueeze(-1).to(hidden.dtype)
            hidden = ((hidden * own).sum(1) / own.sum(1)).unsqueeze(1)
        if self.level == "token" and sequences.chosen is not None:
            flat = hidden[0] if self.layout == "stream" else hidden[self._own(sequences)]
            hidden = flat[sequences.chosen].unsqueeze(0)
        output["last_hidden_state"] = hidden
        # The base ran its pooler on the first vector that lay there: a prompt's, or of a stream
        # that of the first sequence alone.
        if getattr(base, "pooler", None) is not None and (
            sequences.prompt or (self.level == "sequence" and self.layout == "stream")
        ):
            output["pooler_output"] = _pooled(base, hidden)
        return output

    def _pool_stream(self, hidden: Tensor, sequences: Sequences) -> Tensor:
        """[N, H] → [B, H]: the first own token, or the mean where the model pools so."""
        if not self._mean_pooled:
            return hidden[sequences.starts()]
        own = hidden[sequences.own()]
        counts = torch.tensor(sequences.lengths, device=hidden.device) - sequences.prompt
        owner = torch.repeat_interleave(
            torch.arange(len(sequences.lengths), device=hidden.device), counts
        )
        total = own.new_zeros(len(sequences.lengths), own.shape[1]).index_add(0, owner, own)
        return total / counts.unsqueeze(1).to(own.dtype)

    def _in_order(self, logits: Tensor, sequences: Sequences) -> Tensor:
        """[B, C], or [N, C] in the order of the batch's tokens, or [K, C] of those chosen."""
        if self.level == "sequence":
            return logits
        if self.layout == "stream" or sequences.chosen is not None:
            return logits[0]
        return logits[self._own(sequences)]

    def _own(self, sequences: Sequences) -> Tensor:
        """Which cells of [B, T] hold a token of the batch, prompts taken away."""
        return sequences.real()[:, sequences.prompt :]

    def _plain(self, batch: Batch) -> Tensor:
        """Encoders outside the interface: padded, with the model's own attention and positions."""
        sequences = Sequences(batch.lengths.tolist(), "padded", batch.input_ids.device)
        inputs = {
            "input_ids": _pad(batch.input_ids, sequences, self.model.config.pad_token_id or 0),
            "attention_mask": sequences.real().long(),
        }
        if batch.token_type_ids is not None and self._takes_types:
            inputs["token_type_ids"] = _pad(batch.token_type_ids, sequences)
        logits = self._in_order(_logits(self.model(**inputs)), sequences)
        return logits if batch.chosen is None else logits[batch.chosen]

    def _check(self, sequences: Sequences) -> None:
        expected = self.family.layers
        if sequences.calls < expected:
            raise BertftError(
                f"attention was called {sequences.calls} times in {expected} layers",
                where=type(self.model).__name__,
                hint="This encoder does not keep to transformers' attention interface",
            )
        self._checked = True


def _number_layers(model: Any) -> None:
    """Tell attention modules their layer where the architecture does not (DistilBERT)."""
    try:
        layers = layers_of(model)
    except UsageError:  # shared ones: the calls of a pass are counted instead
        return
    for number, layer in enumerate(layers):
        for module in layer.modules():
            if not hasattr(module, "layer_idx"):
                module.layer_idx = number  # type: ignore[assignment]


def _pooled(base: Any, hidden: Tensor) -> Tensor:
    """What the base's own forward makes of its last hidden states [B, T, H]."""
    if isinstance(base.pooler, nn.Linear):  # ALBERT
        return base.pooler_activation(base.pooler(hidden[:, 0]))
    return base.pooler(hidden)


def _module(model: nn.Module, name: str) -> Any:
    child = getattr(model, name, None)
    return child if isinstance(child, nn.Module) else None


def _logits(output: Any) -> Tensor:
    """The head's logits; question answering gives start and end apart: [..., 2]."""
    if getattr(output, "logits", None) is not None:
        return output.logits
    return torch.stack([output.start_logits, output.end_logits], -1)


def _pad(values: Tensor, sequences: Sequences, filler: int = 0) -> Tensor:
    """[N, ...] → [B, T, ...]."""
    shape = (len(sequences.lengths), sequences.longest, *values.shape[1:])
    padded = values.new_full(shape, filler)
    padded[sequences.real()] = values
    return padded


def _accepts(module: nn.Module, argument: str) -> bool:
    return argument in inspect.signature(module.forward).parameters


def _first_position(base: nn.Module) -> int:
    """RoBERTa's kin count positions from padding_idx + 1."""
    embeddings = getattr(base, "embeddings", None)
    table = getattr(embeddings, "position_embeddings", None)
    index = getattr(table, "padding_idx", None)
    return 0 if index is None else index + 1
