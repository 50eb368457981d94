"""How many triplets are left after optimizer step t of T (Zhang et al. 2023, §3.3, eq. 12).

    b(t) = b₀                                                   t ≤ t_i
           int(b_T + (b₀ − b_T) · (1 − (t − t_i) / (T − t_i − t_f))³)     between
           b_T                                                  t ≥ T − t_f

The numerator is the reference code's; the paper's appendix prints one that overshoots.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["BudgetSchedule"]


@dataclass(frozen=True)
class BudgetSchedule:
    """``initial`` = b₀ and ``final`` = b_T triplets; ``begin_fraction`` and ``end_fraction`` are shares of T."""

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
