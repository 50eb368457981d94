"""Whether an encoder's answer to a row depends on that row alone.

    reference   the model's own forward pass, one row at a time, without padding
    alone       what bertft computes for one row at a time
    together    what bertft computes for all rows at once

All three must agree, or a metric would depend on the batch size and on the order of the rows. The
architectures of which the tests prove it are not checked again; any other is, once it is loaded.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bertft.data.batch import Batch
from bertft.errors import UsageError
from bertft.models.loading import max_input_length
from bertft.models.runner import EncoderRunner, accepts_argument, extract_logits
from bertft.tasks.shared.sequence_task import encode_texts

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
_LENGTHS = (2, 11, 1, 34)  # words of the rows
_TOLERANCE = 1e-4  # of the largest logit; what fp32 rounds is some hundred times less


def check_batch_invariance(model: Any, tokenizer: Any, level: str, pairs: bool) -> None:
    """UsageError where padding or other rows change what ``model`` answers.

    ``model`` is as it was loaded: in fp32, nothing attached. ``pairs``: its rows are two texts.
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
        runner = EncoderRunner(reference_model, level)
        try:
            unbatched = torch.cat([runner(_make_batch([row])) for row in rows])
            batched = runner(_make_batch(rows))
        except UsageError:
            raise
        except Exception as error:
            raise _unsupported_error(model_type, "cannot be run by bertft", error) from error
    scale = reference.abs().max().clamp(min=1e-12)
    if (unbatched - reference).abs().max() > _TOLERANCE * scale:
        raise _unsupported_error(model_type, "gives other results here than in transformers")
    if (batched - reference).abs().max() > _TOLERANCE * scale:
        raise _unsupported_error(
            model_type, "gives a row another result beside other rows than alone"
        )


def _unsupported_error(model_type: str, what: str, error: Exception | None = None) -> UsageError:
    reason = "" if error is None else f" ({type(error).__name__}: {' '.join(str(error).split())})"
    return UsageError(
        f"an encoder of type {model_type} {what}{reason[:200]}",
        where="model.path",
        hint="Use an encoder of another type, such as"
        f" {', '.join(sorted(VERIFIED_MODEL_TYPES)[:4])}",
    )


TokenizedRow = tuple[Tensor, Tensor | None]  # ids and token types


def _encode_rows(tokenizer: Any, pairs: bool, longest: int) -> list[TokenizedRow]:
    texts = [" ".join((_TEXT * 3).split()[:count]) for count in _LENGTHS]
    encoded = encode_texts(tokenizer, texts, texts[::-1] if pairs else None, longest)
    types = encoded.get("token_type_ids", [None] * len(texts))
    return [
        (torch.from_numpy(ids).long(), None if kinds is None else torch.from_numpy(kinds).long())
        for ids, kinds in zip(encoded["input_ids"], types, strict=True)
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
    types = [kinds for _, kinds in rows if kinds is not None]
    return Batch(
        input_ids=torch.cat([ids for ids, _ in rows]),
        lengths=torch.tensor([len(ids) for ids, _ in rows]),
        token_type_ids=torch.cat(types) if types else None,
        labels={},
        feature_indices=np.arange(len(rows)),
    )
