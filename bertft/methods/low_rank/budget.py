"""How many triplets are left after optimizer step t of T (Zhang et al. 2023, §3.3, eq. 12).

    b(t) = b₀                                                   t ≤ t_i
           int(b_T + (b₀ − b_T) · (1 − (t − t_i) / (T − t_i − t_f))³)     between
           b_T                                                  t ≥ T − t_f

The numerator is the reference code's; the paper's appendix prints one that overshoots.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Budget"]


@dataclass(frozen=True)
class Budget:
    """``first`` = b₀ and ``last`` = b_T triplets; ``begin`` and ``end`` are shares of T."""

    first: int
    last: int
    begin: float
    end: float

    def begins(self, total: int) -> int:
        """t_i: the last step before pruning."""
        return int(self.begin * total)

    def freezes(self, total: int) -> int:
        """T − t_f, from 1 to T: the first step after which the budget is final."""
        return total - int(self.end * total)

    def __call__(self, step: int, total: int) -> int:
        begins, freezes = self.begins(total), self.freezes(total)
        if step >= freezes:
            return self.last
        if step <= begins:
            return self.first
        left = 1 - (step - begins) / (freezes - begins)
        return int(self.last + (self.first - self.last) * left**3)
