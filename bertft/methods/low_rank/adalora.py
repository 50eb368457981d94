"""AdaLoRA: allocate a budget of triplets to the modules where they matter (arXiv 2303.10512).

    until t_i            every triplet trains
    t_i to T − t_f       every ``interval`` steps, E is set to 0 except in the b(t) most important
                         triplets; pruned ones may grow back, as the optimizer keeps its moments
    from T − t_f on      the mask is final: moments of pruned E are cleared once, and E is masked
                         after every step

From T − t_f on, the weights in memory are those that are evaluated, saved and exported. Pruned E
then has no gradient, which would count in the norm for gradient clipping.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from bertft.methods.component import ComponentState
from bertft.methods.low_rank.svd_lora import SVDLoRA
from bertft.models.precision import autocast_disabled

__all__ = [
    "AdaLoRAPenalty",
    "BudgetSchedule",
    "ImportanceTracker",
    "RankAllocator",
    "orthogonality_loss",
    "top_mask",
]


@dataclass(frozen=True)
class BudgetSchedule:
    """b(t): the triplets after step t of T, which decrease cubically.

    Attributes:
        initial: b₀, triplets until t_i.
        final: b_T, triplets from T − t_f on.
        begin_fraction: t_i / T.
        end_fraction: t_f / T.
    """

    initial: int
    final: int
    begin_fraction: float
    end_fraction: float

    def pruning_start(self, total_steps: int) -> int:
        """t_i: the last step before pruning."""
        return int(self.begin_fraction * total_steps)

    def freeze_step(self, total_steps: int) -> int:
        """T − t_f, from 1 to T: the first step after which the budget is final."""
        return total_steps - int(self.end_fraction * total_steps)

    def __call__(self, step: int, total_steps: int) -> int:
        pruning_start, freeze_step = self.pruning_start(total_steps), self.freeze_step(total_steps)
        if step >= freeze_step:
            return self.final
        if step <= pruning_start:
            return self.initial
        remaining = 1 - (step - pruning_start) / (freeze_step - pruning_start)
        return int(self.final + (self.initial - self.final) * remaining**3)


class ImportanceTracker:
    """Ī and Ū, sensitivity and its uncertainty, of A, B and E of ``modules``, all of rank r."""

    def __init__(self, modules: Sequence[SVDLoRA], beta1: float, beta2: float) -> None:
        self.parameters: list[nn.Parameter] = [
            parameter for module in modules for parameter in (module.A, module.B, module.E)
        ]
        self.beta1, self.beta2 = beta1, beta2
        self.mean = [torch.zeros_like(factor, requires_grad=False) for factor in self.parameters]
        self.uncertainty = [
            torch.zeros_like(parameter, requires_grad=False) for parameter in self.parameters
        ]

    @torch.no_grad()
    def update(self) -> None:
        """Average in the current weights and gradients; weights without a gradient are skipped."""
        self._follow_device()
        updated = [
            (parameter, parameter.grad, mean, uncertainty)
            for parameter, mean, uncertainty in zip(
                self.parameters, self.mean, self.uncertainty, strict=True
            )
            if parameter.grad is not None
        ]
        if not updated:
            return
        weights, gradients, mean, uncertainty = (
            list(tensors) for tensors in zip(*updated, strict=True)
        )
        importance = torch._foreach_mul(weights, gradients)
        torch._foreach_abs_(importance)
        torch._foreach_mul_(mean, self.beta1)
        torch._foreach_add_(mean, importance, alpha=1 - self.beta1)
        torch._foreach_sub_(importance, mean)
        torch._foreach_abs_(importance)
        torch._foreach_mul_(uncertainty, self.beta2)
        torch._foreach_add_(uncertainty, importance, alpha=1 - self.beta2)

    @torch.no_grad()
    def triplet_scores(self) -> Tensor:
        """S, the importance of each triplet [modules, r]."""
        self._follow_device()
        scores = torch._foreach_mul(self.mean, self.uncertainty)
        return torch.stack(
            [
                scores[offset + 2] + scores[offset].mean(1) + scores[offset + 1].mean(0)
                for offset in range(0, len(scores), 3)
            ]
        )

    def _follow_device(self) -> None:
        """Move the statistics to the device of the model, which may have changed."""
        if self.parameters and self.mean[0].device != self.parameters[0].device:
            for statistics in (self.mean, self.uncertainty):
                statistics[:] = [
                    tensor.to(parameter.device)
                    for tensor, parameter in zip(statistics, self.parameters, strict=True)
                ]


def top_mask(scores: Tensor, budget: int) -> Tensor:
    """Bool mask [modules, r] of exactly the ``budget`` highest ``scores`` [modules, r].

    Ties go to the lower triplet number, then to the lower module, so that modules without
    statistics keep equal ranks.
    """
    order = scores.t().flatten().sort(descending=True, stable=True).indices
    mask = torch.zeros_like(order, dtype=torch.bool)
    mask[order[:budget]] = True
    return mask.view(scores.shape[1], scores.shape[0]).t().contiguous()


def orthogonality_loss(factors: Sequence[Tensor]) -> Tensor:
    """Mean of ‖F·Fᵀ − I‖_F over ``factors`` [r, n], with one batched product per shape."""
    stacks: dict[torch.Size, list[Tensor]] = defaultdict(list)
    for factor in factors:
        stacks[factor.shape].append(factor)
    norm_sums = []
    for (rank, _), stack in stacks.items():
        stacked = torch.stack(stack)
        identity = torch.eye(rank, dtype=stacked.dtype, device=stacked.device)
        with autocast_disabled(stacked):
            deviation = torch.baddbmm(identity, stacked, stacked.mT, beta=-1)
        # Unlike √Σ², this norm has a gradient (0) where A is exactly orthonormal.
        norm_sums.append(torch.linalg.vector_norm(deviation, dim=(1, 2)).sum())
    return torch.stack(norm_sums).sum() / len(factors)


class AdaLoRAPenalty:
    """The penalty orthogonality · ‖F·Fᵀ − I‖ + l1 · Σ |E|.

    ``last_terms``: the terms of the latest call, detached and without their weights.
    """

    def __init__(self, modules: Sequence[SVDLoRA], orthogonality: float, l1: float) -> None:
        self.modules = list(modules)
        self.orthogonality, self.l1 = orthogonality, l1
        self.last_terms: dict[str, Tensor] = {}

    def __call__(self) -> Tensor | None:
        """The weighted sum; None if both weights are 0."""
        terms = []
        if self.orthogonality:
            factors = [factor for module in self.modules for factor in (module.A, module.B.t())]
            term = orthogonality_loss(factors)
            self.last_terms["orthogonality"] = term.detach()
            terms.append(self.orthogonality * term)
        if self.l1:
            term = torch.cat([module.E for module in self.modules]).abs().sum()
            self.last_terms["l1"] = term.detach()
            terms.append(self.l1 * term)
        return torch.stack(terms).sum() if terms else None


class RankAllocator:
    """Prunes the triplets of ``modules`` (path → update, all of rank r) on the schedule ``budget``.

    Attributes:
        mask: Which triplets are kept [modules, r].
        triplets_left: The budget after the last pruning.
        frozen: Whether the mask is final.
    """

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
        self.mask = torch.ones(
            len(self.singular_values), len(self.singular_values[0]), dtype=torch.bool
        )
        self.triplets_left = budget.initial
        self.frozen = False
        for number, value in enumerate(self.singular_values):
            value.register_hook(partial(self._mask_gradient, number))

    def before_step(self) -> None:
        """Called when the gradients are final, before the weights are updated."""
        if not self.frozen:
            self.importance.update()

    def after_step(self, step: int, total_steps: int, optimizer: Optimizer) -> None:
        """Prune on schedule. The final pruning is done later if its step was skipped."""
        if self.frozen:
            self._apply_mask()
        elif step >= self.budget.freeze_step(total_steps):
            self._prune(self.budget.final)
            self._clear_optimizer_state(optimizer)
            self.frozen = True
        elif step > self.budget.pruning_start(total_steps) and step % self.interval == 0:
            self._prune(self.budget(step, total_steps))

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
        """The mask's row of each module, in the type and on the device of E."""
        return list(
            self.mask.to(self.singular_values[0].device, self.singular_values[0].dtype).unbind()
        )

    def state_dict(self) -> ComponentState:
        """The mask, the budget and the statistics."""
        state: ComponentState = {
            "mask": self.mask.clone(),
            "left": self.triplets_left,
            "frozen": self.frozen,
        }
        for key, name, tensor in self._named_statistics():
            state[f"{key}/{name}"] = tensor.clone()
        return state

    def load_state_dict(self, state: ComponentState) -> None:
        """Restore ``state_dict``. ValueError if it belongs to another model."""
        statistics = list(self._named_statistics())
        expected_names = {
            "mask",
            "left",
            "frozen",
            *(f"{key}/{name}" for key, name, _ in statistics),
        }
        if set(state) != expected_names:
            mismatched = sorted(expected_names.symmetric_difference(state))
            raise ValueError(f"the state of svd_lora does not fit its modules: {mismatched[:3]}")
        tensors = {name: value for name, value in state.items() if isinstance(value, Tensor)}
        mask = tensors["mask"]
        if mask.shape != self.mask.shape:
            raise ValueError(f"the mask is {list(mask.shape)}, not {list(self.mask.shape)}")
        for key, name, tensor in statistics:
            tensor.copy_(tensors[f"{key}/{name}"])
        self.mask = mask.to(self.singular_values[0].device, torch.bool, copy=True)
        self.triplets_left, self.frozen = int(cast(int, state["left"])), bool(state["frozen"])

    def _named_statistics(self) -> list[tuple[str, str, Tensor]]:
        names = [f"{path}.{letter}" for path in self.paths for letter in "ABE"]
        return [
            (key, name, tensor)
            for key, tensors in (
                ("mean", self.importance.mean),
                ("spread", self.importance.uncertainty),
            )
            for name, tensor in zip(names, tensors, strict=True)
        ]
