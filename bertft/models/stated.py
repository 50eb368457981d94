"""What ``config.json`` states, looked at before a library acts on it.

transformers makes a list of as many layers, and a table of as many labels, as the file states; what
the file of weights lacks is drawn at random in the stated size. A file of a few bytes must not be
able to fill the memory or keep the machine busy.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from bertft.config.messages import invalid_entry
from bertft.errors import UsageError
from bertft.models.source import ModelSource, local_model_folder

__all__ = ["MAX_LABELS", "check_stated_size", "check_config_values"]

MAX_LABELS = 200_000
_MAX_LAYERS = 1_000
_LAYER_COUNT_KEY = re.compile(r"(^|_)n?_?(layers?|blocks|hidden_groups|experts)$")
_MAX_INTEGER = (1 << 31) - 1
_ENTRY_TYPES: dict[str, type] = {"id2label": dict, "label2id": dict, "problem_type": str}
_PROBLEM_TYPES = ("regression", "single_label_classification", "multi_label_classification")
_TABLE_SIZE_KEYS = (
    "vocab_size", "max_position_embeddings", "type_vocab_size", "num_labels", "position_buckets",
    "max_relative_positions", "entity_vocab_size",
)  # fmt: skip
_ALLOWED_UNSTORED = 100_000_000  # elements that may be stated and not stored: 400 MB


def check_config_values(content: Mapping[str, Any], where: str) -> None:
    """UsageError for an entry of another type than it has, or a number that no encoder has."""
    for name, expected_type in _ENTRY_TYPES.items():
        if not isinstance(content.get(name), (expected_type, type(None))):
            raise _invalid_entry_error(name, content[name], where)
    problem = content.get("problem_type")
    if problem is not None and problem not in _PROBLEM_TYPES:
        raise _invalid_entry_error("problem_type", problem, where, f"It can be {', '.join(_PROBLEM_TYPES)}")
    quantised = content.get("quantization_config")
    if quantised:
        method = quantised.get("quant_method") if isinstance(quantised, Mapping) else None
        raise UsageError(
            f"its weights are quantised{f' ({method})'[:60] if method else ''}, which is not"
            " supported", where=where, hint="Use the model as it was before it was quantised",
        )  # fmt: skip
    architectures = content.get("architectures")
    if architectures is not None and not (
        isinstance(architectures, list) and all(isinstance(architecture, str) for architecture in architectures)
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
        raise UsageError(f"id2label has more than {MAX_LABELS:,} labels", where=where)


def _invalid_entry_error(name: str, value: Any, where: str, hint: str | None = None) -> UsageError:
    return UsageError(
        invalid_entry(name, value), where=where, hint=hint or "Was config.json edited?"
    )


def check_stated_size(config: Any, source: ModelSource) -> None:
    """UsageError where ``config`` states far more weights than the files of a local folder hold."""
    folder = local_model_folder(source)
    if folder is None:
        return
    stored_bytes = sum(file.stat().st_size for file in folder.glob("*.safetensors"))

    def stated_value(name: str) -> int:
        value = getattr(config, name, None)
        return value if type(value) is int and value > 0 else 1

    width = stated_value("hidden_size")
    embedding_width = min(width, stated_value("embedding_size")) if hasattr(config, "embedding_size") else width
    layer_weights = width * max(width, stated_value("intermediate_size"))
    stated_weights = max(map(stated_value, _TABLE_SIZE_KEYS)) * embedding_width + stated_value("num_hidden_layers") * layer_weights
    if stated_weights > _ALLOWED_UNSTORED + 8 * stored_bytes:  # 8: layers may share their weights
        raise UsageError(
            f"config.json states about {stated_weights:,} weights, and the files hold {stored_bytes:,} bytes",
            where=f"model.path={source.name}",
            hint="Its config.json and weights belong to different models",
        )
