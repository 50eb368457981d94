"""This process's place in a job of several: what torchrun tells each of them in its environment."""

from __future__ import annotations

import os
from dataclasses import dataclass

from bertft.errors import UsageError

__all__ = ["Place", "place"]


@dataclass(frozen=True)
class Place:
    """``rank`` counts over the whole job, ``local`` over this machine; both from 0."""

    rank: int = 0
    local: int = 0
    size: int = 1


def place() -> Place:
    """Alone, unless torchrun (or whatever sets its variables) started more than one."""
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE")
    if not {"RANK", "WORLD_SIZE", "MASTER_ADDR"} <= os.environ.keys():
        return Place()
    told = [os.environ.get(name, "0") for name in names]
    if not all(each.isdecimal() for each in told) or int(told[0]) >= int(told[2]):
        raise UsageError(
            f"{', '.join(told)} are no place in a job", where=", ".join(names),
            hint="Start it with torchrun --nproc_per_node=<number> -m bertft train",
        )  # fmt: skip
    return Place(*map(int, told))
