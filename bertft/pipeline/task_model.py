"""A base model with a task head and the components of a method, on its device and ready to run.

    load the base → attach the components → cast frozen weights → runner

The same code builds the model for training and from a checkpoint, so that a later evaluation uses
the model that was trained.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from bertft.config.model import ModelConfig
from bertft.errors import DataError, UsageError
from bertft.methods import attach_components, trained_tensors
from bertft.methods.base import NewModules
from bertft.methods.component import MethodComponent
from bertft.models.dropout import replace_dropout
from bertft.models.head import align_head, has_trained_head
from bertft.models.loading import (
    LoadedEncoder,
    load_config,
    load_model,
    output_layer,
)
from bertft.models.model_config import max_input_length
from bertft.models.precision import Precision
from bertft.models.runner import EncoderRunner
from bertft.models.source import ModelSource
from bertft.pipeline.batch_invariance import check_batch_invariance
from bertft.pipeline.head_settings import HeadSettings
from bertft.tasks.shared.sequence_task import class_names_in_config
from bertft.tasks.task import BaseTask, detect_task
from bertft.utils.messages import format_list

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

__all__ = [
    "TaskModel",
    "build_task_model",
    "load_trained_weights",
    "longest_input",
    "resolve_source",
]


@dataclass
class TaskModel:
    """A model with its task, tokenizer and attached components.

    Attributes:
        runner: runs the forward pass of ``model``.
        source: where the base was loaded from.
        head_note: a message on how a trained head of the base is used; empty if it has none.
        randomly_initialized: names of parameters for which the base has no weights.
        left_out: names of weights of the base's head that the model does not have.
    """

    task: BaseTask
    tokenizer: PreTrainedTokenizerBase
    model: PreTrainedModel
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
            for component in self.components
            if isinstance(component, NewModules)
            for name in component.new_parameters
        }

    @property
    def max_input_length(self) -> int:
        """The longest input in tokens, special ones included."""
        return longest_input(self.model.config, self.tokenizer, self.components)

    @property
    def unfoldable_components(self) -> list[str]:
        """Names of the components that cannot be folded into the base weights."""
        return [component.name for component in self.components if not component.foldable]

    def count_parameters(self) -> dict[str, Any]:
        """Parameters of the base, and per component: trainable, kept after pruning, exported."""
        counts = {
            component.name: component.parameter_counts(self.model) for component in self.components
        }
        totals = {
            key: sum(count[key] for count in counts.values())
            for key in ("trainable", "kept", "exported")
        }
        head = counts["head"]["trainable"] if "head" in counts else 0
        not_added = {"head", "base"}
        not_added |= {component.name for component in self.components if component.training_only}
        added = sum(count["trainable"] for name, count in counts.items() if name not in not_added)
        total = sum(parameter.numel() for parameter in self.model.parameters())
        return {
            "total": total,
            "base": total - added - head,
            "trainable": totals["trainable"],
            "head": head,
            "method": totals["trainable"] - head,
            "kept": totals["kept"] - head,
            "exported": totals["exported"] - head,
            "parts": counts,
        }

    def fold(self) -> int:
        """Fold all components and the temperature; return the number of changed matrices."""
        self.fold_temperature()
        return sum(component.fold(self.model) for component in self.components)

    def fold_temperature(self) -> None:
        """Divide the last layer of the head by the temperature, instead of the logits."""
        if self.runner.temperature is None:
            return
        last = output_layer(self.model)
        with torch.no_grad():
            last.weight.div_(self.runner.temperature)
            if last.bias is not None:
                last.bias.div_(self.runner.temperature)
        self.runner.temperature = None


def longest_input(
    config: PreTrainedConfig,
    tokenizer: PreTrainedTokenizerBase,
    components: Sequence[MethodComponent],
) -> int:
    """The longest input in tokens, without the positions that components reserve."""
    reserved = sum(component.reserved_positions for component in components)
    return max_input_length(config, tokenizer) - reserved


def build_task_model(
    source: ModelSource,
    settings: ModelConfig,
    components: Sequence[MethodComponent],
    task: BaseTask,
    tokenizer: PreTrainedTokenizerBase,
    precision: Precision,
    *,
    model_config: PreTrainedConfig | None = None,
    layout: str = "auto",
    fused_layers: bool = True,
    weights: Mapping[str, Tensor] | None = None,
    gradient_checkpointing: bool = False,
    compiled: bool = False,
    base_config: Callable[[], Mapping[str, Any]] | None = None,
) -> TaskModel:
    """Load the base ``source`` and attach ``components``.

    New weights are drawn from torch's generator, which the caller seeds.

    Args:
        components: those of the method, not attached yet.
        model_config: the transformers config with the labels of ``task``; None: it is loaded.
        weights: trained weights of a checkpoint.
        base_config: returns the content of the base's config.json, which describes the head that
            is then aligned with ``task``; None: the head is not changed.
    """
    model_settings = resolve_source(settings, source)
    if model_config is None:
        model_config, _ = load_config(model_settings, tokenizer, task.head_config())
    loaded = load_model(model_settings, model_config, source, task.auto_class, task.trains_new_head)
    model = loaded.model
    check_batch_invariance(model, tokenizer, task.level, task.reads_pairs)
    head_note = ""
    if base_config is not None and task.needs_labels and has_trained_head(loaded):
        head_note = _align_with_task(loaded, base_config(), task)
    replace_dropout(model)
    attach_components(components, model, loaded.new_parameters)
    if weights is not None:
        load_trained_weights(model, weights)
    if gradient_checkpointing:
        _enable_gradient_checkpointing(model)
    precision.place_model(model, any(component.trains_base for component in components))
    runner = EncoderRunner(model, task.level, layout, fused_layers)
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


def _align_with_task(loaded: LoadedEncoder, base_config: Mapping[str, Any], task: BaseTask) -> str:
    """Keep the head of the base only where its outputs mean what those of ``task`` mean.

    ``align_head`` describes the result.
    """
    if not task.aligns_base_head and not loaded.left_out:
        return ""
    classes = class_names_in_config(base_config)
    return align_head(loaded, classes, task.class_names, _other_head(base_config, classes, task))


def _other_head(base_config: Mapping[str, Any], classes: Sequence[str], task: BaseTask) -> str:
    """What the head was trained for if it is not ``task``; empty if that is not recorded."""
    recorded = {"architectures": None, "problem_type": None, **base_config}
    recorded["architectures"] = recorded["architectures"] or [task.auto_class]
    recorded["problem_type"] = HeadSettings(task.name).problem_type(
        recorded["problem_type"], len(classes)
    )
    if task.matches_config(recorded):
        return ""
    try:
        return f"{detect_task(recorded)[0]}, not for {task.name}"
    except UsageError:
        return f"{format_list(recorded['architectures'], 3)}, not for {task.name}"


def resolve_source(settings: ModelConfig, source: ModelSource) -> ModelConfig:
    """A copy of ``settings`` that loads ``source``."""
    return replace(
        settings, path=source.load, revision=source.revision, weights="pretrained", architecture={}
    )


def load_trained_weights(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Copy ``weights`` into the trained tensors of ``model``.

    Raises DataError unless names and shapes agree.
    """
    expected = trained_tensors(model)
    missing, unexpected = expected.keys() - weights.keys(), weights.keys() - expected.keys()
    for problem, names in (("has no", missing), ("has an unknown", unexpected)):
        if names:
            raise DataError(
                f"the checkpoint {problem} {', '.join(sorted(names)[:3])}",
                hint="It may have been written by another version of bertft, or for another base",
            )
    for name, tensor in expected.items():
        if tensor.shape != weights[name].shape:
            raise DataError(
                f"{name} has shape {list(weights[name].shape)}, not {list(tensor.shape)}",
                hint="The checkpoint may have been written for another base",
            )
        with torch.no_grad():
            tensor.copy_(weights[name])


def _enable_gradient_checkpointing(model: Any) -> None:
    """Recompute activations in the backward pass.

    Without ``use_reentrant=False``, adapters whose inputs need no gradient would get none.
    """
    enable = getattr(model, "activation_checkpointing_enable", None)
    try:
        (enable or model.gradient_checkpointing_enable)({"use_reentrant": False})
    except ValueError as error:
        raise UsageError(
            f"a {model.config.model_type} model does not support gradient checkpointing",
            where="trainer.gradient_checkpointing",
            hint="Lower trainer.micro_batch instead",
        ) from error
