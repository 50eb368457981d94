"""The low-rank part: puts updates beside linear layers, trains them, and takes them out again."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from bertft.errors import UsageError
from bertft.methods.low_rank import export, shown
from bertft.methods.low_rank.adapted import AdaptedLinear
from bertft.methods.low_rank.allocator import RankAllocator
from bertft.methods.low_rank.dora import DoRA
from bertft.methods.low_rank.peft_form import lora_settings, lora_tensors
from bertft.methods.low_rank.penalty import Penalty
from bertft.methods.low_rank.svd_lora import SVDLoRA
from bertft.methods.low_rank.update import Update
from bertft.methods.part import Group, Part
from bertft.models.roles import Target, find_targets
from bertft.models.wrapper import LinearWrapper, replace_modules
from bertft.runs.exhibits import Exhibit

__all__ = ["LowRank", "weight_rows"]

_MOST_RANKS = 4  # times the highest rank that ΔW can have; beyond it a rank is a slip
_NEEDS_ROOM = ("principal", "orthonormal")  # starts that have no more vectors than the layer


class LowRank(Part):
    """``make(weight)`` gives the update of a weight [out, in].

    ``rank`` is the average in the end, ``start_rank`` that of ``make``. ``allocate`` and
    ``penalise`` make, of the updates by path, what svd_lora needs while it trains.
    """

    name = "low_rank"
    order = 20

    def __init__(
        self,
        targets: Sequence[str],
        make: Callable[[Tensor], Update] | None = None,
        *,
        rank: int,
        start_rank: int,
        start: str,
        dropout: float,
        rate: float,
        b_rate_ratio: float = 1.0,
        e_rate_ratio: float = 1.0,
        allocate: Callable[[dict[str, SVDLoRA]], RankAllocator] | None = None,
        penalise: Callable[[Sequence[SVDLoRA]], Penalty] | None = None,
    ) -> None:
        self.targets, self.make = list(targets), make
        self.rank, self.start_rank, self.start = rank, start_rank, start
        self.dropout, self.rate = dropout, rate
        self.b_rate_ratio, self.e_rate_ratio = b_rate_ratio, e_rate_ratio
        self._allocate, self._penalise = allocate, penalise
        self.allocator: RankAllocator | None = None
        self.penalty: Penalty | None = None

    def attach(self, model: nn.Module) -> None:
        """UsageError if a target has no match, or a layer is too small for the rank."""
        targets = find_targets(model, self.targets, "method.low_rank.targets")
        for target in targets:
            self.check_room(target)
        by_layer: dict[nn.Module, list[tuple[Target, Update]]] = defaultdict(list)
        for target, update in zip(targets, self.make_updates(targets), strict=True):
            by_layer[target.module].append((target, update))
        layers: dict[nn.Module, nn.Module] = {}
        updates: dict[str, SVDLoRA] = {}
        for pairs in by_layer.values():
            first = pairs[0][0]
            linear = first.module
            adapters = {target.role: (target.rows, update) for target, update in pairs}
            dora = any(isinstance(update, DoRA) for _, update in adapters.values())
            if dora and isinstance(linear, LinearWrapper):
                raise UsageError(
                    f"DoRA does not support {first.path}, which another method has changed",
                    where="method.low_rank.use_dora", hint="Set it to false",
                )  # fmt: skip
            layers[linear] = AdaptedLinear(linear, adapters, self.dropout)
            for target, update in pairs:
                if isinstance(update, SVDLoRA):
                    updates[f"{target.path}.adapter.{target.role}"] = update
        replace_modules(model, layers)
        if self._allocate is not None:
            self.allocator = self._allocate(updates)
        if self._penalise is not None:
            self.penalty = self._penalise(list(updates.values()))

    def make_updates(self, targets: Sequence[Target]) -> list[Update]:
        """The update of each target."""
        assert self.make is not None
        return [self.make(weight_rows(each.module.weight, each.rows)) for each in targets]

    def check_room(self, target: Target) -> None:
        rows, columns = weight_rows(target.module.weight, target.rows).shape
        if self.start_rank > _MOST_RANKS * min(rows, columns):
            raise UsageError(
                f"rank {self.start_rank:,} is too high for {target.path}, a layer of"
                f" {rows} × {columns}",
                where="method.rank",
                hint=f"The highest rank that adds anything there is {min(rows, columns)}",
            )
        if self.start in _NEEDS_ROOM and self.start_rank > min(rows, columns):
            other = "zero_b" if self.start == "principal" else "gaussian"
            raise UsageError(
                f"start={self.start} has no {self.start_rank} vectors in {target.path},"
                f" a layer of {rows} × {columns}",
                where="method.rank",
                hint=f"Take a lower rank, or method.low_rank.start={other}",
            )

    def groups(self, model: nn.Module) -> Iterator[Group]:
        """A and B decay, B apart where it has a rate of its own; others as their kind says."""
        ratios = {"B": self.b_rate_ratio, "E": self.e_rate_ratio}
        chosen: dict[tuple[str, float], list[tuple[str, nn.Parameter]]] = defaultdict(list)
        for path, layer in export.adapted_layers(model).items():
            for (_, update), role in zip(layer.parts(), layer.adapter, strict=True):
                for name, parameter in update.named_parameters():
                    group, ratio = update.groups[name], ratios.get(name, 1.0)
                    if not group and ratio != 1:
                        group = f"_{name.lower()}"
                    chosen[group, ratio].append((f"{path}.adapter.{role}.{name}", parameter))
        for (group, ratio), parameters in chosen.items():
            decay = not group.endswith("/no_decay")
            yield Group(self.name + group, tuple(parameters), self.rate * ratio, decay)

    def loss(self) -> Tensor | None:
        return self.penalty() if self.penalty is not None else None

    def before_step(self, step: int, total: int) -> None:
        if self.allocator is not None:
            self.allocator.before_step()

    def after_step(self, step: int, total: int, optimizer: Optimizer) -> None:
        if self.allocator is not None:
            self.allocator.after_step(step, total, optimizer)

    def ready(self, step: int, total: int) -> bool:
        """Whether the budget is final; once it is, it stays, even if the run is made longer."""
        return self.allocator is None or self.allocator.frozen

    def measures(self) -> dict[str, float]:
        """Triplets and mean rank left at the last change of the mask."""
        found = {}
        if self.allocator is not None:
            found["budget"] = float(self.allocator.left)
            found["mean_rank"] = self.allocator.left / len(self.allocator.paths)
        return found

    def readings(self) -> dict[str, Tensor]:
        """The penalty's terms."""
        return {} if self.penalty is None else self.penalty.last

    def ranks(self) -> dict[str, int]:
        """Path of an update → triplets left; empty where ranks do not adapt."""
        return self.allocator.ranks() if self.allocator is not None else {}

    def state_dict(self) -> dict[str, Any]:
        return self.allocator.state_dict() if self.allocator is not None else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if self.allocator is not None:
            self.allocator.load_state_dict(state)
        else:
            super().load_state_dict(state)

    def counts(self, model: nn.Module) -> dict[str, int]:
        """``kept`` counts triplets with E ≠ 0; at the start, where none is, those of the budget."""
        updates = [
            update
            for layer in export.adapted_layers(model).values()
            for _, update in layer.parts()
        ]  # fmt: skip
        trainable = sum(each.numel() for update in updates for each in update.parameters())
        left = [update.triplets_left() for update in updates]
        planned = self.rank if self._allocate is not None else self.start_rank
        if not any(left):  # at the start, where every E is 0
            left = [planned] * len(updates)
        sizes = [update.sizes(each or 0) for update, each in zip(updates, left, strict=True)]
        return {
            "trainable": trainable,
            "kept": sum(kept for kept, _ in sizes),
            "exported": sum(exported for _, exported in sizes),
        }

    def factors(self, model: nn.Module) -> dict[str, list[tuple[slice | None, Tensor, Tensor]]]:
        """See ``export.factors``."""
        return export.factors(model)

    def magnitudes(self, model: nn.Module) -> dict[str, list[tuple[slice | None, Tensor]]]:
        """See ``export.magnitudes``."""
        return export.magnitudes(model)

    def exhibits(
        self, model: nn.Module, measured: Mapping[str, tuple[Sequence[float], Sequence[float]]]
    ) -> Iterator[Exhibit]:
        """The budget's curve, and what the updates are by layer and module (see ``shown``)."""
        if self.allocator is not None and "budget" in measured:
            yield shown.budget(measured["budget"], self.allocator.budget.last)
        yield from shown.updates(model)

    def peft_adapter(self, model: nn.Module) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """A LoRA or DoRA adapter."""
        tensors = lora_tensors(model)
        return lora_settings(tensors), tensors

    def fold(self, model: nn.Module) -> int:
        """See ``export.fold``."""
        return export.fold(model)


def weight_rows(weight: Tensor, rows: slice | None) -> Tensor:
    return weight if rows is None else weight[rows]
