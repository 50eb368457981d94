"""A base model with its task head and the parts of a method, placed and ready to run.

    load base → attach parts → cast what is frozen → runner

Built the same way whether it is about to train or was read back from a checkpoint, so that what
is evaluated later is what was trained.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from bertft.config.model import ModelConfig
from bertft.errors import DataError, UsageError
from bertft.methods import attach_components, build_components, trained_tensors
from bertft.methods.base import NewModules
from bertft.methods.component import MethodComponent
from bertft.models.dropout import replace_dropout
from bertft.models.head import align_head, brings_head
from bertft.models.loading import load_config, load_model, output_layer
from bertft.models.precision import Precision
from bertft.models.runner import EncoderRunner
from bertft.models.source import ModelSource
from bertft.pipeline.batch_invariance import check_batch_invariance
from bertft.tasks.task import BaseTask

__all__ = ["TaskModel", "build_task_model", "load_trained_weights", "resolve_source"]


@dataclass
class TaskModel:
    """``source`` is the base's; ``components`` are attached to ``model``, which ``runner`` runs.

    ``head_note``: what was done with a trained head of the base; empty: it has none.
    ``randomly_initialized`` names parameters that the base had no weights for, ``left_out`` weights
    of its head that the model has no place for.
    """

    task: BaseTask
    tokenizer: Any
    model: Any
    components: Sequence[MethodComponent]
    runner: EncoderRunner
    precision: Precision
    source: ModelSource
    head_note: str = ""
    randomly_initialized: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()

    @property
    def new_parameters(self) -> set[str]:
        """Names of the parameters that the base did not have."""
        return {
            name
            for part in self.components
            if isinstance(part, NewModules)
            for name in part.new_parameters
        }

    def count_parameters(self) -> dict[str, Any]:
        """Parameters of the base, and of each part: trainable, kept after pruning, exported."""
        parts = {part.name: part.parameter_counts(self.model) for part in self.components}
        head = parts["head"]["trainable"] if "head" in parts else 0
        excluded = {"head", "base", *(part.name for part in self.components if part.training_only)}
        added = sum(each["trainable"] for name, each in parts.items() if name not in excluded)
        total = sum(parameter.numel() for parameter in self.model.parameters())
        sums = {
            key: sum(each[key] for each in parts.values())
            for key in ("trainable", "kept", "exported")
        }
        return {
            "total": total,
            "base": total - added - head,
            "trainable": sums["trainable"],
            "head": head,
            "method": sums["trainable"] - head,
            "kept": sums["kept"] - head,
            "exported": sums["exported"] - head,
            "parts": parts,
        }

    def fold(self) -> int:
        """Fold what every part adds, and the temperature, into the weights; how many matrices."""
        self.fold_temperature()
        return sum(part.fold(self.model) for part in self.components)

    def fold_temperature(self) -> None:
        """Divide the head's last layer by the temperature instead of the logits."""
        if self.runner.temperature is None:
            return
        last = output_layer(self.model)
        with torch.no_grad():
            last.weight.div_(self.runner.temperature)
            if last.bias is not None:
                last.bias.div_(self.runner.temperature)
        self.runner.temperature = None


def build_task_model(
    source: ModelSource,
    settings: ModelConfig,
    method: Any,
    task: BaseTask,
    tokenizer: Any,
    precision: Precision,
    *,
    layout: str = "auto",
    learning_rate: float | None = None,
    weights: Mapping[str, Tensor] | None = None,
    gradient_checkpointing: bool = False,
    compiled: bool = False,
    base_classes: Callable[[], Sequence[str]] | None = None,
) -> TaskModel:
    """Load ``source``, attach the parts of ``method``, fill in trained ``weights`` where given.

    What is new is drawn from torch's generator: seed it before. ``base_classes`` gives the
    classes of the base's own head, which becomes one for those of ``task``; None: it is taken as it
    is.
    """
    model_settings = resolve_source(settings, source)
    config, _ = load_config(model_settings, tokenizer, task.head_config())
    loaded = load_model(model_settings, config, source, task.auto_class, task.trains_new_head)
    model: Any = loaded.model
    check_batch_invariance(model, tokenizer, task.level, task.reads_pairs)
    head_note = ""
    if base_classes is not None and task.aligns_base_head:
        head_note = align_head(
            loaded, base_classes() if brings_head(loaded) else [], task.class_names
        )
    replace_dropout(model)
    components = build_components(method, learning_rate, loaded.new_parameters)
    attach_components(components, model)
    if weights is not None:
        load_trained_weights(model, weights)
    if gradient_checkpointing:
        _enable_gradient_checkpointing(model)
    precision.place_model(model, any(part.trains_base for part in components))
    runner = EncoderRunner(model, task.level, layout)
    if compiled:
        runner.compile(precision.device)
    return TaskModel(
        task,
        tokenizer,
        model,
        components,
        runner,
        precision,
        source,
        head_note,
        tuple(loaded.initialized_parameters),
        tuple(loaded.left_out),
    )


def resolve_source(settings: ModelConfig, source: ModelSource) -> ModelConfig:
    """``settings`` as they load ``source``, whatever name it was asked for by."""
    return replace(
        settings, path=source.load, revision=source.revision, weights="pretrained", architecture={}
    )


def load_trained_weights(model: Any, weights: Mapping[str, Tensor]) -> None:
    """Copy ``weights`` into what trains of ``model``. DataError unless names and shapes agree."""
    expected = trained_tensors(model)
    missing, unexpected = expected.keys() - weights.keys(), weights.keys() - expected.keys()
    for kind, names in (("lacks", missing), ("has an unknown", unexpected)):
        if names:
            raise DataError(
                f"the checkpoint {kind} {', '.join(sorted(names)[:3])}",
                hint="Was it written by another version, or for another base?",
            )
    for name, tensor in expected.items():
        if tensor.shape != weights[name].shape:
            raise DataError(
                f"{name} has shape {list(weights[name].shape)}, not {list(tensor.shape)}",
                hint="Was the checkpoint written for another base?",
            )
        with torch.no_grad():
            tensor.copy_(weights[name])


def _enable_gradient_checkpointing(model: Any) -> None:
    """Recompute activations in the backward pass; re-entrant recomputation would be wrong here."""
    enable = getattr(model, "activation_checkpointing_enable", None)
    try:
        (enable or model.gradient_checkpointing_enable)({"use_reentrant": False})
    except ValueError as error:
        raise UsageError(
            f"a {model.config.model_type} model cannot do it",
            where="trainer.gradient_checkpointing",
            hint="Lower trainer.micro_batch instead",
        ) from error
