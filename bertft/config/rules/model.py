"""Rules of ``model``."""

from __future__ import annotations

from collections.abc import Iterator

from bertft.config.schema import GetSetting
from bertft.utils.messages import Problem

__all__ = ["MODEL_RULES"]


def _check_model(get: GetSetting) -> Iterator[Problem]:
    architecture, weights = get("model.architecture"), get("model.weights")
    if architecture is not None and not isinstance(architecture, dict):
        yield Problem(
            "model.architecture",
            f"{architecture!r} is not a group of settings",
            "Write model.architecture.hidden_size=64",
        )
        return
    if weights == "pretrained":
        if architecture:
            yield Problem(
                "model.architecture",
                "is not supported by model.weights=pretrained",
                "Leave it out, or set model.weights=random",
            )
        if get("model.path") is None:
            yield Problem(
                "model.path",
                "is missing: pretrained weights need it",
                "Set it to a folder or Hub id, or select a preset with model=",
            )
    elif get("model.path") is None:
        if not (architecture or {}).get("model_type"):
            yield Problem(
                "model.architecture.model_type",
                "is missing: it is required without model.path",
                "Try model=tiny",
            )
        if get("model.tokenizer") is None:
            yield Problem(
                "model.tokenizer",
                "is missing: it is required without model.path",
                "Set it to a folder or Hub id",
            )


MODEL_RULES = (_check_model,)
