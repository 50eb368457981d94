"""Run a transformers encoder with its head over a ``Batch``, in any layout.

The model itself stays untouched: inputs are laid out here, a hook on its base model hands the
head what it expects, and attention happens in ``bertft.models.attention``. Logits come back
independent of the layout: [B, C] for sequence-level heads, [N, C] for token-level ones.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from bertft.config.choices import LAYOUTS
from bertft.data.batch import Batch
from bertft.errors import BertftError, UsageError
from bertft.models.attention import NAME, register
from bertft.models.compiled import as_it_is, compile_layers
from bertft.models.families import family_of, layers_of
from bertft.models.sequences import Sequences
from bertft.models.top_layer import narrow
from bertft.models.trace import Trace, own_tokens

__all__ = ["EncoderRunner", "accepts", "logits_of"]


class EncoderRunner:
    """``runner(batch)`` → logits. ``level`` is the task's: "sequence" or "token".

    ``layout``: "unpadded", "packed", "padded", or "auto" (unpadded). Encoders outside the attention
    interface always run padded, and one row at a time where padding changes their answers. A
    prefix (``model.prefix``) or soft prompt (``model.prompt``) is found on the model.
    ``temperature``: what all logits are divided by, in fp32, if it is not None. Raises BertftError
    if an encoder takes the interface's name but never calls it.
    """

    def __init__(self, model: Any, level: str, layout: str = "auto") -> None:
        self.model, self.level = model, level
        self.family = family_of(model)
        if layout == "auto" or not self.family.interface:
            layout = "unpadded" if self.family.interface else "padded"
        if layout not in LAYOUTS:
            raise ValueError(f"unknown layout {layout!r}")
        self.layout = layout
        self.temperature: float | None = None
        self.compiled = False  # whether the layers are: see ``compile``
        self.base: Any = model.base_model
        self._checked = False
        self._takes_types = accepts(self.base, "token_type_ids")
        self._takes_mask = accepts(self.base, "attention_mask")
        self._padding_position = _padding_position(self.base)
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
        self._narrows = self.family.interface and narrow(model)

    def __call__(self, batch: Batch, trace: Trace | None = None) -> Tensor:
        """Logits of a batch that lies on the model's device; ``trace`` is given what it asks for.

        Raises UsageError if it asks an encoder outside the interface for its attention.
        """
        if self.compiled and not torch.is_grad_enabled():
            with as_it_is():
                logits = self._forward(batch, trace)
        else:
            logits = self._forward(batch, trace)
        if self.temperature is None:
            return logits
        # By a tensor beside them: CUDA would multiply by the inverse of a number, which rounds. And
        # filled there: copied from here, it would be waited for.
        return logits.float() / torch.full((), self.temperature, device=logits.device)

    def compile(self, device: torch.device) -> None:
        """Compile the encoder's layers, on ``device``; errors as of ``compile_layers``."""
        compile_layers(self.model, device)
        self.compiled = True

    def _forward(self, batch: Batch, trace: Trace | None) -> Tensor:
        if self.family.one_by_one:
            return self._one_by_one(batch, trace)
        if not self.family.interface:
            return self._plain(batch, trace)
        prefix, prompt = _module(self.model, "prefix"), _module(self.model, "prompt")
        vectors = prompt() if prompt is not None else None  # [L, width]
        before = 0 if vectors is None else vectors.shape[0]
        sequences = Sequences(
            lengths=[n + before for n in batch.lengths.tolist()],
            layout=self.layout,
            device=batch.input_ids.device,
            prefix=prefix() if prefix is not None else None,
            prompt=before,
            trace=trace,
            chosen=batch.chosen,
        )
        if self._narrows and not (trace and trace.states):
            sequences.asked = self._asked(sequences)
        shift = prefix.length if prefix is not None and prefix.shift_positions else 0
        inputs = self._inputs(batch, sequences, vectors, shift)
        logits = logits_of(self._run(inputs, sequences, {"sequences": sequences}))
        if not self._checked:
            self._check(sequences)
        return self._in_order(logits)

    def _run(self, inputs: dict[str, Tensor], sequences: Sequences, further: dict[str, Any]) -> Any:
        """The model's output; its hidden states go to a trace where that asks for them."""
        trace = sequences.trace
        if trace is None or not trace.states:
            return self.model(**inputs, **further)
        output = self.model(**inputs, **further, output_hidden_states=True)
        trace.hidden[:] = [own_tokens(each, sequences) for each in output.hidden_states]
        return output

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
        tokens["position_ids"] = self._positions(batch, sequences, vectors is not None, shift)
        # Cells without a token hold 0 everywhere: attention masks them and nothing reads them after
        # it, so the pad token's identity does not matter.
        return {name: _lay_out(value, sequences) for name, value in tokens.items()}

    def _positions(self, batch: Batch, sequences: Sequences, prompted: bool, shift: int) -> Tensor:
        """[N]: from 0, or as RoBERTa's kin count: from padding's position + 1.

        They do not count a token with the id of padding, which has padding's position wherever it
        is: a text may spell it, and a config may name the end of a text as its padding.
        """
        positions, padding = sequences.positions() + shift, self._padding_position
        if padding is None:
            return positions
        if prompted:  # counted from embeddings, which have no ids
            return positions + padding + 1
        is_padding = batch.input_ids == padding
        before = is_padding.cumsum(0) - is_padding.long()  # in the batch, then in the sequence
        first = torch.arange(len(before), device=before.device) - sequences.positions()
        counted = positions + padding + 1 - (before - before[first])
        return counted.masked_fill(is_padding, padding)

    def _embed(self, batch: Batch, sequences: Sequences, vectors: Tensor) -> Tensor:
        """[N + B·L, width]: word embeddings with the prompt before each sequence."""
        words = self.base.get_input_embeddings()(batch.input_ids)
        total, width = sum(sequences.lengths), words.shape[1]
        joined = words.new_zeros(total, width).index_copy(0, sequences.own(), words)
        repeated = vectors.to(words.dtype).repeat(len(sequences.lengths), 1)
        return joined.index_copy(0, sequences.prompted(), repeated)

    def _hand_to_head(self, base: nn.Module, _: Any, kwargs: dict[str, Any], output: Any) -> Any:
        """Give the head [B, 1, H] (sequence level) or [1, N, H], the batch's own tokens.

        Of those, where the batch chose some, [1, K, H].
        """
        sequences: Sequences | None = kwargs.get("sequences")
        if sequences is None:
            return output
        if sequences.narrowed:
            hidden = output.last_hidden_state
            hidden = hidden.transpose(0, 1) if self.level == "sequence" else hidden
        elif self.level == "sequence":
            hidden = self._pool(output.last_hidden_state.flatten(0, 1), sequences).unsqueeze(1)
        elif self.layout == "unpadded" and not sequences.prompt:
            hidden = output.last_hidden_state
        else:
            own = sequences.cells()[sequences.own()]
            hidden = output.last_hidden_state.flatten(0, 1)[own].unsqueeze(0)
        if sequences.chosen is not None and not sequences.narrowed:
            hidden = hidden[:, sequences.chosen]
        output["last_hidden_state"] = hidden
        # The base ran its pooler on the first vector of each row: a prompt's, or of several
        # sequences in a row that of the first alone.
        if self.level == "sequence" and getattr(base, "pooler", None) is not None:
            output["pooler_output"] = _pooled(base, hidden)
        return output

    def _asked(self, sequences: Sequences) -> Tensor | None:
        """The cells whose last hidden states the head sees; None: all, or a mean of all."""
        if self.level == "sequence":
            return None if self._mean_pooled else sequences.starts()
        if sequences.chosen is None or not len(sequences.chosen):  # a pooler wants one token
            return None
        return sequences.cells()[sequences.own()][sequences.chosen]

    def _pool(self, hidden: Tensor, sequences: Sequences) -> Tensor:
        """Cells [R·W, H] → [B, H]: the first own token, or the mean where the model pools so."""
        if not self._mean_pooled:
            return hidden[sequences.starts()]
        own = hidden[sequences.cells()[sequences.own()]]
        # Sums of many tokens want more than 8 bits: a CPU's kernel sees to that, CUDA's does not.
        wide = own if own.element_size() >= 4 else own.float()
        counts = sequences.offsets().diff() - sequences.prompt
        owner = torch.repeat_interleave(
            torch.arange(len(sequences.lengths), device=hidden.device), counts,
            output_size=own.shape[0],
        )  # fmt: skip
        total = wide.new_zeros(len(sequences.lengths), own.shape[1]).index_add(0, owner, wide)
        return (total / counts.unsqueeze(1)).to(own.dtype)

    def _in_order(self, logits: Tensor) -> Tensor:
        """[B, C], or [N, C] in the order of the batch's tokens, or [K, C] of those chosen."""
        return logits if self.level == "sequence" else logits[0]

    def _one_by_one(self, batch: Batch, trace: Trace | None) -> Tensor:
        """Encoders that padding reaches: rows of one sequence, without any."""
        logits, states = [], []
        ids = batch.input_ids.split(batch.lengths.tolist())
        types = [None] * len(ids)
        if batch.token_type_ids is not None:
            types = batch.token_type_ids.split(batch.lengths.tolist())
        for number, (row_ids, row_types) in enumerate(zip(ids, types, strict=True)):
            row = Batch(
                row_ids, batch.lengths[number : number + 1], row_types, {},
                batch.index[number : number + 1],
            )  # fmt: skip
            own = None if trace is None else Trace(trace.layers, trace.states)
            logits.append(self._plain(row, own))
            if own is not None:
                states.append(own.hidden)
        if trace is not None:
            trace.hidden[:] = [torch.cat(layer) for layer in zip(*states, strict=True)]
        joined = torch.cat(logits)
        return joined if batch.chosen is None else joined[batch.chosen]

    def _plain(self, batch: Batch, trace: Trace | None) -> Tensor:
        """Encoders outside the interface: padded, with the model's own attention and positions."""
        if trace is not None and trace.layers:
            raise UsageError(
                f"the attention of a {self.family.model_type} model cannot be looked into",
                where="method.distill",
                hint="Set attention_weight and relation_weight to 0; hidden_weight works",
            )
        sequences = Sequences(batch.lengths.tolist(), "padded", batch.input_ids.device, trace=trace)
        padding = self.model.config.pad_token_id or 0
        inputs = {"input_ids": _lay_out(batch.input_ids, sequences, padding)}
        if self._takes_mask:
            inputs["attention_mask"] = sequences.real().long()
        if batch.token_type_ids is not None and self._takes_types:
            inputs["token_type_ids"] = _lay_out(batch.token_type_ids, sequences)
        logits = logits_of(self._run(inputs, sequences, {}))
        if self.level == "sequence":
            return logits
        logits = logits.flatten(0, 1)[sequences.cells()]
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


def logits_of(output: Any) -> Tensor:
    """The head's logits; question answering gives start and end apart: [..., 2]."""
    if getattr(output, "logits", None) is not None:
        return output.logits
    return torch.stack([output.start_logits, output.end_logits], -1)


def _lay_out(values: Tensor, sequences: Sequences, filler: int = 0) -> Tensor:
    """[N, ...] → [R, W, ...] in the layout's shape."""
    if sequences.layout == "unpadded":
        return values.unsqueeze(0)
    rows, width = sequences.shape
    cells = values.new_full((rows * width, *values.shape[1:]), filler)
    return cells.index_copy(0, sequences.cells(), values).unflatten(0, (rows, width))


def accepts(module: nn.Module, argument: str) -> bool:
    return argument in inspect.signature(module.forward).parameters


def _padding_position(base: nn.Module) -> int | None:
    """What RoBERTa's kin count positions from, and the id of their padding; None for others."""
    embeddings = getattr(base, "embeddings", None)
    table = getattr(embeddings, "position_embeddings", None)
    return getattr(table, "padding_idx", None)
