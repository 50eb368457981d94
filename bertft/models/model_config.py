"""Read the architecture of a model from its ``config.json``, and check it.

A config also records choices of the program that saved it: outputs, attention kernel, number
format. They are not properties of the model, and bertft ignores them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bertft.errors import UsageError
from bertft.models.source import ModelSource, local_model_folder
from bertft.utils.messages import invalid_entry

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase

__all__ = [
    "MAX_LABELS",
    "check_config_values",
    "check_stated_size",
    "check_vocabulary",
    "max_input_length",
    "read_model_config",
]


MAX_LABELS = 200_000
_MAX_LAYERS = 1_000
_LAYER_COUNT_KEY = re.compile(r"(^|_)n?_?(layers?|blocks|hidden_groups|experts)$")
_MAX_INTEGER = (1 << 31) - 1
_ENTRY_TYPES: dict[str, type] = {"id2label": dict, "label2id": dict, "problem_type": str}
_PROBLEM_TYPES = ("regression", "single_label_classification", "multi_label_classification")
_TABLE_SIZE_KEYS = (
    "vocab_size",
    "max_position_embeddings",
    "type_vocab_size",
    "num_labels",
    "position_buckets",
    "max_relative_positions",
    "entity_vocab_size",
)
_ALLOWED_UNSTORED = 100_000_000  # elements that may be stated and not stored: 400 MB


def check_config_values(content: Mapping[str, Any], where: str) -> None:
    """UsageError for an entry of the wrong type, or a number that is too large for an encoder."""
    for name, expected_type in _ENTRY_TYPES.items():
        if not isinstance(content.get(name), (expected_type, type(None))):
            raise _invalid_entry_error(name, content[name], where)
    problem = content.get("problem_type")
    if problem is not None and problem not in _PROBLEM_TYPES:
        raise _invalid_entry_error(
            "problem_type", problem, where, f"Use one of {', '.join(_PROBLEM_TYPES)}"
        )
    quantized = content.get("quantization_config")
    if quantized:
        method = quantized.get("quant_method") if isinstance(quantized, Mapping) else None
        raise UsageError(
            f"its weights are quantized{f' ({method})'[:60] if method else ''}, which is not"
            " supported",
            where=where,
            hint="Use the original model",
        )
    architectures = content.get("architectures")
    if architectures is not None and not (
        isinstance(architectures, list)
        and all(isinstance(architecture, str) for architecture in architectures)
    ):
        raise _invalid_entry_error("architectures", architectures, where)
    for name, value in content.items():
        if type(value) is not int or name == "transformers_version":
            continue
        largest = _MAX_LAYERS if _LAYER_COUNT_KEY.search(name) else _MAX_INTEGER
        largest = MAX_LABELS if name == "num_labels" else largest
        if abs(value) > largest:
            raise _invalid_entry_error(name, value, where, f"The largest value is {largest:,}")
    if len(content.get("id2label") or {}) > MAX_LABELS:
        raise UsageError(
            f"id2label has more than {MAX_LABELS:,} labels",
            where=where,
            hint="Restore the original config.json",
        )


def _invalid_entry_error(name: str, value: Any, where: str, hint: str | None = None) -> UsageError:
    return UsageError(
        invalid_entry(name, value), where=where, hint=hint or "Restore the original config.json"
    )


def check_stated_size(config: PreTrainedConfig, source: ModelSource) -> None:
    """UsageError if ``config`` states far more weights than the files of a local folder contain."""
    folder = local_model_folder(source)
    if folder is None:
        return
    stored_bytes = sum(file.stat().st_size for file in folder.glob("*.safetensors"))

    def stated_value(name: str) -> int:
        value = getattr(config, name, None)
        return value if type(value) is int and value > 0 else 1

    width = stated_value("hidden_size")
    embedding_width = (
        min(width, stated_value("embedding_size")) if hasattr(config, "embedding_size") else width
    )
    layer_weights = width * max(width, stated_value("intermediate_size"))
    stated_weights = (
        max(map(stated_value, _TABLE_SIZE_KEYS)) * embedding_width
        + stated_value("num_hidden_layers") * layer_weights
    )
    if stated_weights > _ALLOWED_UNSTORED + 8 * stored_bytes:  # 8: layers may share their weights
        raise UsageError(
            f"config.json states about {stated_weights:,} weights, but the files contain"
            f" {stored_bytes:,} bytes",
            where=f"model.path={source.name}",
            hint="Its config.json and weights belong to different models",
        )


RUNTIME_KEYS = (
    "output_attentions",
    "output_hidden_states",
    "return_dict",
    "use_return_dict",
    "use_cache",
    "torchscript",
    "torch_dtype",
    "dtype",
    "use_bfloat16",
    "chunk_size_feed_forward",
    "gradient_checkpointing",
    "reference_compile",
    "attn_implementation",
    "_attn_implementation",
    "_attn_implementation_internal",
    "attn_implementation_internal",
    "experts_implementation",
    "_experts_implementation",
    "_experts_implementation_internal",
    "quantization_config",
)


def read_model_config(
    source: ModelSource, trust_remote_code: bool = False, **settings: Any
) -> PreTrainedConfig:
    """The transformers config of ``source``, with ``settings`` instead of its own.

    ``_commit_hash`` is the commit of a Hub model. Raises the errors of transformers.
    """
    from transformers import AutoConfig, PreTrainedConfig
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    revision = source.revision if source.kind == "hub" else None
    content, _ = PreTrainedConfig.get_config_dict(source.load, revision=revision)
    check_config_values(content, f"{source.name}/config.json")
    model_type = content.get("model_type")
    if (
        (trust_remote_code and "auto_map" in content)
        or model_type is None
        or model_type not in CONFIG_MAPPING
    ):
        config = AutoConfig.from_pretrained(
            source.load, revision=revision, trust_remote_code=trust_remote_code, **settings
        )
    else:
        architecture = {name: value for name, value in content.items() if name not in RUNTIME_KEYS}
        if model_type == "big_bird":
            # BigBird switches from sparse to full attention at the first short batch, and stays
            # there: results would depend on earlier rows.
            architecture["attention_type"] = "original_full"
        config = CONFIG_MAPPING[model_type].from_dict(
            architecture, name_or_path=source.load, **settings
        )
    if source.kind == "hub":
        folder = local_model_folder(source)  # the snapshot in the cache is named by its commit
        if folder is not None and re.fullmatch("[0-9a-f]{40}", folder.name):
            config._commit_hash = folder.name
    return config


def check_vocabulary(
    config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase | None, where: str
) -> None:
    """UsageError if the tokenizer has ids without a row in the embedding."""
    embedding_rows = getattr(config, "vocab_size", None)
    if not isinstance(embedding_rows, int) or tokenizer is None:
        return
    vocabulary = tokenizer.get_vocab()
    missing_tokens = sorted(
        token for token, token_id in vocabulary.items() if token_id >= embedding_rows
    )
    if missing_tokens:
        examples = ", ".join(repr(token[:40]) for token in missing_tokens[:3])
        raise UsageError(
            f"the tokenizer has {len(missing_tokens):,}"
            f" {'token whose id is' if len(missing_tokens) == 1 else 'tokens whose ids are'} beyond"
            f" the {embedding_rows:,} rows of the model's embedding"
            f" ({examples}{', …' if len(missing_tokens) > 3 else ''})",
            where=where,
            hint="Set model.tokenizer to the tokenizer that the model was trained with, or enlarge"
            f" the model in Python: model.resize_token_embeddings({max(vocabulary.values()) + 1}),"
            " then save_pretrained",
        )


# Architectures whose positions start after that of padding.
_POSITIONS_AFTER_PADDING = (
    "roberta",
    "xlm-roberta",
    "camembert",
    "xlm-roberta-xl",
    "roberta-prelayernorm",
    "data2vec-text",
)


def max_input_length(config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase) -> int:
    """The maximum number of tokens per input, special tokens included."""
    limit = getattr(config, "max_position_embeddings", None) or 0
    limit = limit if limit > 0 else 10**9  # XLNet has -1: no limit
    if config.model_type in _POSITIONS_AFTER_PADDING:
        limit -= (config.pad_token_id or 0) + 1
    elif config.model_type == "mpnet":  # for any id of its pad token
        limit -= 2
    tokenizer_limit = tokenizer.model_max_length
    # A folder with only a vocabulary has 1e30; folders of sentence-transformers have the length of
    # their training, which is not a limit of the model.
    return int(
        limit if tokenizer_limit > limit or tokenizer_limit < 512 <= limit else tokenizer_limit
    )
