"""A run's model with every part folded into its base: a plain transformers model, in fp32."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bertft.assembly.opened import open_model
from bertft.errors import UsageError

__all__ = ["load_merged_model"]


def load_merged_model(run: Path, trust_remote_code: bool) -> Any:
    """Of the run in ``run``, its best checkpoint. UsageError if it has a part that cannot
    fold, or needs code that comes with it and there is no ``trust_remote_code``."""
    loaded = open_model(
        str(run), precision="fp32", device="cpu", trust_remote_code=trust_remote_code,
        trust_setting="model.trust_remote_code",
    )  # fmt: skip
    for part in loaded.task_model.components:
        if not part.foldable:
            raise UsageError(
                f"the run {run} has a {part.name}, which no weights can hold", where="model.path",
                hint="Train on a run without one",
            )  # fmt: skip
    loaded.task_model.fold()
    return loaded.task_model.model
