"""The low-rank component: adds updates to linear layers, trains them, and folds or exports them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import TypedDict

from torch import Tensor, nn
from torch.optim import Optimizer

from bertft.config.method_components.low_rank import DATA_STARTS
from bertft.errors import UsageError
from bertft.methods.component import (
    ComponentState,
    MethodComponent,
    MetricHistory,
    NamedParameter,
    ParamGroup,
    PeftAdapter,
    RunPasses,
)
from bertft.methods.low_rank import report
from bertft.methods.low_rank.adalora import AdaLoRAPenalty, RankAllocator
from bertft.methods.low_rank.data_start import start_from_data
from bertft.methods.low_rank.fold import fold_updates, low_rank_layers
from bertft.methods.low_rank.lora import DoRA, LowRankLinear, Update
from bertft.methods.low_rank.peft_format import peft_config, peft_tensors
from bertft.methods.low_rank.svd_lora import SVDLoRA
from bertft.models.linear_layers import (
    LinearWrapper,
    TargetLayer,
    find_target_layers,
    replace_modules,
)
from bertft.tasks.report_items import ReportItem

__all__ = ["LowRank", "LowRankArguments", "weight_rows"]

_MAX_RANK_FACTOR = 4  # times the highest rank that ΔW can have; a higher one is a mistake
# No more vectors than the layer has.
_STARTS_LIMITED_BY_SHAPE = ("principal", "orthonormal", *DATA_STARTS)


class LowRankArguments(TypedDict):
    """Arguments of ``LowRank`` that every kind of update has."""

    targets: list[str]
    rank: int
    dropout: float
    learning_rate: float
    start_batches: int
    b_rate_ratio: float


class LowRank(MethodComponent):
    """Low-rank updates of the target layers.

    Args:
        targets: Names as of ``find_target_layers``.
        make_update: Makes the update of a weight [out, in].
        rank: The mean rank at the end.
        start_rank: The rank of the updates that ``make_update`` makes.
        start: How the updates start.
        start_batches: Batches for a start from data.
        dropout: Dropout rate of the input of the updates.
        learning_rate: The peak learning rate.
        b_rate_ratio: Learning rate of B, as a multiple.
        e_rate_ratio: Learning rate of E, as a multiple.
        make_allocator: Makes what adapts the ranks, from the updates by path.
        make_penalty: Makes the penalty of the updates.
    """

    name = "low_rank"
    attach_order = 20
    ineligible_reason = "ranks are still being pruned"

    def __init__(
        self,
        targets: Sequence[str],
        make_update: Callable[[Tensor], Update] | None = None,
        *,
        rank: int,
        start_rank: int,
        start: str,
        dropout: float,
        learning_rate: float,
        start_batches: int = 0,
        b_rate_ratio: float = 1.0,
        e_rate_ratio: float = 1.0,
        make_allocator: Callable[[dict[str, SVDLoRA]], RankAllocator] | None = None,
        make_penalty: Callable[[Sequence[SVDLoRA]], AdaLoRAPenalty] | None = None,
    ) -> None:
        self.targets, self.make_update = list(targets), make_update
        self.rank, self.start_rank, self.start = rank, start_rank, start
        self.dropout, self.learning_rate = dropout, learning_rate
        self.b_rate_ratio, self.e_rate_ratio = b_rate_ratio, e_rate_ratio
        self.start_batches = start_batches if start in DATA_STARTS else 0
        self._make_allocator, self._make_penalty = make_allocator, make_penalty
        self.allocator: RankAllocator | None = None
        self.penalty: AdaLoRAPenalty | None = None

    def attach(self, model: nn.Module) -> None:
        """UsageError if a target has no match, or the rank is too high for a layer."""
        targets = find_target_layers(model, self.targets, "method.low_rank.targets")
        for target in targets:
            self.check_rank(target)
        targets_by_layer: dict[nn.Linear | LinearWrapper, list[tuple[TargetLayer, Update]]]
        targets_by_layer = defaultdict(list)
        for target, update in zip(targets, self.make_updates(targets), strict=True):
            targets_by_layer[target.module].append((target, update))
        replacements: dict[nn.Module, nn.Module] = {}
        updates: dict[str, SVDLoRA] = {}
        for linear, pairs in targets_by_layer.items():
            adapters = {target.role: (target.rows, update) for target, update in pairs}
            has_dora = any(isinstance(update, DoRA) for _, update in adapters.values())
            if has_dora and isinstance(linear, LinearWrapper):
                raise UsageError(
                    f"DoRA does not support {pairs[0][0].path}, which another component of the"
                    " method has changed",
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

    def start_from_data(self, model: nn.Module, run_passes: RunPasses) -> None:
        """Align the updates with the data. NonFiniteError if a statistic is not finite."""
        start_from_data(model, self.start, run_passes)

    def make_updates(self, targets: Sequence[TargetLayer]) -> list[Update]:
        """The update of each target."""
        assert self.make_update is not None
        return [
            self.make_update(weight_rows(target.module.weight, target.rows)) for target in targets
        ]

    def check_rank(self, target: TargetLayer) -> None:
        """UsageError if the rank is too high for the layer."""
        rows, columns = weight_rows(target.module.weight, target.rows).shape
        layer, highest = f"{target.path}, a layer of {rows} × {columns}", min(rows, columns)
        setting, rank, advice = "method.rank", "rank", f"Set it to {highest} or less"
        if self.start_rank != self.rank:
            setting, rank = "method.initial_rank", "initial rank"
            advice += " (by default it is 1.5 × method.rank)"
            if self.rank > highest:
                advice = f"Set it and method.rank to {highest} or less"
        if self.start_rank > _MAX_RANK_FACTOR * highest:
            raise UsageError(
                f"the {rank} {self.start_rank:,} is too high for {layer}",
                where=setting,
                hint=f"{advice}: a higher rank adds nothing in this layer",
            )
        if self.start in _STARTS_LIMITED_BY_SHAPE and self.start_rank > highest:
            other = "gaussian" if self._make_penalty is not None else "zero_b"
            raise UsageError(
                f"the {rank} {self.start_rank:,} is above {highest}, the highest that"
                f" method.low_rank.start={self.start} supports in {layer}",
                where=setting,
                hint=f"{advice}, or set method.low_rank.start={other}",
            )

    def param_groups(self, model: nn.Module) -> Iterator[ParamGroup]:
        """One group per suffix in ``Update.groups``; one of B's own if its rate differs."""
        ratios = {"B": self.b_rate_ratio, "E": self.e_rate_ratio}
        grouped: dict[tuple[str, float], list[NamedParameter]] = defaultdict(list)
        for path, layer in low_rank_layers(model).items():
            for (_, update), role in zip(layer.updates(), layer.adapter, strict=True):
                for name, parameter in update.named_parameters():
                    suffix, ratio = update.groups[name], ratios.get(name, 1.0)
                    if not suffix and ratio != 1:
                        suffix = f"_{name.lower()}"
                    grouped[suffix, ratio].append((f"{path}.adapter.{role}.{name}", parameter))
        for (suffix, ratio), parameters in grouped.items():
            yield ParamGroup(
                self.name + suffix,
                tuple(parameters),
                self.learning_rate * ratio,
                use_weight_decay=not suffix.endswith("/no_decay"),
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
        """Whether the budget is final. It stays final, even if the run is extended."""
        return self.allocator is None or self.allocator.frozen

    def metrics(self) -> dict[str, float]:
        """Triplets and mean rank after the last pruning."""
        if self.allocator is None:
            return {}
        triplets = self.allocator.triplets_left
        return {"budget": float(triplets), "mean_rank": triplets / len(self.allocator.paths)}

    def module_values(self, model: nn.Module) -> dict[str, dict[str, float]]:
        """The rank of each update after pruning; nothing without pruning."""
        return report.kept_ranks(model) if self._make_allocator is not None else {}

    def device_metrics(self) -> dict[str, Tensor]:
        """The terms of the penalty."""
        return {} if self.penalty is None else self.penalty.last_terms

    def state_dict(self) -> ComponentState:
        return self.allocator.state_dict() if self.allocator is not None else {}

    def load_state_dict(self, state: ComponentState) -> None:
        if self.allocator is not None:
            self.allocator.load_state_dict(state)
        else:
            super().load_state_dict(state)

    def parameter_counts(self, model: nn.Module) -> dict[str, int]:
        """``kept`` counts triplets with E ≠ 0; at the start, where E is 0, those of the budget."""
        updates = [
            update for layer in low_rank_layers(model).values() for _, update in layer.updates()
        ]
        trainable = sum(tensor.numel() for update in updates for tensor in update.parameters())
        triplets = [update.triplets_left() for update in updates]
        if not any(triplets):
            planned = self.rank if self._make_allocator is not None else self.start_rank
            triplets = [planned] * len(updates)
        sizes = [update.sizes(left or 0) for update, left in zip(updates, triplets, strict=True)]
        return {
            "trainable": trainable,
            "kept": sum(stored for stored, _ in sizes),
            "exported": sum(exported for _, exported in sizes),
        }

    def report_items(self, model: nn.Module, history: MetricHistory) -> Iterator[ReportItem]:
        """The curve of the budget, and the updates by layer and module."""
        if self.allocator is not None and "budget" in history:
            yield report.budget_curve(history["budget"], self.allocator.budget.final)
        yield from report.update_grids(model)

    def peft_adapter(self, model: nn.Module) -> PeftAdapter:
        """A LoRA or DoRA adapter."""
        tensors = peft_tensors(model)
        return peft_config(tensors), tensors

    def fold(self, model: nn.Module) -> int:
        return fold_updates(model)


def weight_rows(weight: Tensor, rows: slice | None) -> Tensor:
    """The ``rows`` of ``weight``; None: all."""
    return weight if rows is None else weight[rows]
