"""The architecture that a folder's ``config.json`` describes, without the way it was last run.

A config also records choices of the program that saved it: which outputs it wanted, which attention
kernel, which number format. They are no part of the model, and bertft makes them itself.
"""

from __future__ import annotations

import re
from typing import Any

from bertft.errors import UsageError
from bertft.models.source import ModelSource, local_model_folder
from bertft.models.stated import check_config_values

__all__ = ["check_vocabulary", "read_model_config"]

RUNTIME_KEYS = (
    "output_attentions", "output_hidden_states", "return_dict", "use_return_dict", "use_cache",
    "torchscript", "torch_dtype", "dtype", "use_bfloat16", "chunk_size_feed_forward",
    "gradient_checkpointing", "reference_compile", "attn_implementation", "_attn_implementation",
    "_attn_implementation_internal", "attn_implementation_internal", "experts_implementation",
    "_experts_implementation", "_experts_implementation_internal", "quantization_config",
)  # fmt: skip


def read_model_config(source: ModelSource, trust_remote_code: bool = False, **settings: Any) -> Any:
    """The transformers config of ``source``, with ``settings`` in place of its own.

    Of a Hub model, ``_commit_hash`` is the commit that it came from. Raises what transformers does.
    """
    from transformers import AutoConfig, PreTrainedConfig
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    revision = source.revision if source.kind == "hub" else None
    content, _ = PreTrainedConfig.get_config_dict(source.load, revision=revision)
    check_config_values(content, f"{source.name}/config.json")
    model_type = content.get("model_type")
    if (trust_remote_code and "auto_map" in content) or model_type is None or model_type not in CONFIG_MAPPING:
        config = AutoConfig.from_pretrained(
            source.load, revision=revision, trust_remote_code=trust_remote_code, **settings
        )
    else:
        architecture = {name: value for name, value in content.items() if name not in RUNTIME_KEYS}
        if model_type == "big_bird":
            # Sparse attention is given up for good at the first short batch: a row's result would
            # depend on those before it.
            architecture["attention_type"] = "original_full"
        config = CONFIG_MAPPING[model_type].from_dict(
            architecture, name_or_path=source.load, **settings
        )  # fmt: skip
    if source.kind == "hub":
        folder = local_model_folder(source)  # the snapshot in the cache is named by its commit
        if folder is not None and re.fullmatch("[0-9a-f]{40}", folder.name):
            config._commit_hash = folder.name
    return config


def check_vocabulary(config: Any, tokenizer: Any, where: str) -> None:
    """UsageError where the tokenizer has ids for which the embedding has no row."""
    embedding_rows = getattr(config, "vocab_size", None)
    if not isinstance(embedding_rows, int) or tokenizer is None:
        return
    vocabulary = tokenizer.get_vocab()
    missing_tokens = sorted(token for token, token_id in vocabulary.items() if token_id >= embedding_rows)
    if missing_tokens:
        examples = ", ".join(repr(token[:40]) for token in missing_tokens[:3])
        raise UsageError(
            f"the tokenizer has {len(missing_tokens):,} {'token' if len(missing_tokens) == 1 else 'tokens'} for"
            f" which the model's embedding of {embedding_rows:,} rows has none"
            f" ({examples}{', …' if len(missing_tokens) > 3 else ''})",
            where=where,
            hint="Name the tokenizer that the model was trained with as model.tokenizer, or enlarge"
            f" the model in Python: model.resize_token_embeddings({max(vocabulary.values()) + 1}),"
            " then save_pretrained",
        )
