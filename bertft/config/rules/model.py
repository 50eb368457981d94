"""A model that nothing describes, or two things do."""

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
            f"{architecture!r} is no group of settings",
            "As in model.architecture.hidden_size=64",
        )
        return
    if weights == "pretrained":
        if architecture:
            yield Problem(
                "model.architecture",
                "cannot change a pretrained model",
                "Add model.weights=random, or leave it out",
            )
        if get("model.path") is None:
            yield Problem(
                "model.path",
                "is missing: pretrained weights need it",
                "Give a folder or a Hub id, or choose a preset with model=",
            )
    elif get("model.path") is None:
        if not (architecture or {}).get("model_type"):
            yield Problem(
                "model.architecture.model_type",
                "is missing: without model.path it says what to build",
                "Try model=tiny",
            )
        if get("model.tokenizer") is None:
            yield Problem(
                "model.tokenizer",
                "is missing: without model.path there is none",
                "Give a folder or a Hub id",
            )


MODEL_RULES = (_check_model,)
