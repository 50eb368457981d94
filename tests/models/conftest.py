"""Small random encoders of every architecture, in fp64, and batches of unlike lengths."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch import Tensor

from bertft.data.batch import Batch

VOCABULARY = 60
COMMON = {
    "hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 40,
    "vocab_size": VOCABULARY, "max_position_embeddings": 64, "pad_token_id": 0,
    "initializer_range": 0.3,
}  # fmt: skip
OWN: dict[str, dict[str, Any]] = {
    "bert": {},
    "roberta": {"pad_token_id": 1, "type_vocab_size": 1},
    "xlm-roberta": {"pad_token_id": 1, "type_vocab_size": 1},
    "camembert": {"pad_token_id": 1, "type_vocab_size": 1},
    "electra": {"embedding_size": 16},
    "albert": {"embedding_size": 16, "classifier_dropout_prob": 0.0},
    "modernbert": {
        "cls_token_id": 2, "bos_token_id": 2, "sep_token_id": 3, "eos_token_id": 3,
        "local_attention": 6, "global_attn_every_n_layers": 3,
    },
    "deberta-v2": {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "pad_token_id": 0},
    "mpnet": {"pad_token_id": 1},
    "rembert": {"input_embedding_size": 24, "output_embedding_size": 24},
}  # fmt: skip
HEADS = {
    "sequence": "AutoModelForSequenceClassification",
    "token": "AutoModelForTokenClassification",
    "answer": "AutoModelForQuestionAnswering",
    "mask": "AutoModelForMaskedLM",
}


@pytest.fixture
def encoder() -> Callable[..., Any]:
    """``encoder(kind, head="sequence", **changes)``: fp64, dropout 0, in eval mode."""

    def build(kind: str, head: str = "sequence", dropout: float = 0.0, **changes: Any) -> Any:
        settings: dict[str, Any] = {**COMMON, **OWN.get(kind, {}), **changes}
        if kind == "distilbert":
            names = {
                "hidden_size": "dim", "num_hidden_layers": "n_layers",
                "num_attention_heads": "n_heads", "intermediate_size": "hidden_dim",
            }  # fmt: skip
            settings = {names.get(key, key): value for key, value in settings.items()}
        labels = 2 if head == "answer" else 3
        config = transformers.AutoConfig.for_model(kind, **settings, num_labels=labels)
        for name in list(vars(config)):
            if "dropout" in name and isinstance(getattr(config, name), float):
                setattr(config, name, dropout)
        torch.manual_seed(0)
        model = getattr(transformers, HEADS[head]).from_config(config)
        with torch.no_grad():  # zero biases hide a bias that is left out
            for parameter in model.parameters():
                if parameter.dim() == 1:
                    parameter.add_(0.1 * torch.randn_like(parameter))
        return model.double().eval()

    return build


@pytest.fixture
def batch() -> Callable[..., Batch]:
    """``batch(lengths)``: random tokens, token types where ``types``."""

    def build(lengths: list[int], types: bool = True, seed: int = 1) -> Batch:
        generator = torch.Generator().manual_seed(seed)
        total = sum(lengths)
        return Batch(
            input_ids=torch.randint(5, VOCABULARY, (total,), generator=generator),
            lengths=torch.tensor(lengths),
            token_type_ids=torch.randint(0, 2, (total,), generator=generator) if types else None,
            labels={"labels": torch.randint(0, 3, (len(lengths),), generator=generator)},
            feature_indices=np.arange(len(lengths)),
        )

    return build


@pytest.fixture
def plain() -> Callable[[Any, Batch], Tensor]:
    """What transformers computes row by row with its own attention: [B, C] or [N, C]."""

    def run(model: Any, batch: Batch) -> Tensor:
        if model._can_set_attn_implementation():
            model.set_attn_implementation("sdpa")  # eager takes its softmax in fp32 in places
        rows, at = [], 0
        takes_types = model.config.model_type not in ("distilbert", "modernbert")
        for length in batch.lengths.tolist():
            inputs = {"input_ids": batch.input_ids[None, at : at + length]}
            if batch.token_type_ids is not None and takes_types:
                inputs["token_type_ids"] = batch.token_type_ids[None, at : at + length]
            output = model(**inputs, attention_mask=torch.ones(1, length, dtype=torch.long))
            if "start_logits" in output:
                rows.append(torch.stack([output.start_logits, output.end_logits], -1)[0])
            else:
                rows.append(output.logits[0] if output.logits.dim() == 3 else output.logits)
            at += length
        return torch.cat(rows)

    return run
