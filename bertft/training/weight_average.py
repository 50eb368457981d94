"""Exponential moving average of the trained weights, which evaluations and checkpoints use.

    average ← d_n · average + (1 − d_n) · weights,    d_n = min(decay, (1 + n) / (10 + n))

after the n-th update of the weights (from 1). The average starts at the initial weights; the lower
d_n of the first updates, as in TensorFlow's ExponentialMovingAverage, lets it leave them.
Averages of the last iterates: Polyak & Juditsky 1992 (SIAM J. Control Optim. 30).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["WeightAverage"]


class WeightAverage:
    """The average of ``parameters``, by name; ``in_use`` puts it into the model.

    Attributes:
        updates: n, the number of updates so far.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], decay: float) -> None:
        self.names = list(parameters)
        self.parameters: list[Tensor] = list(parameters.values())
        self.decay, self.updates = decay, 0
        # What is not in the model: the average, or in ``in_use`` the trained weights.
        self._inactive = [parameter.detach().clone() for parameter in self.parameters]
        self._is_in_use = False

    @torch.no_grad()
    def reset(self) -> None:
        """Start from the current weights, if they were initialized after ``__init__``."""
        for parameter, other in zip(self.parameters, self._inactive, strict=True):
            other.copy_(parameter)

    @torch.no_grad()
    def update(self) -> None:
        """Average in the weights after an optimizer step."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        torch._foreach_lerp_(self._inactive, self.parameters, 1 - decay)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Inside, the model has the averaged weights. Contexts can be nested."""
        was_in_use = self._is_in_use
        self.use()
        try:
            yield
        finally:
            if not was_in_use:
                self._exchange()

    def use(self) -> None:
        """Put the averaged weights into the model and keep them there."""
        if not self._is_in_use:
            self._exchange()

    @torch.no_grad()
    def _exchange(self) -> None:
        # In place: what was derived from a weight is recomputed when its version changes.
        for parameter, other in zip(self.parameters, self._inactive, strict=True):
            current = parameter.clone()
            parameter.copy_(other)
            other.copy_(current)
        self._is_in_use = not self._is_in_use

    def state_dict(self) -> dict[str, Any]:
        """State for a checkpoint whose model has the averaged weights."""
        if not self._is_in_use:
            raise RuntimeError("a checkpoint has the averaged weights: save it within in_use()")
        trained = {
            name: tensor.clone() for name, tensor in zip(self.names, self._inactive, strict=True)
        }
        return {"updates": self.updates, "trained": trained}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore ``state_dict`` after the model of its checkpoint was loaded.

        Raises:
            ValueError: ``state`` belongs to other weights.
        """
        trained: Mapping[str, Tensor] = state["trained"]
        shapes = {name: tensor.shape for name, tensor in trained.items()}
        expected = zip(self.names, (parameter.shape for parameter in self.parameters), strict=True)
        if shapes != dict(expected):
            raise ValueError(
                "the averaged weights of the checkpoint do not match the trained parameters"
            )
        self.updates, self._is_in_use = int(state["updates"]), False
        for name, parameter, other in zip(self.names, self.parameters, self._inactive, strict=True):
            other.copy_(parameter)
            parameter.copy_(trained[name])
