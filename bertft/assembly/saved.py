"""A model that was opened from a folder, and what each way of opening it checks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bertft.assembly.adapted import Adapted
from bertft.assembly.adapter import is_adapter
from bertft.assembly.calibrate import as_threshold
from bertft.assembly.checkpoint import Facts
from bertft.config.commands import TrainConfig
from bertft.config.data import DataConfig
from bertft.data.classes import placeholders
from bertft.errors import DataError, UsageError
from bertft.models.finite import first_non_finite
from bertft.models.load import longest_input
from bertft.runs.folder import RunFolder
from bertft.tasks.shared.encoding import check_max_length
from bertft.tasks.task import BaseTask, Threshold

__all__ = ["Saved", "not_finite", "of_folder"]


@dataclass
class Saved:
    """``data`` says how rows were read (of a plain folder: the defaults of files).

    ``run``, ``config`` and ``checkpoint`` are None for a folder that is no run; ``folder`` is that
    folder, or the run's. ``calibration``: what was fitted to the checkpoint of a run, as its
    metrics.json has it. ``threshold``: the one that was tuned, which decides.
    """

    adapted: Adapted
    data: DataConfig
    facts: Facts
    folder: Path
    run: RunFolder | None = None
    config: TrainConfig | None = None
    checkpoint: Path | None = None
    calibration: dict[str, Any] | None = None
    threshold: Threshold | None = None

    @property
    def adapter(self) -> bool:
        """Whether it is an adapter's folder, with the base beside it."""
        return self.run is None and is_adapter(self.folder)

    @property
    def unnamed_tags(self) -> str:
        """What to say of a head for tags that the folder does not name; empty where it does."""
        if self.adapted.task.level != "token" or not placeholders(self.facts.labels or []):
            return ""
        return (
            f"{self.folder} calls the tags of its head LABEL_0, LABEL_1, ...: nothing says which of"
            " them is outside of entities"
        )

    @property
    def answering(self) -> dict[str, Any]:
        """The settings of ``data`` that the answers depend on."""
        return {name: getattr(self.data, name) for name in self.adapted.task.answer_settings}


def of_folder(
    folder: Path,
    adapted: Adapted,
    data: DataConfig,
    labels: list[str] | None,
    max_length: int | None,
    threshold: tuple[Any, Path],
) -> Saved:
    """What was opened from a folder that is no run, once its weights are known to be finite.

    ``max_length`` and ``threshold`` are what the folder tells, the latter with the file that does.
    """
    name = not_finite(adapted.model)
    if name is not None:
        raise DataError(f"{name} is not finite", where=str(folder))
    adapted.model.eval()
    taken = sum(part.positions for part in adapted.parts)
    most = longest_input(adapted.model.config, adapted.tokenizer) - taken
    if data.max_length is None and max_length is not None and max_length > most:
        raise DataError(
            f"max_length is {max_length:,}, and the model takes {most:,} tokens",
            where=str(folder / "bertft.json"), hint="Was it edited?",
        )  # fmt: skip
    longest = check_max_length(data.max_length or max_length, most, adapted.task.default_max_length)
    facts = Facts(adapted.task.name, labels, longest, 0)
    return Saved(adapted, data, facts, folder, threshold=_decided(adapted.task, *threshold))


def _decided(task: BaseTask, told: Any, file: Path) -> Threshold | None:
    """Let ``task`` decide by the threshold that ``file`` tells, if it tells one."""
    threshold = as_threshold(told, str(file))
    if threshold is not None:
        try:
            task.decide_by(threshold)
        except UsageError as error:
            raise UsageError(error.what, where=str(file), hint=error.hint) from error
    return threshold


def not_finite(model: torch.nn.Module) -> str | None:
    """The name of a weight with NaN or infinity, with which every answer would be NaN."""
    return first_non_finite(dict(model.named_parameters()))
