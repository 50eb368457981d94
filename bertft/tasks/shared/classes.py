"""Class names and their numbers: the order of the names is the order of the logits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bertft.config.messages import did_you_mean, quote_value
from bertft.data.bad_rows import RowError
from bertft.data.classes import are_placeholder_names
from bertft.data.labels import to_class_name
from bertft.errors import DataError, UsageError

__all__ = ["check_class_names", "class_numbers", "classification_head_config", "class_names_in_config"]


def check_class_names(labels: Sequence[str] | None, task: str) -> list[str]:
    """The names as a list. UsageError where there are none or one stands twice."""
    names = list(labels or [])
    repeated = sorted(name for name, count in Counter(names).items() if count > 1)
    if not names or repeated:
        raise UsageError(
            f"{task} needs class names" if not names else f"class names stand twice: {repeated}",
            where="data.labels",
            hint="Name each class once, in order, or null to take those of the training rows",
        )
    return names


def class_numbers(labels: Sequence[Any], names: Sequence[str]) -> np.ndarray:
    """int64 [rows]. DataError for a label that is none of the names."""
    numbers = {name: number for number, name in enumerate(names)}
    try:
        return np.fromiter((numbers[str(label)] for label in labels), np.int64, len(labels))
    except KeyError as error:
        unknown = str(error.args[0])
        raise DataError(
            f"{quote_value(unknown)} is none of the {len(names)} classes",
            where="data.label",
            hint=did_you_mean(unknown, names),
        ) from None


def classification_head_config(names: Sequence[str], problem_type: str) -> dict[str, Any]:
    """What the transformers config says of the head."""
    return {
        "num_labels": len(names),
        "id2label": dict(enumerate(names)),
        "label2id": {name: number for number, name in enumerate(names)},
        "problem_type": problem_type,
    }


def class_names_in_config(model_config: Mapping[str, Any]) -> list[str]:
    """The names in a transformers config, in order; where it has none, transformers' two.

    They are those of ``id2label``; of ``label2id`` where ``id2label`` has transformers'
    placeholders. UsageError where they do not name each output once, or contradict each other.
    """
    names = model_config.get("id2label") or {0: "LABEL_0", 1: "LABEL_1"}
    try:
        numbers = {int(key): _stated_name(name) for key, name in names.items()}
    except (AttributeError, TypeError, ValueError):
        numbers = {}
    if sorted(numbers) != list(range(len(names))):
        raise UsageError(
            "id2label does not name the outputs 0, 1, 2, ...", where="config.json",
            hint="Each key is the number of an output, each value its name",
        )  # fmt: skip
    found = [numbers[number] for number in range(len(numbers))]
    twice, count = Counter(found).most_common(1)[0]
    if count > 1:
        raise UsageError(
            f"id2label gives several outputs the name {quote_value(twice)}", where="config.json",
            hint="Give each output a name of its own there",
        )  # fmt: skip
    return _agreed(found, model_config.get("label2id"))


def _agreed(names: list[str], stated: Any) -> list[str]:
    """``names``, or those of ``stated``, a label2id, where ``names`` are placeholders."""
    if not isinstance(stated, Mapping):
        return names
    try:
        places = {_stated_name(name): int(number) for name, number in stated.items()}
    except (TypeError, ValueError):
        return names
    if are_placeholder_names(names):
        others = sorted(places, key=lambda name: places[name])
        whole = [places[name] for name in others] == list(range(len(names)))
        return others if whole else names
    for number, name in enumerate(names):
        other = places.get(name, number)
        if other != number:
            raise UsageError(
                f"id2label calls output {number} {quote_value(name)}, but label2id gives that name to"
                f" output {other}", where="config.json",
                hint="Correct the one that is wrong: it decides what every answer means",
            )  # fmt: skip
    return names


def _stated_name(value: Any) -> str:
    """ValueError for what is no name: null, a list, empty text."""
    try:
        name = to_class_name(value)
    except RowError as error:
        raise ValueError(error.detail) from None
    if name is None:
        raise ValueError("the name of an output is empty")
    return name
