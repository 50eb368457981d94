"""The low-rank part: puts updates beside linear layers, trains them, and takes them out again."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from bertft.errors import UsageError
from bertft.methods.component import MethodComponent, ParamGroup
from bertft.methods.low_rank import export, report
from bertft.methods.low_rank.adalora import AdaLoRAPenalty, RankAllocator
from bertft.methods.low_rank.linear import LowRankLinear
from bertft.methods.low_rank.lora import DoRA
from bertft.methods.low_rank.peft_format import peft_config, peft_tensors
from bertft.methods.low_rank.svd_lora import SVDLoRA
from bertft.methods.low_rank.update import Update
from bertft.models.linear_layers import (
    LinearWrapper,
    TargetLayer,
    find_target_layers,
    replace_modules,
)
from bertft.tasks.report_items import ReportItem

__all__ = ["LowRank", "weight_rows"]

_MAX_RANK_FACTOR = 4  # times the highest rank that ΔW can have; beyond it a rank is a slip
_STARTS_LIMITED_BY_SHAPE = (
    "principal",
    "orthonormal",
)  # starts that have no more vectors than the layer


class LowRank(MethodComponent):
    """``make_update(weight)`` gives the update of a weight [out, in].

    ``rank`` is the average in the end, ``start_rank`` that of ``make_update``. ``make_allocator``
    and ``make_penalty`` make, of the updates by path, what svd_lora needs while it trains.
    """

    name = "low_rank"
    attach_order = 20

    def __init__(
        self,
        targets: Sequence[str],
        make_update: Callable[[Tensor], Update] | None = None,
        *,
        rank: int,
        start_rank: int,
        start: str,
        dropout: float,
        rate: float,
        b_rate_ratio: float = 1.0,
        e_rate_ratio: float = 1.0,
        make_allocator: Callable[[dict[str, SVDLoRA]], RankAllocator] | None = None,
        make_penalty: Callable[[Sequence[SVDLoRA]], AdaLoRAPenalty] | None = None,
    ) -> None:
        self.targets, self.make_update = list(targets), make_update
        self.rank, self.start_rank, self.start = rank, start_rank, start
        self.dropout, self.learning_rate = dropout, rate
        self.b_rate_ratio, self.e_rate_ratio = b_rate_ratio, e_rate_ratio
        self._make_allocator, self._make_penalty = make_allocator, make_penalty
        self.allocator: RankAllocator | None = None
        self.penalty: AdaLoRAPenalty | None = None

    def attach(self, model: nn.Module) -> None:
        """UsageError if a target has no match, or a layer is too small for the rank."""
        targets = find_target_layers(model, self.targets, "method.low_rank.targets")
        for target in targets:
            self.check_room(target)
        targets_by_layer: dict[nn.Module, list[tuple[TargetLayer, Update]]] = defaultdict(list)
        for target, update in zip(targets, self.make_updates(targets), strict=True):
            targets_by_layer[target.module].append((target, update))
        replacements: dict[nn.Module, nn.Module] = {}
        updates: dict[str, SVDLoRA] = {}
        for pairs in targets_by_layer.values():
            first = pairs[0][0]
            linear = first.module
            adapters = {target.role: (target.rows, update) for target, update in pairs}
            has_dora = any(isinstance(update, DoRA) for _, update in adapters.values())
            if has_dora and isinstance(linear, LinearWrapper):
                raise UsageError(
                    f"DoRA does not support {first.path}, which another method has changed",
                    where="method.low_rank.use_dora",
                    hint="Set it to false",
                )
            replacements[linear] = LowRankLinear(linear, adapters, self.dropout)
            for target, update in pairs:
                if isinstance(update, SVDLoRA):
                    updates[f"{target.path}.adapter.{target.role}"] = update
        replace_modules(model, replacements)
        if self._make_allocator is not None:
            self.allocator = self._make_allocator(updates)
        if self._make_penalty is not None:
            self.penalty = self._make_penalty(list(updates.values()))

    def make_updates(self, targets: Sequence[TargetLayer]) -> list[Update]:
        """The update of each target."""
        assert self.make_update is not None
        return [self.make_update(weight_rows(each.module.weight, each.rows)) for each in targets]

    def check_room(self, target: TargetLayer) -> None:
        rows, columns = weight_rows(target.module.weight, target.rows).shape
        if self.start_rank > _MAX_RANK_FACTOR * min(rows, columns):
            raise UsageError(
                f"rank {self.start_rank:,} is too high for {target.path}, a layer of"
                f" {rows} × {columns}",
                where="method.rank",
                hint=f"The highest rank that adds anything there is {min(rows, columns)}",
            )
        if self.start in _STARTS_LIMITED_BY_SHAPE and self.start_rank > min(rows, columns):
            other = "zero_b" if self.start == "principal" else "gaussian"
            raise UsageError(
                f"start={self.start} has no {self.start_rank} vectors in {target.path},"
                f" a layer of {rows} × {columns}",
                where="method.rank",
                hint=f"Take a lower rank, or method.low_rank.start={other}",
            )

    def param_groups(self, model: nn.Module) -> Iterator[ParamGroup]:
        """A and B decay, B apart where it has a rate of its own; others as their kind says."""
        ratios = {"B": self.b_rate_ratio, "E": self.e_rate_ratio}
        grouped: dict[tuple[str, float], list[tuple[str, nn.Parameter]]] = defaultdict(list)
        for path, layer in export.low_rank_layers(model).items():
            for (_, update), role in zip(layer.updates(), layer.adapter, strict=True):
                for name, parameter in update.named_parameters():
                    group, ratio = update.groups[name], ratios.get(name, 1.0)
                    if not group and ratio != 1:
                        group = f"_{name.lower()}"
                    grouped[group, ratio].append((f"{path}.adapter.{role}.{name}", parameter))
        for (group, ratio), parameters in grouped.items():
            decay = not group.endswith("/no_decay")
            yield ParamGroup(
                self.name + group, tuple(parameters), self.learning_rate * ratio, decay
            )

    def extra_loss(self) -> Tensor | None:
        return self.penalty() if self.penalty is not None else None

    def before_step(self, step: int, total_steps: int) -> None:
        if self.allocator is not None:
            self.allocator.before_step()

    def after_step(self, step: int, total_steps: int, optimizer: Optimizer) -> None:
        if self.allocator is not None:
            self.allocator.after_step(step, total_steps, optimizer)

    def is_eligible(self, step: int, total_steps: int) -> bool:
        """Whether the budget is final; once it is, it stays, even if the run is made longer."""
        return self.allocator is None or self.allocator.frozen

    def metrics(self) -> dict[str, float]:
        """Triplets and mean rank left at the last change of the mask."""
        metrics = {}
        if self.allocator is not None:
            metrics["budget"] = float(self.allocator.triplets_left)
            metrics["mean_rank"] = self.allocator.triplets_left / len(self.allocator.paths)
        return metrics

    def device_metrics(self) -> dict[str, Tensor]:
        """The penalty's terms."""
        return {} if self.penalty is None else self.penalty.last_terms

    def current_ranks(self) -> dict[str, int]:
        """Path of an update → triplets left; empty where ranks do not adapt."""
        return self.allocator.current_ranks() if self.allocator is not None else {}

    def state_dict(self) -> dict[str, Any]:
        return self.allocator.state_dict() if self.allocator is not None else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if self.allocator is not None:
            self.allocator.load_state_dict(state)
        else:
            super().load_state_dict(state)

    def parameter_counts(self, model: nn.Module) -> dict[str, int]:
        """``kept_count`` counts triplets with E ≠ 0; at the start, where none is, those of the
        budget.
        """
        updates = [
            update
            for layer in export.low_rank_layers(model).values()
            for _, update in layer.updates()
        ]
        trainable = sum(tensor.numel() for update in updates for tensor in update.parameters())
        remaining = [update.triplets_left() for update in updates]
        planned = self.rank if self._make_allocator is not None else self.start_rank
        if not any(remaining):  # at the start, where every E is 0
            remaining = [planned] * len(updates)
        sizes = [update.sizes(each or 0) for update, each in zip(updates, remaining, strict=True)]
        return {
            "trainable": trainable,
            "kept": sum(kept_count for kept_count, _ in sizes),
            "exported": sum(exported_count for _, exported_count in sizes),
        }

    def factors(self, model: nn.Module) -> dict[str, list[tuple[slice | None, Tensor, Tensor]]]:
        """See ``export.factors``."""
        return export.scaled_factors_by_layer(model)

    def magnitudes(self, model: nn.Module) -> dict[str, list[tuple[slice | None, Tensor]]]:
        """See ``export.magnitudes``."""
        return export.dora_magnitudes(model)

    def report_items(
        self, model: nn.Module, history: Mapping[str, tuple[Sequence[float], Sequence[float]]]
    ) -> Iterator[ReportItem]:
        """The budget's curve, and what the updates are by layer and module (see ``shown``)."""
        if self.allocator is not None and "budget" in history:
            yield report.budget_curve(history["budget"], self.allocator.budget.final)
        yield from report.update_grids(model)

    def peft_adapter(self, model: nn.Module) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """A LoRA or DoRA adapter."""
        tensors = peft_tensors(model)
        return peft_config(tensors), tensors

    def fold(self, model: nn.Module) -> int:
        """See ``export.fold``."""
        return export.fold_updates(model)


def weight_rows(weight: Tensor, rows: slice | None) -> Tensor:
    return weight if rows is None else weight[rows]
