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
from bertft.models.source import Source, local_folder

__all__ = ["MOST_LABELS", "check_size", "check_stated"]

MOST_LABELS = 200_000
_MOST_LAYERS = 1_000
_LAYERS = re.compile(r"(^|_)n?_?(layers?|blocks|hidden_groups|experts)$")
_LARGEST = (1 << 31) - 1
_TYPES: dict[str, type] = {"id2label": dict, "label2id": dict, "problem_type": str}
_PROBLEM_TYPES = ("regression", "single_label_classification", "multi_label_classification")
_ROWS = (
    "vocab_size", "max_position_embeddings", "type_vocab_size", "num_labels", "position_buckets",
    "max_relative_positions", "entity_vocab_size",
)  # fmt: skip
_SLACK = 100_000_000  # elements that may be stated and not stored: 400 MB


def check_stated(content: Mapping[str, Any], where: str) -> None:
    """UsageError for an entry of another type than it has, or a number that no encoder has."""
    for name, kind in _TYPES.items():
        if not isinstance(content.get(name), (kind, type(None))):
            raise _invalid(name, content[name], where)
    problem = content.get("problem_type")
    if problem is not None and problem not in _PROBLEM_TYPES:
        raise _invalid("problem_type", problem, where, f"It can be {', '.join(_PROBLEM_TYPES)}")
    quantised = content.get("quantization_config")
    if quantised:
        method = quantised.get("quant_method") if isinstance(quantised, Mapping) else None
        raise UsageError(
            f"its weights are quantised{f' ({method})'[:60] if method else ''}, which is not"
            " supported", where=where, hint="Use the model as it was before it was quantised",
        )  # fmt: skip
    heads = content.get("architectures")
    if heads is not None and not (
        isinstance(heads, list) and all(isinstance(each, str) for each in heads)
    ):
        raise _invalid("architectures", heads, where)
    for name, value in content.items():
        if type(value) is not int or name == "transformers_version":
            continue
        most = _MOST_LAYERS if _LAYERS.search(name) else _LARGEST
        most = MOST_LABELS if name == "num_labels" else most
        if abs(value) > most:
            raise _invalid(name, value, where, f"The largest value is {most:,}")
    if len(content.get("id2label") or {}) > MOST_LABELS:
        raise UsageError(f"id2label has more than {MOST_LABELS:,} labels", where=where)


def _invalid(name: str, value: Any, where: str, hint: str | None = None) -> UsageError:
    return UsageError(
        invalid_entry(name, value), where=where, hint=hint or "Was config.json edited?"
    )


def check_size(config: Any, source: Source) -> None:
    """UsageError where ``config`` states far more weights than the files of a local folder hold."""
    folder = local_folder(source)
    if folder is None:
        return
    stored = sum(file.stat().st_size for file in folder.glob("*.safetensors"))

    def stated(name: str) -> int:
        value = getattr(config, name, None)
        return value if type(value) is int and value > 0 else 1

    width = stated("hidden_size")
    narrow = min(width, stated("embedding_size")) if hasattr(config, "embedding_size") else width
    layer = width * max(width, stated("intermediate_size"))
    count = max(map(stated, _ROWS)) * narrow + stated("num_hidden_layers") * layer
    if count > _SLACK + 8 * stored:  # 8: layers may share their weights
        raise UsageError(
            f"config.json states about {count:,} weights, and the files hold {stored:,} bytes",
            where=f"model.path={source.name}",
            hint="Its config.json and weights belong to different models",
        )
