"""Tensors that a hand-written forward pass keeps for its backward pass."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from torch import Tensor

__all__ = ["SavedTensors"]


class SavedTensors:
    """Named tensors, for ``ctx.save_for_backward``.

    autograd holds the tensors between the passes, not this object: their memory is then free after
    the backward pass, even if the loss is still referenced.
    """

    def __init__(self) -> None:
        self._tensors: dict[Hashable, Tensor] = {}
        self._names: list[Hashable] = []

    def __setitem__(self, name: Hashable, tensor: Tensor) -> None:
        self._tensors[name] = tensor

    def __getitem__(self, name: Hashable) -> Tensor:
        return self._tensors[name]

    def get(self, name: Hashable) -> Tensor | None:
        """The tensor of this name; None if it was not saved."""
        return self._tensors.get(name)

    def release(self) -> list[Tensor]:
        """Give up the tensors; ``restore`` takes the same list."""
        self._names, tensors = list(self._tensors), list(self._tensors.values())
        self._tensors = {}
        return tensors

    def restore(self, tensors: Sequence[Tensor]) -> SavedTensors:
        """A copy that holds ``tensors``, the list that ``release`` returned."""
        restored = SavedTensors()
        restored._tensors = dict(zip(self._names, tensors, strict=True))
        return restored
