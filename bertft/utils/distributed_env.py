"""This process's place in a job of several: what torchrun tells each of them in its environment."""

from __future__ import annotations

import os
from dataclasses import dataclass

from bertft.errors import UsageError

__all__ = ["DistributedEnv", "read_distributed_env"]


@dataclass(frozen=True)
class DistributedEnv:
    """``rank`` counts over the whole job, ``local_rank`` over this machine; both from 0."""

    rank: int = 0
    local_rank: int = 0
    world_size: int = 1


def read_distributed_env() -> DistributedEnv:
    """Alone, unless torchrun (or whatever sets its variables) started more than one."""
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE")
    if not {"RANK", "WORLD_SIZE", "MASTER_ADDR"} <= os.environ.keys():
        return DistributedEnv()
    values = [os.environ.get(name, "0") for name in names]
    if not all(value.isdecimal() for value in values) or int(values[0]) >= int(values[2]):
        raise UsageError(
            f"{', '.join(values)} are no place in a job",
            where=", ".join(names),
            hint="Start it with torchrun --nproc_per_node=<number> -m bertft train",
        )
    return DistributedEnv(*map(int, values))
