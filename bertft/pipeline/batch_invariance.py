"""Check that the output of an encoder for a row depends on that row alone.

    reference   the model's own forward pass, one row at a time, without padding
    unbatched   the forward pass of bertft, one row at a time
    batched     the forward pass of bertft, all rows in one batch

All three must agree; otherwise metrics would depend on the batch size and on the order of the rows.
Architectures that the tests cover are not checked; all others are checked after loading.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bertft.data.batch import Batch
from bertft.errors import UsageError
from bertft.models.model_config import max_input_length
from bertft.models.runner import EncoderRunner, accepts_argument, extract_logits
from bertft.tasks.shared.encoding import encode_texts

__all__ = ["check_batch_invariance"]

VERIFIED_MODEL_TYPES = frozenset(
    {
        "bert",
        "roberta",
        "xlm-roberta",
        "camembert",
        "distilbert",
        "electra",
        "albert",
        "modernbert",
        "deberta-v2",
        "mpnet",
        "rembert",
    }
)
_TEXT = "the quick brown fox jumps over a lazy dog and 9 more of them run away in 2024 "
_LENGTHS = (2, 11, 1, 34)  # words per row
_TOLERANCE = 1e-4  # relative to the largest logit; fp32 rounding errors are about 100 times less


def check_batch_invariance(model: Any, tokenizer: Any, level: str, pairs: bool) -> None:
    """Raise UsageError if padding or other rows change the outputs of ``model``.

    Args:
        model: the model after loading: in fp32, without components.
        level: ``sequence`` for one output per row, ``token`` for one per token.
        pairs: each row is a pair of texts.
    """
    model_type = model.config.model_type
    if model_type in VERIFIED_MODEL_TYPES:
        return
    longest = min(64, max_input_length(model.config, tokenizer))
    rows = _encode_rows(tokenizer, pairs, longest)
    reference_model = copy.deepcopy(model).eval()
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        try:
            reference = torch.cat([_reference_logits(reference_model, row, level) for row in rows])
        except Exception as error:
            raise _unsupported_error(
                model_type, f"cannot run rows of {_length_range(rows)} tokens", error
            ) from error
        runner = EncoderRunner(reference_model, level, fused_layers=False)
        try:
            unbatched = torch.cat([runner(_make_batch([row])) for row in rows])
            batched = runner(_make_batch(rows))
        except UsageError:
            raise
        except Exception as error:
            raise _unsupported_error(model_type, "cannot be run by bertft", error) from error
    scale = reference.abs().max().clamp(min=1e-12)
    if (unbatched - reference).abs().max() > _TOLERANCE * scale:
        raise _unsupported_error(
            model_type, "gives different outputs in bertft and in transformers"
        )
    if (batched - reference).abs().max() > _TOLERANCE * scale:
        raise _unsupported_error(
            model_type, "gives different outputs for a row alone and for the same row in a batch"
        )


def _unsupported_error(model_type: str, what: str, error: Exception | None = None) -> UsageError:
    reason = "" if error is None else f" ({type(error).__name__}: {' '.join(str(error).split())})"
    return UsageError(
        f"an encoder of type {model_type} {what}{reason[:200]}",
        where="model.path",
        hint="Choose an encoder of another type, such as"
        f" {', '.join(sorted(VERIFIED_MODEL_TYPES)[:4])}",
    )


TokenizedRow = tuple[Tensor, Tensor | None]  # ids and token types


def _encode_rows(tokenizer: Any, pairs: bool, longest: int) -> list[TokenizedRow]:
    texts = [" ".join((_TEXT * 3).split()[:count]) for count in _LENGTHS]
    encoded = encode_texts(tokenizer, texts, texts[::-1] if pairs else None, longest)
    types_by_row = encoded.get("token_type_ids", [None] * len(texts))
    return [
        (torch.from_numpy(ids).long(), None if types is None else torch.from_numpy(types).long())
        for ids, types in zip(encoded["input_ids"], types_by_row, strict=True)
    ]


def _length_range(rows: list[TokenizedRow]) -> str:
    lengths = [len(ids) for ids, _ in rows]
    return f"{min(lengths)} to {max(lengths)}"


def _reference_logits(model: Any, row: TokenizedRow, level: str) -> Tensor:
    ids, types = row
    inputs = {"input_ids": ids[None]}
    if accepts_argument(model, "attention_mask"):
        inputs["attention_mask"] = torch.ones_like(ids)[None]
    if types is not None and accepts_argument(model.base_model, "token_type_ids"):
        inputs["token_type_ids"] = types[None]
    logits = extract_logits(model(**inputs))
    return logits if level == "sequence" else logits[0]


def _make_batch(rows: list[TokenizedRow]) -> Batch:
    token_types = [types for _, types in rows if types is not None]
    return Batch(
        input_ids=torch.cat([ids for ids, _ in rows]),
        lengths=torch.tensor([len(ids) for ids, _ in rows]),
        token_type_ids=torch.cat(token_types) if token_types else None,
        labels={},
        feature_indices=np.arange(len(rows)),
    )
