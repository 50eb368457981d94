"""Small random encoders with a head, in fp64, and methods as a configuration composes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from bertft.config.method import MethodConfig
from bertft.config.method_components import base, ia3, low_rank, prefix
from bertft.data.batch import Batch
from bertft.methods import attach_components, build_components
from bertft.methods.component import MethodComponent

COMMON = {
    "hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 40,
    "vocab_size": 60, "max_position_embeddings": 64, "pad_token_id": 0, "initializer_range": 0.3,
    "num_labels": 3,
}  # fmt: skip
OWN: dict[str, dict[str, Any]] = {
    "roberta": {"pad_token_id": 1, "type_vocab_size": 1},
    "electra": {"embedding_size": 16},
    "albert": {"embedding_size": 16},
    "modernbert": {
        "cls_token_id": 2, "bos_token_id": 2, "sep_token_id": 3, "eos_token_id": 3,
        "local_attention": 6, "global_attn_every_n_layers": 3,
    },
    "deberta-v2": {"relative_attention": True, "pos_att_type": ["p2c", "c2p"],
                   "norm_rel_ebd": "layer_norm", "conv_kernel_size": 3},
    "mpnet": {"pad_token_id": 1},
    "rembert": {"input_embedding_size": 16, "output_embedding_size": 24},
}  # fmt: skip


@pytest.fixture
def encoder() -> Callable[..., Any]:
    """``encoder(kind)``: three layers, three labels, no dropout, in eval mode."""

    def make(kind: str = "bert", head: str = "SequenceClassification", **changes: Any) -> Any:
        config = transformers.AutoConfig.for_model(
            kind, **{**COMMON, **OWN.get(kind, {}), **changes}
        )
        for name, value in list(vars(config).items()):
            if "dropout" in name and isinstance(value, float):
                setattr(config, name, 0.0)
        torch.manual_seed(0)
        model = getattr(transformers, f"AutoModelFor{head}").from_config(config)
        return model.double().eval()

    return make


@pytest.fixture
def batch() -> Callable[..., Batch]:
    def make(lengths: list[int]) -> Batch:
        generator = torch.Generator().manual_seed(1)
        return Batch(
            input_ids=torch.randint(5, 60, (sum(lengths),), generator=generator),
            lengths=torch.tensor(lengths),
            token_type_ids=None,
            labels={"labels": torch.randint(0, 3, (len(lengths),), generator=generator)},
            feature_indices=np.arange(len(lengths)),
        )

    return make


def head_of(model: Any) -> list[str]:
    inside = f"{model.base_model_prefix}."
    return [name for name, _ in model.named_parameters() if not name.startswith(inside)]


PARTS = {
    "base": base.TrainableBaseConfig,
    "low_rank": lambda **changes: low_rank.LowRankConfig(**{"dropout": 0.0, **changes}),
    "ia3": ia3.IA3Config,
    "prefix": prefix.PrefixConfig,
}


@pytest.fixture
def adapt() -> Callable[..., list[MethodComponent]]:
    """``adapt(model, rank=4, low_rank={...}, prefix={...})`` attaches and returns the parts."""

    def make(
        model: Any, *, rate: float | None = None, new: list[str] | None = None, **changes: Any
    ) -> list[MethodComponent]:
        nodes = {name: PARTS[name](**changes.pop(name)) for name in PARTS if name in changes}
        method = MethodConfig(name="test", **nodes, **changes)
        parts = build_components(method, rate)
        attach_components(parts, model, head_of(model) if new is None else new)
        return parts

    return make
