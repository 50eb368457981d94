"""What adapters of every kind have in common in peft's format: the names of their tensors.

Tensors are named as peft 0.21 saves them: ``base_model.model.<path>.<part>`` for what an adapter
adds to the layer at ``path``, and ``base_model.model.<path>`` for what else was trained.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from bertft.errors import DataError

__all__ = ["PREFIX", "linear_layer", "own_name", "parts_by_layer", "unfitting"]

PREFIX = "base_model.model."


def own_name(name: str) -> str | None:
    """What the model calls the tensor that an adapter calls ``name``; None: it has no use for it.

    Of an update that is the layer's name and peft's own of the part.
    """
    path = name.removeprefix(PREFIX).replace(".base_layer.", ".")  # biases of adapted layers
    if ".original_module." in path:  # what a saved module stood for: peft does not use it
        return None
    return re.sub(r"\.modules_to_save\.(default\.)?", ".", path)


def parts_by_layer(
    model: nn.Module, tensors: Mapping[str, Tensor], part: str
) -> dict[str, dict[str, Tensor]]:
    """Path of a layer → part → tensor, for tensors whose last name matches ``part``.

    Other tensors (a head, biases) are copied into the parameter of their name. DataError where the
    model has none of that name and shape.
    """
    pattern = re.compile(rf"(?P<path>.+)\.(?P<part>{part})(\.weight)?")
    own = dict(model.named_parameters())
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        path = own_name(name)
        if path is None:
            continue
        if match := pattern.fullmatch(path):
            parts.setdefault(match["path"], {})[match["part"]] = tensor
        elif path in own and own[path].shape == tensor.shape:
            with torch.no_grad():
                own[path].copy_(tensor)
        else:
            raise DataError(
                f"the model has no {path} of shape {list(tensor.shape)}",
                hint="Does the adapter belong to this base?",
            )
    return parts


def linear_layer(model: nn.Module, path: str) -> nn.Linear:
    """The layer that an adapter names. DataError if the model has none there."""
    try:
        layer = model.get_submodule(path)
    except AttributeError:
        layer = None
    if type(layer) is not nn.Linear:
        raise DataError(
            f"the model has no linear layer {path}", hint="Does the adapter belong to this base?"
        )
    return layer


def unfitting(path: str, layer: nn.Linear) -> DataError:
    """The error for tensors whose shapes are not those of the layer."""
    return DataError(
        f"the adapter's tensors do not fit {path}, a layer of {list(layer.weight.shape)}",
        hint="Does the adapter belong to this base?",
    )
