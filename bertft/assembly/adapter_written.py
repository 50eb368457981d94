"""Write what a run added to its base as an adapter in peft's format (see ``assembly.adapter``)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from bertft.assembly.adapted import Adapted
from bertft.assembly.adapter import CONFIG, OWN, TASK_TYPES, WEIGHTS
from bertft.assembly.saved import Saved
from bertft.config.tasks import in_words
from bertft.errors import UsageError
from bertft.methods.peft_format import PREFIX
from bertft.models.load import head_parameters
from bertft.models.wrapper import plain_path
from bertft.runs.atomic import write_json
from bertft.runs.tensors import write_tensors

__all__ = ["write_adapter"]


def write_adapter(folder: Path, saved: Saved) -> dict[str, Tensor]:
    """Write the three files; the tensors. UsageError for a method that peft's format cannot hold.

    A temperature must be folded before.
    """
    adapted = saved.adapted
    for part in adapted.parts:
        if not part.foldable:
            raise UsageError(
                f"the run has a {part.name} beside, which an adapter in peft's format cannot hold",
                where="run",
                hint="bertft merge prefix=beside keeps both",
            )
        if part.trains_base:
            raise UsageError(
                f"the run trained weights of the base itself ({part.name})", where="run",
                hint="bertft merge writes the whole model",
            )  # fmt: skip
    model = adapted.model
    settings, tensors = _adapter(adapted)
    new = {
        plain_path(name): each for name, each in model.named_parameters()
        if each.requires_grad and ".adapter." not in name
    }  # fmt: skip
    tensors |= {f"{PREFIX}{name}": each.detach().float().cpu() for name, each in new.items()}
    source = adapted.source
    write_json(
        folder / CONFIG,
        {
            # From wherever the adapter is loaded: a relative path would be taken for a Hub id.
            "base_model_name_or_path": source.load
            if source.kind == "hub"
            else os.path.abspath(source.load),
            "revision": source.revision if source.kind == "hub" else None,
            "task_type": TASK_TYPES.get(adapted.task.auto_class),
            "modules_to_save": _modules(new, head_parameters(model)),
            **settings,
        },
    )
    write_tensors(folder / WEIGHTS, tensors)
    facts: dict[str, Any] = {
        "task": adapted.task.name, "labels": saved.facts.labels,
        "max_length": saved.facts.max_length, "answering": saved.answering, "prefix": None,
    }  # fmt: skip
    if saved.threshold is not None:
        facts["threshold"] = saved.threshold
    write_json(folder / OWN, facts)
    return tensors


def _adapter(adapted: Adapted) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What the run's methods add, in peft's format. UsageError where that cannot hold it all."""
    adding = [each for each in adapted.parts if each.adapts_layers]
    if not adding:
        raise UsageError(
            "the run has no adapter: it trained the task head alone", where="run",
            hint="bertft merge writes the model itself",
        )  # fmt: skip
    written = {part.name: part.peft_adapter(adapted.model) for part in adding}
    for name, adapter in written.items():
        if adapter is None:
            raise UsageError(
                f"peft's format does not support {name}", where="run",
                hint="bertft merge writes the whole model",
            )  # fmt: skip
    if len(written) > 1:
        raise UsageError(
            f"peft's format holds one kind of adapter, and the run has {in_words(list(written))}",
            where="run", hint="bertft merge writes the whole model",
        )  # fmt: skip
    (only,) = written.values()
    assert only is not None
    return only


def _modules(new: Mapping[str, Any], head: Mapping[str, Any]) -> list[str]:
    """What peft shall save whole: children of the model for the head, else the modules alone."""
    return sorted({
        name.split(".")[0] if name in head else name.rpartition(".")[0] for name in new
    })  # fmt: skip
