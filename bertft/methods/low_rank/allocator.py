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

from bertft.methods.low_rank.budget import BudgetSchedule
from bertft.methods.low_rank.importance import ImportanceTracker, top_mask
from bertft.methods.low_rank.svd_lora import SVDLoRA

__all__ = ["RankAllocator"]


class RankAllocator:
    """``modules``: path → update, all of one rank r. ``mask`` [modules, r]: where E lives."""

    def __init__(
        self,
        modules: dict[str, SVDLoRA],
        budget: BudgetSchedule,
        interval: int,
        importance: ImportanceTracker,
    ) -> None:
        self.paths = list(modules)
        self.singular_values: list[Tensor] = [module.E for module in modules.values()]
        self.budget, self.interval, self.importance = budget, interval, importance
        self.mask = torch.ones(len(self.singular_values), len(self.singular_values[0]), dtype=torch.bool)
        self.triplets_left = budget.initial
        self.frozen = False
        for number, value in enumerate(self.singular_values):
            value.register_hook(partial(self._mask_gradient, number))

    def before_step(self) -> None:
        """Gradients are final, weights have not moved."""
        if not self.frozen:
            self.importance.update()

    def after_step(self, step: int, total_steps: int, optimizer: Optimizer) -> None:
        """Prune as the schedule says. A step that was skipped is made up for by the next one."""
        if self.frozen:
            self._apply_mask()
        elif step >= self.budget.freeze_step(total_steps):
            self._prune(self.budget.final)
            self._clear_optimizer_state(optimizer)
            self.frozen = True
        elif step > self.budget.pruning_start(total_steps) and step % self.interval == 0:
            self._prune(self.budget(step, total_steps))

    def current_ranks(self) -> dict[str, int]:
        """Path → triplets left at the last change of the mask."""
        return dict(zip(self.paths, self.mask.sum(1).tolist(), strict=True))

    def _mask_gradient(self, module_number: int, gradient: Tensor) -> Tensor:
        return gradient * self.mask[module_number].to(gradient) if self.frozen else gradient

    def _prune(self, triplets_left: int) -> None:
        self.triplets_left = triplets_left
        self.mask = top_mask(self.importance.triplet_scores(), triplets_left)
        self._apply_mask()

    @torch.no_grad()
    def _apply_mask(self) -> None:
        torch._foreach_mul_(self.singular_values, self._mask_rows())

    @torch.no_grad()
    def _clear_optimizer_state(self, optimizer: Optimizer) -> None:
        for value, row in zip(self.singular_values, self._mask_rows(), strict=True):
            for state_tensor in optimizer.state.get(value, {}).values():
                if isinstance(state_tensor, Tensor) and state_tensor.shape == value.shape:
                    state_tensor.mul_(row)

    def _mask_rows(self) -> list[Tensor]:
        """The mask, a row a module, in the type and place of E."""
        return list(self.mask.to(self.singular_values[0].device, self.singular_values[0].dtype).unbind())

    def state_dict(self) -> dict[str, Any]:
        """Flat: tensors and JSON scalars."""
        state: dict[str, Any] = {
            "mask": self.mask.clone(), "left": self.triplets_left, "frozen": self.frozen
        }  # fmt: skip
        for key, name, tensor in self._named_statistics():
            state[f"{key}/{name}"] = tensor.clone()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """ValueError if it is another model's."""
        statistics = list(self._named_statistics())
        expected_names = {"mask", "left", "frozen", *(f"{key}/{name}" for key, name, _ in statistics)}
        if set(state) != expected_names:
            mismatched = sorted(expected_names.symmetric_difference(state))
            raise ValueError(f"the state of svd_lora does not fit its modules: {mismatched[:3]}")
        if state["mask"].shape != self.mask.shape:
            raise ValueError(
                f"the mask is {list(state['mask'].shape)}, not {list(self.mask.shape)}"
            )
        for key, name, tensor in statistics:
            tensor.copy_(state[f"{key}/{name}"])
        self.mask = state["mask"].to(self.singular_values[0].device, torch.bool, copy=True)
        self.triplets_left, self.frozen = int(state["left"]), bool(state["frozen"])

    def _named_statistics(self) -> list[tuple[str, str, Tensor]]:
        names = [f"{path}.{letter}" for path in self.paths for letter in "ABE"]
        return [
            (key, name, tensor)
            for key, tensors in (("mean", self.importance.mean), ("spread", self.importance.uncertainty))
            for name, tensor in zip(names, tensors, strict=True)
        ]
