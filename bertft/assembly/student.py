"""A student cut from its teacher: some of the layers, the embeddings, the pooler and the head.

student layer i  =  teacher layer chosen[i]        (Sanh et al. 2019, arXiv 1910.01108, §3)
"""

from __future__ import annotations

from typing import Any

from torch import nn

from bertft.assembly.saved import Saved
from bertft.errors import UsageError
from bertft.methods.distill.layers import chosen_layers
from bertft.models.families import layers_of

__all__ = ["cut_student"]

_WHERE = "method.distill.student_layers"


def cut_student(teacher: Saved, wanted: Any, name: str) -> Any:
    """The teacher's own model, folded and cut in place. UsageError if that cannot be done.

    ``wanted``: how many layers, or which; ``name``: the teacher's, for messages.
    """
    model = teacher.adapted.model
    for part in teacher.adapted.parts:
        if not part.foldable:
            raise UsageError(
                f"the teacher {name} has a {part.name}, which no weights can hold", where=_WHERE,
                hint="Leave student_layers out: the student is then model=",
            )  # fmt: skip
    teacher.adapted.fold()
    try:
        layers = layers_of(model)
    except UsageError as error:
        raise UsageError(
            f"a {model.config.model_type} model has one layer, run several times", where=_WHERE,
            hint="Leave it out, and choose a smaller model=",
        ) from error  # fmt: skip
    chosen = chosen_layers(wanted, len(layers))
    for place, number in enumerate(chosen):
        if _names(layers[number]) != _names(layers[place]):
            raise UsageError(
                f"layer {number} of a {model.config.model_type} model cannot stand at place"
                f" {place}", where=_WHERE, hint="Let the list begin with layer 0",
            )  # fmt: skip
    for number in reversed(range(len(layers))):
        if number not in chosen:
            del layers[number]
    model.config.num_hidden_layers = len(chosen)
    kinds = getattr(model.config, "layer_types", None)  # ModernBERT's local and global ones
    if kinds is not None:
        model.config.layer_types = [kinds[number] for number in chosen]
    return model


def _names(layer: nn.Module) -> list[str]:
    """ModernBERT's first layer, say, has no norm before its attention."""
    return [name for name, _ in layer.named_parameters()]
