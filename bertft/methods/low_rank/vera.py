"""VeRA: ΔW = diag(b) · B · diag(d) · A, with A [r, in] and B [out, r] random, frozen and shared.

Only d [r] and b [out] train; b and so ΔW start at 0, d at ``d_initial``. A and B are
Kaiming-uniform. They are drawn once, in the largest shape of all adapted layers, from a seed of
their own, and each layer uses their first columns and rows. peft draws the same from that seed.

Kopiczko et al. 2023 (arXiv 2310.11454, §3).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from bertft.config.method import MethodConfig
from bertft.config.method_components.low_rank import LowRankConfig
from bertft.errors import DataError, UsageError
from bertft.methods.component import PeftAdapter
from bertft.methods.low_rank.component import LowRank, LowRankArguments, weight_rows
from bertft.methods.low_rank.fold import low_rank_layers
from bertft.methods.low_rank.lora import LowRankLinear, Update
from bertft.methods.low_rank.peft_format import ImportedLowRank
from bertft.methods.peft_format import (
    PREFIX,
    copy_and_group_tensors,
    find_linear_layer,
    refuse_fan_in_fan_out,
    shape_mismatch_error,
)
from bertft.models.linear_layers import TargetLayer, plain_path, replace_modules
from bertft.models.precision import at_least_fp32

__all__ = ["Projection", "VeRA", "VeRALowRank", "build", "from_peft"]

_MAX_RANK_FACTOR = 256  # times the width of a layer; a higher rank is a mistake
_SHARED = {"A": "base_model.vera_A", "B": "base_model.vera_B"}


def build(settings: LowRankConfig, method: MethodConfig, common: LowRankArguments) -> VeRALowRank:
    """The component; ``common``: arguments of every kind."""
    return VeRALowRank(settings.d_initial, settings.projection_seed, common)


def from_peft(settings: Mapping[str, Any], tensors: dict[str, Tensor]) -> ImportedVeRA:
    """The component of a VeRA adapter: entries of its adapter_config.json, and its tensors."""
    return ImportedVeRA(settings, tensors)


class Projection(nn.Module):
    """A [rank, columns] and B [rows, rank] of all layers, as buffers on the device of ``like``."""

    A: Tensor
    B: Tensor

    def __init__(self, rows: int, columns: int, rank: int, seed: int, like: Tensor) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        dtype = at_least_fp32(like.dtype)
        for name, shape in (("A", (rank, columns)), ("B", (rows, rank))):
            bound = math.sqrt(6 / shape[1])
            matrix = torch.empty(shape, device="cpu", dtype=torch.float32)
            matrix.uniform_(-bound, bound, generator=generator)
            self.register_buffer(name, matrix.to(like.device, dtype))


class VeRA(Update):
    """ΔW for ``weight`` [out, in].

    Args:
        weight: The frozen weight.
        projection: The matrices that all updates share.
        owns_projection: Whether the projection is a sub-module, which it is of one update.
        d_initial: The start of d.
    """

    groups: ClassVar = {"d": "/no_decay", "b": "/no_decay"}
    scale = 1.0

    def __init__(
        self, weight: Tensor, projection: Projection, owns_projection: bool, d_initial: float
    ) -> None:
        super().__init__()
        self.rank = len(projection.A)
        rows, self.columns = weight.shape
        self.d = nn.Parameter(projection.A.new_full((self.rank,), d_initial))
        self.b = nn.Parameter(projection.A.new_zeros(rows))
        if owns_projection:
            self.projection = projection
        # Not a sub-module in a tuple: its tensors are saved, counted and moved once.
        self._shared = (projection,)

    def factors(self) -> tuple[Tensor, Tensor]:
        """down [r, in] and up [out, r] with ΔW = up · down."""
        (shared,) = self._shared
        down = shared.A[:, : self.columns] * self.d[:, None]
        return down, shared.B[: len(self.b)] * self.b[:, None]

    @torch.no_grad()
    def scaled_factors(self) -> tuple[Tensor, Tensor]:
        return self.factors()


class VeRALowRank(LowRank):
    """The low-rank component whose updates share their matrices."""

    def __init__(self, d_initial: float, seed: int, common: LowRankArguments) -> None:
        super().__init__(start_rank=common["rank"], start="", **common)
        self.d_initial, self.seed = d_initial, seed

    def make_updates(self, targets: Sequence[TargetLayer]) -> list[Update]:
        weights = [weight_rows(target.module.weight, target.rows) for target in targets]
        projection = Projection(
            max(weight.shape[0] for weight in weights),
            max(weight.shape[1] for weight in weights),
            self.rank,
            self.seed,
            weights[0],
        )
        return [
            VeRA(weight, projection, number == 0, self.d_initial)
            for number, weight in enumerate(weights)
        ]

    def check_rank(self, target: TargetLayer) -> None:
        """Ranks above the width of the layer are useful here: d has as many entries."""
        width = min(weight_rows(target.module.weight, target.rows).shape)
        if self.rank > _MAX_RANK_FACTOR * width:
            raise UsageError(
                f"the rank {self.rank:,} is too high for {plain_path(target.path)}, a layer of"
                f" width {width}",
                where="method.rank",
                hint=f"Set it to at most {_MAX_RANK_FACTOR * width:,}",
            )

    def peft_adapter(self, model: nn.Module) -> PeftAdapter:
        """A VeRA adapter, or a LoRA adapter for fused matrices, whose roles have a d each."""
        return _adapter(model, self.seed) or super().peft_adapter(model)


class ImportedVeRA(ImportedLowRank):
    """The frozen updates of a VeRA adapter that was trained elsewhere."""

    def attach(self, model: nn.Module) -> None:
        """DataError if the adapter does not fit."""
        refuse_fan_in_fan_out(self.settings)
        unshared = {
            name: tensor for name, tensor in self.tensors.items() if name not in _SHARED.values()
        }
        vectors_by_layer = copy_and_group_tensors(model, unshared, "vera_lambda_b|vera_lambda_d")
        layers = {path: find_linear_layer(model, path) for path in vectors_by_layer}
        for path, vectors in vectors_by_layer.items():
            b, d = (vectors.get(f"vera_lambda_{letter}") for letter in "bd")
            if b is None or d is None or d.ndim != 1 or b.shape != (layers[path].out_features,):
                raise shape_mismatch_error(path, layers[path])
        if not vectors_by_layer:
            raise DataError("has no VeRA vectors", hint="Use a VeRA adapter of this base")
        ranks = {len(vectors["vera_lambda_d"]) for vectors in vectors_by_layer.values()}
        projection = self._projection(list(layers.values()), ranks)
        replacements: dict[nn.Module, nn.Module] = {}
        for number, (path, layer) in enumerate(layers.items()):
            update = VeRA(layer.weight, projection, number == 0, 0.0)
            with torch.no_grad():
                update.d.copy_(vectors_by_layer[path]["vera_lambda_d"])
                update.b.copy_(vectors_by_layer[path]["vera_lambda_b"])
            update.requires_grad_(False)
            replacements[layer] = LowRankLinear(layer, {"linear": (None, update)}, 0.0)
        replace_modules(model, replacements)

    def _projection(self, layers: Sequence[nn.Linear], ranks: set[int]) -> Projection:
        """The saved projection, or the one of the adapter's seed if none was saved."""
        rows = max(layer.out_features for layer in layers)
        columns = max(layer.in_features for layer in layers)
        seed, rank = self.settings.get("projection_prng_key", 0), max(ranks)
        if type(seed) is not int or not 0 <= seed < 1 << 63:
            raise DataError(
                f"invalid value for 'projection_prng_key' ({seed!r})",
                where="adapter_config.json",
                hint="Set it to a whole number from 0",
            )
        saved = {letter: self.tensors.get(name) for letter, name in _SHARED.items()}
        a, b = saved["A"], saved["B"]
        if a is None or b is None:
            is_valid = a is None and b is None  # not saved: drawn from the seed
        else:
            is_valid = (
                a.ndim == b.ndim == 2
                and len(a) == b.shape[1] == rank
                and a.shape[1] >= columns
                and len(b) >= rows
            )
        if len(ranks) > 1 or not is_valid:
            raise DataError(
                "vera_A and vera_B do not fit its vectors", hint="Save the adapter with peft again"
            )
        projection = Projection(rows, columns, rank, seed, layers[0].weight)
        for letter, tensor in saved.items():
            if tensor is not None:
                setattr(projection, letter, tensor.to(getattr(projection, letter)))
        return projection

    def peft_adapter(self, model: nn.Module) -> PeftAdapter:
        adapter = _adapter(model, self.settings.get("projection_prng_key", 0))
        assert adapter is not None
        return adapter


def _adapter(model: nn.Module, seed: int) -> PeftAdapter | None:
    """Settings and tensors in peft's format; None if a layer has more than one update."""
    tensors: dict[str, Tensor] = {}
    updates: dict[str, VeRA] = {}
    for path, layer in low_rank_layers(model).items():
        ((rows, update), *others) = layer.updates()
        if others or rows is not None:
            return None
        assert isinstance(update, VeRA)
        updates[plain_path(path)] = update
        tensors[f"{PREFIX}{plain_path(path)}.vera_lambda_b"] = update.b
        tensors[f"{PREFIX}{plain_path(path)}.vera_lambda_d"] = update.d
    (projection,) = next(iter(updates.values()))._shared
    tensors |= {name: getattr(projection, letter) for letter, name in _SHARED.items()}
    settings = {
        "peft_type": "VERA",
        "r": len(projection.A),
        "target_modules": sorted(updates),
        "projection_prng_key": seed,
        "save_projection": True,
        "vera_dropout": 0.0,
        "fan_in_fan_out": False,
        "bias": "none",
        "init_weights": True,
        "inference_mode": True,
    }
    return settings, {
        name: tensor.detach().float().cpu().contiguous() for name, tensor in tensors.items()
    }
