"""The rank of this process in a distributed job, from the environment variables of torchrun."""

from __future__ import annotations

import os
from dataclasses import dataclass

from bertft.errors import UsageError

__all__ = ["DistributedEnv", "read_distributed_env"]


@dataclass(frozen=True)
class DistributedEnv:
    """``rank`` is the index in the job, ``local_rank`` the index on this machine; both from 0."""

    rank: int = 0
    local_rank: int = 0
    world_size: int = 1


def read_distributed_env() -> DistributedEnv:
    """The rank and the number of processes; rank 0 of 1 without torchrun's variables.

    Raises UsageError for invalid variables.
    """
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE")
    if not {"RANK", "WORLD_SIZE", "MASTER_ADDR"} <= os.environ.keys():
        return DistributedEnv()
    values = [os.environ.get(name, "0") for name in names]
    if not all(value.isdecimal() for value in values) or int(values[0]) >= int(values[2]):
        raise UsageError(
            "invalid rank environment variables ("
            + ", ".join(f"{name}={value}" for name, value in zip(names, values, strict=True))
            + ")",
            hint="Start the job with torchrun --nproc_per_node=<number> -m bertft train",
        )
    return DistributedEnv(*map(int, values))
