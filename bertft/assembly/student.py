"""A student cut from its teacher: some of the layers, the embeddings, the pooler and the head.

student layer i  =  teacher layer chosen[i]        (Sanh et al. 2019, arXiv 1910.01108, §3)
"""

from __future__ import annotations

from typing import Any

from torch import nn

from bertft.assembly.saved import LoadedModel
from bertft.errors import UsageError
from bertft.methods.distill.layers import select_teacher_layers
from bertft.models.families import encoder_layers

__all__ = ["extract_student"]

_WHERE = "method.distill.student_layers"


def extract_student(teacher: LoadedModel, requested_layers: Any, name: str) -> Any:
    """The teacher's own model, folded and cut in place. UsageError if that cannot be done.

    ``requested_layers``: how many layers, or which; ``name``: the teacher's, for messages.
    """
    model = teacher.task_model.model
    for part in teacher.task_model.components:
        if not part.foldable:
            raise UsageError(
                f"the teacher {name} has a {part.name}, which no weights can hold", where=_WHERE,
                hint="Leave student_layers out: the student is then model=",
            )  # fmt: skip
    teacher.task_model.fold()
    try:
        layers = encoder_layers(model)
    except UsageError as error:
        raise UsageError(
            f"a {model.config.model_type} model has one layer, run several times", where=_WHERE,
            hint="Leave it out, and choose a smaller model=",
        ) from error  # fmt: skip
    chosen = select_teacher_layers(requested_layers, len(layers))
    for position, number in enumerate(chosen):
        if _parameter_names(layers[number]) != _parameter_names(layers[position]):
            raise UsageError(
                f"layer {number} of a {model.config.model_type} model cannot stand at place"
                f" {position}", where=_WHERE, hint="Let the list begin with layer 0",
            )  # fmt: skip
    for number in reversed(range(len(layers))):
        if number not in chosen:
            del layers[number]
    model.config.num_hidden_layers = len(chosen)
    layer_types = getattr(model.config, "layer_types", None)  # ModernBERT's local and global ones
    if layer_types is not None:
        model.config.layer_types = [layer_types[number] for number in chosen]
    return model


def _parameter_names(layer: nn.Module) -> list[str]:
    """ModernBERT's first layer, say, has no norm before its attention."""
    return [name for name, _ in layer.named_parameters()]
