"""Adapters in peft's format: the names of their tensors, as peft 0.21 saves them.

base_model.model.<path>.<name>    what an adapter adds to the layer at ``path``
base_model.model.<path>           other trained parameters, such as those of a head
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from bertft.errors import DataError

__all__ = [
    "PREFIX",
    "copy_and_group_tensors",
    "find_linear_layer",
    "model_name",
    "refuse_fan_in_fan_out",
    "shape_mismatch_error",
]

PREFIX = "base_model.model."
_OTHER_BASE = "Use the adapter with the base that it was trained on"
_WRAPPED = (
    "Remove 'module.' from the names of its tensors: DistributedDataParallel adds it when a wrapped"
    " model is saved"
)


def model_name(name: str) -> str | None:
    """The model's name for an adapter's tensor; None: the tensor is not used.

    For what an adapter adds to a layer, this is the layer's path followed by peft's name.
    """
    path = name.removeprefix(PREFIX).replace(".base_layer.", ".")  # biases of adapted layers
    if ".original_module." in path:  # the module that a saved module replaces
        return None
    return re.sub(r"\.modules_to_save\.(default\.)?", ".", path)


def copy_and_group_tensors(
    model: nn.Module, tensors: Mapping[str, Tensor], names: str
) -> dict[str, dict[str, Tensor]]:
    """Group an adapter's tensors by layer, and copy other trained parameters into ``model``.

    Args:
        model: The base with its head.
        tensors: The adapter's tensors by peft's names.
        names: A pattern of the names of the tensors that the adapter adds to a layer.

    Returns:
        Path of a layer → name → tensor.

    Raises:
        DataError: The model has no parameter of that name and shape.
    """
    pattern = re.compile(rf"(?P<path>.+)\.(?P<name>{names})(\.weight)?")
    parameters = dict(model.named_parameters())
    tensors_by_layer: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        path = model_name(name)
        if path is None:
            continue
        if match := pattern.fullmatch(path):
            tensors_by_layer.setdefault(match["path"], {})[match["name"]] = tensor
        elif path in parameters and parameters[path].shape == tensor.shape:
            with torch.no_grad():
                parameters[path].copy_(tensor)
        else:
            hint = _WRAPPED if path.startswith("module.") else _OTHER_BASE
            raise DataError(f"the model has no {path} of shape {list(tensor.shape)}", hint=hint)
    return tensors_by_layer


def find_linear_layer(model: nn.Module, path: str) -> nn.Linear:
    """The linear layer at ``path``. DataError if the model has none there."""
    try:
        layer = model.get_submodule(path)
    except AttributeError:
        layer = None
    if type(layer) is not nn.Linear:
        hint = _WRAPPED if path.startswith("module.") else _OTHER_BASE
        raise DataError(f"the model has no linear layer {path}", hint=hint)
    return layer


def shape_mismatch_error(path: str, layer: nn.Linear) -> DataError:
    """The error for tensors whose shapes do not match the layer."""
    return DataError(
        f"the adapter's tensors do not fit {path}, a layer of {list(layer.weight.shape)}",
        hint=_OTHER_BASE,
    )


def refuse_fan_in_fan_out(settings: Mapping[str, Any]) -> None:
    """DataError for an adapter of transposed weights."""
    if settings.get("fan_in_fan_out"):
        raise DataError(
            "fan_in_fan_out is not supported",
            where="adapter_config.json",
            hint="Merge the adapter with peft, and use the merged folder",
        )
