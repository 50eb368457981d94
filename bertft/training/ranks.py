"""The processes of one training job: torchrun starts them, and they take every step together.

    g = Σ_ranks Σ_terms ∇ℓ / Σ_ranks terms

Gradients are summed here, in one flat buffer, once an optimizer step. DistributedDataParallel
would average over the ranks, which is wrong where their shares differ, wants as many passes on
each of them, and sees only what a module's own forward uses; and the gradients of an adapter are
too few for it to gain anything by sending them while the backward pass still runs.

What is not a gradient goes through gloo, from CPU to CPU, so that no accelerator is waited for.
Where a process of the job is gone, the others raise EnvironmentFailed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from itertools import chain
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from bertft.config.processes import place
from bertft.errors import EnvironmentFailed, UsageError

__all__ = ["ALONE", "Ranks"]

Value = TypeVar("Value")

# The others wait while the first reads millions of rows and its teacher answers them. Where a
# process is gone, gloo says so at once, and torchrun ends those that wait for NCCL.
_PATIENCE = timedelta(days=1)


class Ranks:
    """``rank`` of ``size``; ``first``: the one that writes; ``own``: a share of what is to do."""

    def __init__(self, rank: int = 0, size: int = 1, local: int = 0) -> None:
        self.rank, self.size, self.local = rank, size, local
        self.first = rank == 0
        self.own = slice(rank, None, size)  # of sorted things: shares that are alike

    @classmethod
    def join(cls) -> Ranks:
        """The job that the environment tells of; the processes meet at the first call."""
        here = place()
        if here.size == 1:
            return ALONE
        ranks = cls(here.rank, here.size, here.local)
        if not dist.is_initialized():
            cuda = torch.cuda.is_available() and dist.is_nccl_available()
            with ranks._together():
                dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", timeout=_PATIENCE)
        return ranks

    def leave(self) -> None:
        """Before the process ends by itself."""
        if self.size > 1 and dist.is_initialized():
            dist.destroy_process_group()

    def device(self, device: torch.device) -> torch.device:
        """Each process of a machine has a GPU of its own."""
        if self.size == 1 or device.type != "cuda":
            return device
        if device.index is not None:
            raise UsageError(
                f"{device} is one GPU, but {self.size} processes want one each",
                where="trainer.device", hint="Leave it out; CUDA_VISIBLE_DEVICES chooses GPUs",
            )  # fmt: skip
        if self.local >= torch.cuda.device_count():
            raise EnvironmentFailed(
                f"process {self.local + 1} of this machine has no GPU: there are"
                f" {torch.cuda.device_count()}",
                where="trainer.device", hint="Lower --nproc_per_node, or add trainer.device=cpu",
            )  # fmt: skip
        torch.cuda.set_device(self.local)
        return torch.device("cuda", self.local)

    def wait(self) -> None:
        """Until every process is here."""
        self.most(0)

    def told(self, make: Callable[[], Value]) -> Value:
        """What ``make`` gives on the first process. Where it raises, the others lose that one."""
        if self.size == 1:
            return make()
        box = [make() if self.first else None]
        with self._together():
            dist.broadcast_object_list(box, device=torch.device("cpu"))
        return box[0]  # type: ignore[return-value]

    def gather(self, items: Sequence[Value]) -> list[Value]:
        """The items of all processes, in the order of ranks, for all of them."""
        if self.size == 1:
            return list(items)
        found: list[Any] = [None] * self.size
        with self._together():
            dist.all_gather_object(found, list(items))
        return list(chain(*found))

    def sum(self, number: int) -> int:
        return self._reduce([number], dist.ReduceOp.SUM)[0]

    def most(self, *numbers: int) -> list[int]:
        """Of each number the largest that any process has."""
        return self._reduce(numbers, dist.ReduceOp.MAX)

    def add(self, parameters: Sequence[nn.Parameter], losses: Tensor) -> Tensor:
        """Let every process have the sum of all gradients; the sums of their ``losses`` [n].

        A parameter that has a gradient anywhere has one everywhere; the others have none.
        """
        if self.size == 1:
            return losses
        found = self.most(*(int(each.grad is not None) for each in parameters))
        shared = [each for each, there in zip(parameters, found, strict=True) if there]
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in shared]
        flat = torch.cat([losses.detach(), *(each.flatten() for each in gradients)])
        with self._together():
            dist.all_reduce(flat)
        total, *pieces = flat.split([len(losses), *(each.numel() for each in shared)])
        for parameter, gradient, piece in zip(shared, gradients, pieces, strict=True):
            parameter.grad = gradient.copy_(piece.view_as(gradient))
        return total

    def _reduce(self, numbers: Sequence[int], operation: Any) -> list[int]:
        if self.size == 1:
            return list(numbers)
        values = torch.tensor(numbers, dtype=torch.int64)
        with self._together():
            dist.all_reduce(values, operation)
        return values.tolist()

    @contextmanager
    def _together(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:  # gloo and nccl tell it in words alone
            raise EnvironmentFailed(
                f"another process of the job is gone ({str(error).splitlines()[0]})",
                where=f"rank {self.rank} of {self.size}",
                hint="See what the others said; then go on with resume=<run> under torchrun",
            ) from error


ALONE = Ranks()
