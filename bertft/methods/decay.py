"""Named parameters in two groups: matrices decay, biases and norms do not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import nn

from bertft.methods.part import ParamGroup

__all__ = ["split_by_weight_decay"]


def split_by_weight_decay(
    name: str, parameters: Sequence[tuple[str, nn.Parameter]], learning_rate: float
) -> Iterator[ParamGroup]:
    """A group with weight decay for what has two dimensions or more, one without for the rest."""
    for use_weight_decay in (True, False):
        selected = tuple(pair for pair in parameters if (pair[1].dim() > 1) == use_weight_decay)
        if selected:
            yield ParamGroup(name if use_weight_decay else f"{name}/no_decay", selected, learning_rate, use_weight_decay)
