"""Data-parallel training with torchrun: all processes take every optimizer step together.

    g = Σ_ranks Σ_terms ∇ℓ / Σ_ranks terms

Gradients are summed in one flat buffer, once per optimizer step. DistributedDataParallel does not
fit: it averages over ranks, which is wrong if their shards differ in size, it requires the same
number of passes on each rank, and it handles only parameters that ``forward`` uses. Its overlap of
communication and backward pass saves little, because adapters have few gradients.

All other communication uses gloo on the CPU and does not synchronize with the GPU. If a process of
the job ends, the others raise SystemResourceError.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
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

# The other processes wait while the main one encodes millions of rows and runs the teacher. The
# timeout is not needed to detect a lost process: gloo raises an error at once, and torchrun ends
# processes that wait for NCCL.
_TIMEOUT = timedelta(days=1)


class DistributedContext:
    """The rank of this process and its communication with the other processes.

    Attributes:
        is_main_process: whether this process is rank 0, the only one that writes files.
        shard: the slice that selects this process's share of a sequence.
    """

    def __init__(self, rank: int = 0, world_size: int = 1, local_rank: int = 0) -> None:
        self.rank, self.world_size, self.local_rank = rank, world_size, local_rank
        self.is_main_process = rank == 0
        # Interleaved: the shards of a sequence that is sorted by length have similar lengths.
        self.shard = slice(rank, None, world_size)

    @classmethod
    def initialize(cls) -> DistributedContext:
        """Read the environment of torchrun and join the process group."""
        env = read_distributed_env()
        if env.world_size == 1:
            return SINGLE_PROCESS
        context = cls(env.rank, env.world_size, env.local_rank)
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
        """Return this process's own GPU if ``device`` is "cuda", otherwise ``device``.

        Raises:
            UsageError: ``device`` is one specific GPU.
            SystemResourceError: the machine has fewer GPUs than processes.
        """
        if self.world_size == 1 or device.type != "cuda":
            return device
        if device.index is not None:
            raise UsageError(
                f"{device} is one GPU, but each of the {self.world_size} processes needs its own",
                where="trainer.device",
                hint="Leave the setting out, and select the GPUs with CUDA_VISIBLE_DEVICES",
            )
        if self.local_rank >= torch.cuda.device_count():
            raise SystemResourceError(
                f"no GPU for process {self.local_rank + 1} of this machine"
                f" (GPUs: {torch.cuda.device_count()})",
                where="trainer.device",
                hint="Lower --nproc_per_node, or set trainer.device=cpu",
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
        """Call ``make`` in the main process and return its result in every process."""
        if self.world_size == 1:
            return make()
        objects = [make() if self.is_main_process else None]
        with self._explain_lost_process():
            dist.broadcast_object_list(objects, device=torch.device("cpu"))
        return objects[0]  # type: ignore[return-value]

    @torch.no_grad()
    def broadcast_parameters(self, parameters: Mapping[str, nn.Parameter]) -> None:
        """Copy the values of the main process, by name, into ``parameters`` of every process."""
        if self.world_size == 1:
            return
        values = self.broadcast_object(
            lambda: {name: parameter.detach().cpu() for name, parameter in parameters.items()}
        )
        for name, parameter in parameters.items():
            parameter.copy_(values[name])

    def all_gather_objects(self, items: Sequence[Value]) -> list[Value]:
        """The items of all processes, in the order of ranks, in every process."""
        if self.world_size == 1:
            return list(items)
        gathered: list[Any] = [None] * self.world_size
        with self._explain_lost_process():
            dist.all_gather_object(gathered, list(items))
        return list(chain(*gathered))

    def all_reduce_sum(self, number: int) -> int:
        """The sum of ``number`` over the processes."""
        return self._all_reduce([number], dist.ReduceOp.SUM)[0]

    def all_reduce_max(self, *numbers: int) -> list[int]:
        """The maximum of each number over the processes."""
        return self._all_reduce(numbers, dist.ReduceOp.MAX)

    def all_reduce_gradients(self, parameters: Sequence[nn.Parameter], losses: Tensor) -> Tensor:
        """Sum the gradients of ``parameters`` and ``losses`` [n] over the processes.

        A parameter that has a gradient in any process gets one in every process.

        Returns:
            The summed losses [n].
        """
        if self.world_size == 1:
            return losses
        has_gradient = self.all_reduce_max(*(int(p.grad is not None) for p in parameters))
        with_gradient = [p for p, has_any in zip(parameters, has_gradient, strict=True) if has_any]
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in with_gradient]
        flat_sums = torch.cat([losses.detach(), *(gradient.flatten() for gradient in gradients)])
        with self._explain_lost_process():
            dist.all_reduce(flat_sums)
        loss_sums, *gradient_sums = flat_sums.split(
            [len(losses), *(p.numel() for p in with_gradient)]
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
        except RuntimeError as error:  # gloo and NCCL have no more specific exception
            raise SystemResourceError(
                f"another process of the job has ended ({str(error).splitlines()[0]})",
                where=f"rank {self.rank} of {self.world_size}",
                hint="Check the output of the other processes, then run torchrun with resume=<run>",
            ) from error


SINGLE_PROCESS = DistributedContext()
