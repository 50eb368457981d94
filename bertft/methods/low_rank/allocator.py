"""Gives the budget of triplets to the modules where they matter (AdaLoRA, arXiv 2303.10512).

    until t_i            every triplet trains
    t_i to T − t_f       every ``interval`` steps E is set to 0 outside the b(t) most important
                         triplets; they may grow back, since the optimizer's moments live on
    from T − t_f on      the mask stays; moments of pruned E are cleared once, and E is projected
                         after every step

so that from T − t_f on the weights in memory are what is evaluated, saved and exported. From then
on pruned E has no gradient either: it would count in the norm that gradients are clipped by.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from bertft.methods.low_rank.budget import Budget
from bertft.methods.low_rank.importance import Importance, top
from bertft.methods.low_rank.svd_lora import SVDLoRA

__all__ = ["RankAllocator"]


class RankAllocator:
    """``modules``: path → update, all of one rank r. ``mask`` [modules, r]: where E lives."""

    def __init__(
        self,
        modules: dict[str, SVDLoRA],
        budget: Budget,
        interval: int,
        importance: Importance,
    ) -> None:
        self.paths = list(modules)
        self.values: list[Tensor] = [module.E for module in modules.values()]
        self.budget, self.interval, self.importance = budget, interval, importance
        self.mask = torch.ones(len(self.values), len(self.values[0]), dtype=torch.bool)
        self.left = budget.first
        self.frozen = False
        for number, value in enumerate(self.values):
            value.register_hook(partial(self._kept, number))

    def before_step(self) -> None:
        """Gradients are final, weights have not moved."""
        if not self.frozen:
            self.importance.update()

    def after_step(self, step: int, total: int, optimizer: Optimizer) -> None:
        """Prune as the schedule says. A step that was skipped is made up for by the next one."""
        if self.frozen:
            self._project()
        elif step >= self.budget.freezes(total):
            self._prune(self.budget.last)
            self._forget(optimizer)
            self.frozen = True
        elif step > self.budget.begins(total) and step % self.interval == 0:
            self._prune(self.budget(step, total))

    def ranks(self) -> dict[str, int]:
        """Path → triplets left at the last change of the mask."""
        return dict(zip(self.paths, self.mask.sum(1).tolist(), strict=True))

    def _kept(self, number: int, gradient: Tensor) -> Tensor:
        return gradient * self.mask[number].to(gradient) if self.frozen else gradient

    def _prune(self, left: int) -> None:
        self.left = left
        self.mask = top(self.importance.triplets(), left)
        self._project()

    @torch.no_grad()
    def _project(self) -> None:
        torch._foreach_mul_(self.values, self._rows())

    @torch.no_grad()
    def _forget(self, optimizer: Optimizer) -> None:
        for value, row in zip(self.values, self._rows(), strict=True):
            for moment in optimizer.state.get(value, {}).values():
                if isinstance(moment, Tensor) and moment.shape == value.shape:
                    moment.mul_(row)

    def _rows(self) -> list[Tensor]:
        """The mask, a row a module, in the type and place of E."""
        return list(self.mask.to(self.values[0].device, self.values[0].dtype).unbind())

    def state_dict(self) -> dict[str, Any]:
        """Flat: tensors and JSON scalars."""
        state: dict[str, Any] = {
            "mask": self.mask.clone(), "left": self.left, "frozen": self.frozen
        }  # fmt: skip
        for key, name, tensor in self._smoothed():
            state[f"{key}/{name}"] = tensor.clone()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """ValueError if it is another model's."""
        smoothed = list(self._smoothed())
        names = {"mask", "left", "frozen", *(f"{key}/{name}" for key, name, _ in smoothed)}
        if set(state) != names:
            odd = sorted(names.symmetric_difference(state))
            raise ValueError(f"the state of svd_lora does not fit its modules: {odd[:3]}")
        if state["mask"].shape != self.mask.shape:
            raise ValueError(
                f"the mask is {list(state['mask'].shape)}, not {list(self.mask.shape)}"
            )
        for key, name, tensor in smoothed:
            tensor.copy_(state[f"{key}/{name}"])
        self.mask = state["mask"].to(self.values[0].device, torch.bool, copy=True)
        self.left, self.frozen = int(state["left"]), bool(state["frozen"])

    def _smoothed(self) -> list[tuple[str, str, Tensor]]:
        names = [f"{path}.{letter}" for path in self.paths for letter in "ABE"]
        return [
            (key, name, tensor)
            for key, tensors in (("mean", self.importance.mean), ("spread", self.importance.spread))
            for name, tensor in zip(names, tensors, strict=True)
        ]
