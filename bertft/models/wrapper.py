"""What takes the place of a linear layer in a model, so that several methods can adapt one layer.

    y = f(x, inner(x))        inner: the linear layer, or what another method put in its place

``find_targets`` returns such a module where it returned the linear layer before, so that the next
method wraps it again: the last one attached is the outermost. Components fold in the order in which
they were attached, so ``inner`` is a plain linear layer again when a wrapper folds itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from bertft.errors import BertftError

__all__ = ["LinearWrapper", "check_foldable", "plain_path", "replace_modules"]

_LINEAR_ATTRIBUTES = ("weight", "bias", "in_features", "out_features")


class LinearWrapper(nn.Module):
    """``weight``, ``bias``, ``in_features`` and ``out_features`` are those of the linear layer.

    Trained parameters and persistent buffers belong in a sub-module called ``adapter``: buffers in
    it are saved with a checkpoint. Compute in the type of ``inner``'s output: under autocast it is
    half precision, while trained parameters are fp32.
    """

    casts_itself = True  # takes its input in any type

    def __init__(self, inner: nn.Module | None = None) -> None:
        super().__init__()
        if inner is not None:
            self.inner = inner
            self.train(inner.training)

    def __getattr__(self, name: str) -> Any:
        inner = self.__dict__.get("_modules", {}).get("inner")
        if inner is not None and name in _LINEAR_ATTRIBUTES:
            return getattr(inner, name)
        return super().__getattr__(name)

    def forward(self, x: Tensor) -> Tensor:
        """What the layer gives, unless a subclass changes it."""
        y: Tensor = self.inner(x)
        return y

    def unwrap(self) -> nn.Linear:
        """The linear layer, with its own parameters. BertftError while another method wraps it."""
        if type(self.inner) is not nn.Linear:
            raise BertftError(
                f"the layer inside is a {type(self.inner).__name__}, which was not folded before"
            )
        return self.inner


def replace_modules(model: nn.Module, replacements: Mapping[nn.Module, nn.Module]) -> None:
    """Put ``new[module]`` in every place of ``model`` where ``module`` is."""
    for parent in list(model.modules()):
        for name, child in list(parent._modules.items()):
            if child is not None and child in replacements:
                setattr(parent, name, replacements[child])


def plain_path(path: str) -> str:
    """The path of a module or parameter in the model as it was before its layers were wrapped."""
    return re.sub(r"\.inner(?=\.|$)", "", path)


def check_foldable(layers: Mapping[str, Any]) -> None:
    """BertftError where a layer's weight is kept in less than fp32."""
    for path, layer in layers.items():
        if layer.weight.dtype not in (torch.float32, torch.float64):
            raise BertftError(
                f"the weight is {str(layer.weight.dtype).removeprefix('torch.')}, in which a fold"
                " would lose the update",
                where=plain_path(path),
                hint="Load the model in fp32, fold, then cast",
            )
