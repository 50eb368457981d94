"""Named parameters in two groups: matrices decay, biases and norms do not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import nn

from bertft.methods.part import Group

__all__ = ["by_decay"]


def by_decay(
    name: str, parameters: Sequence[tuple[str, nn.Parameter]], rate: float
) -> Iterator[Group]:
    """A group with weight decay for what has two dimensions or more, one without for the rest."""
    for decay in (True, False):
        chosen = tuple(pair for pair in parameters if (pair[1].dim() > 1) == decay)
        if chosen:
            yield Group(name if decay else f"{name}/no_decay", chosen, rate, decay)
