"""The processes of one training job: torchrun starts them, and they take every step together.

    g = Σ_ranks Σ_terms ∇ℓ / Σ_ranks terms

Gradients are summed here, in one flat buffer, once per optimizer step. DistributedDataParallel
would average over the ranks, which is wrong where their shares differ, wants as many passes on
each of them, and sees only what a module's own forward uses; and the gradients of an adapter are
too few for it to gain anything by sending them while the backward pass still runs.

What is not a gradient goes through gloo, from CPU to CPU, so that no accelerator is waited for.
If a process of the job ends, the others raise SystemResourceError.
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

from bertft.errors import SystemResourceError, UsageError
from bertft.utils.distributed_env import read_distributed_env

__all__ = ["SINGLE_PROCESS", "DistributedContext"]

Value = TypeVar("Value")

# The others wait while the first reads millions of rows and its teacher answers them. Where a
# process is gone, gloo says so at once, and torchrun ends those that wait for NCCL.
_TIMEOUT = timedelta(days=1)


class DistributedContext:
    """This process, ``rank`` of ``world_size``, and its communication with the others.

    ``is_main_process``: the only one that writes. ``shard``: a slice of its share of a sequence.
    """

    def __init__(self, rank: int = 0, world_size: int = 1, local_rank: int = 0) -> None:
        self.rank, self.world_size, self.local_rank = rank, world_size, local_rank
        self.is_main_process = rank == 0
        self.shard = slice(rank, None, world_size)  # of sorted things: shares that are alike

    @classmethod
    def initialize(cls) -> DistributedContext:
        """Read the environment of torchrun and join the process group."""
        placement = read_distributed_env()
        if placement.world_size == 1:
            return SINGLE_PROCESS
        context = cls(placement.rank, placement.world_size, placement.local_rank)
        if not dist.is_initialized():
            use_nccl = torch.cuda.is_available() and dist.is_nccl_available()
            with context._explain_lost_process():
                dist.init_process_group(
                    "cpu:gloo,cuda:nccl" if use_nccl else "gloo", timeout=_TIMEOUT
                )
        return context

    def shutdown(self) -> None:
        """Leave the process group; called before the process ends normally."""
        if self.world_size > 1 and dist.is_initialized():
            dist.destroy_process_group()

    def device_for_rank(self, device: torch.device) -> torch.device:
        """Each process of a machine has a GPU of its own."""
        if self.world_size == 1 or device.type != "cuda":
            return device
        if device.index is not None:
            raise UsageError(
                f"{device} is one GPU, but {self.world_size} processes want one each",
                where="trainer.device",
                hint="Leave it out; CUDA_VISIBLE_DEVICES chooses GPUs",
            )
        if self.local_rank >= torch.cuda.device_count():
            raise SystemResourceError(
                f"process {self.local_rank + 1} of this machine has no GPU: there are"
                f" {torch.cuda.device_count()}",
                where="trainer.device",
                hint="Lower --nproc_per_node, or add trainer.device=cpu",
            )
        torch.cuda.set_device(self.local_rank)
        return torch.device("cuda", self.local_rank)

    def barrier(self) -> None:
        """Wait until every process has reached this call."""
        self.all_reduce_max(0)

    @contextmanager
    def main_process_first(self) -> Iterator[None]:
        """Run the block in the main process first, then in all the others at once."""
        if not self.is_main_process:
            self.barrier()
        yield
        if self.is_main_process:
            self.barrier()

    def broadcast_object(self, make: Callable[[], Value]) -> Value:
        """What ``make`` returns in the main process. If it raises, the others lose that process."""
        if self.world_size == 1:
            return make()
        objects = [make() if self.is_main_process else None]
        with self._explain_lost_process():
            dist.broadcast_object_list(objects, device=torch.device("cpu"))
        return objects[0]  # type: ignore[return-value]

    def all_gather_objects(self, items: Sequence[Value]) -> list[Value]:
        """The items of all processes, in the order of ranks, in every process."""
        if self.world_size == 1:
            return list(items)
        gathered: list[Any] = [None] * self.world_size
        with self._explain_lost_process():
            dist.all_gather_object(gathered, list(items))
        return list(chain(*gathered))

    def all_reduce_sum(self, number: int) -> int:
        return self._all_reduce([number], dist.ReduceOp.SUM)[0]

    def all_reduce_max(self, *numbers: int) -> list[int]:
        """The maximum of each number over the processes."""
        return self._all_reduce(numbers, dist.ReduceOp.MAX)

    def all_reduce_gradients(self, parameters: Sequence[nn.Parameter], losses: Tensor) -> Tensor:
        """Let every process have the sum of all gradients; the sums of their ``losses`` [n].

        A parameter that has a gradient anywhere has one everywhere; the others have none.
        """
        if self.world_size == 1:
            return losses
        has_gradient = self.all_reduce_max(*(int(each.grad is not None) for each in parameters))
        with_gradient = [
            candidate
            for candidate, present in zip(parameters, has_gradient, strict=True)
            if present
        ]
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in with_gradient]
        flat_sums = torch.cat([losses.detach(), *(each.flatten() for each in gradients)])
        with self._explain_lost_process():
            dist.all_reduce(flat_sums)
        loss_sums, *gradient_sums = flat_sums.split(
            [len(losses), *(each.numel() for each in with_gradient)]
        )
        for parameter, gradient, gradient_sum in zip(
            with_gradient, gradients, gradient_sums, strict=True
        ):
            parameter.grad = gradient.copy_(gradient_sum.view_as(gradient))
        return loss_sums

    def _all_reduce(self, numbers: Sequence[int], operation: Any) -> list[int]:
        if self.world_size == 1:
            return list(numbers)
        values = torch.tensor(numbers, dtype=torch.int64)
        with self._explain_lost_process():
            dist.all_reduce(values, operation)
        return values.tolist()

    @contextmanager
    def _explain_lost_process(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:  # gloo and nccl tell it in words alone
            raise SystemResourceError(
                f"another process of the job is gone ({str(error).splitlines()[0]})",
                where=f"rank {self.rank} of {self.world_size}",
                hint="See what the others said; then go on with resume=<run> under torchrun",
            ) from error


SINGLE_PROCESS = DistributedContext()
