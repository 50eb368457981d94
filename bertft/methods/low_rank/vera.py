"""VeRA: ΔW = diag(b) · B · diag(d) · A, with A [r, in] and B [out, r] random, frozen and shared.

Only d [r] and b [out] train; b starts at 0, so ΔW does too, and d at ``d_initial``. A and B are
Kaiming-uniform, drawn once in the greatest shape of all adapted layers from a seed of their own,
and each layer uses their first columns and rows: as in peft, so that one seed gives the same.

Kopiczko et al. 2023 (arXiv 2310.11454, §3).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from bertft.config.method_components.low_rank import LowRankConfig
from bertft.errors import DataError, UsageError
from bertft.methods.low_rank import export
from bertft.methods.low_rank.component import LowRank, weight_rows
from bertft.methods.low_rank.linear import LowRankLinear
from bertft.methods.low_rank.peft_format import ImportedLowRank
from bertft.methods.low_rank.update import Update, at_least_fp32
from bertft.methods.peft_format import PREFIX, linear_layer, parts_by_layer, unfitting
from bertft.models.linear_layers import TargetLayer, plain_path, replace_modules

__all__ = ["Projection", "VeRA", "VeRAPart", "build", "from_peft"]

_MOST_RANKS = 256  # times the width of a layer; beyond it a rank is a slip
_SHARED = {"A": "base_model.vera_A", "B": "base_model.vera_B"}


def build(settings: LowRankConfig, method: Any, common: Mapping[str, Any]) -> VeRAPart:
    """``common``: what every kind of low-rank component is built from."""
    return VeRAPart(settings.d_initial, settings.projection_seed, **common)


def from_peft(settings: Mapping[str, Any], tensors: dict[str, Tensor]) -> AttachedVeRA:
    """``settings`` and ``tensors`` are those of adapter_config.json and its weights."""
    return AttachedVeRA(settings, tensors)


class Projection(nn.Module):
    """A [rank, columns] and B [rows, rank] of all layers, as buffers."""

    A: Tensor
    B: Tensor

    def __init__(self, rows: int, columns: int, rank: int, seed: int, like: Tensor) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        kind = at_least_fp32(like.dtype)
        for name, shape in (("A", (rank, columns)), ("B", (rows, rank))):
            bound = math.sqrt(6 / shape[1])
            drawn = torch.empty(shape, device="cpu", dtype=torch.float32)
            drawn.uniform_(-bound, bound, generator=generator)
            self.register_buffer(name, drawn.to(like.device, kind))


class VeRA(Update):
    """ΔW for ``weight`` [out, in]. The first of a model's updates owns the ``projection``."""

    groups: ClassVar = {"d": "/no_decay", "b": "/no_decay"}
    scale = 1.0

    def __init__(
        self, weight: Tensor, projection: Projection, owns: bool, d_initial: float
    ) -> None:
        super().__init__()
        self.rank = len(projection.A)
        rows, self.columns = weight.shape
        self.d = nn.Parameter(projection.A.new_full((self.rank,), d_initial))
        self.b = nn.Parameter(projection.A.new_zeros(rows))
        if owns:
            self.projection = projection
        # In a tuple it is no sub-module: the tensors are saved, counted and moved once.
        self._shared = (projection,)

    def factors(self) -> tuple[Tensor, Tensor]:
        """down [r, in] and up [out, r] with ΔW = up · down."""
        (shared,) = self._shared
        down = shared.A[:, : self.columns] * self.d[:, None]
        return down, shared.B[: len(self.b)] * self.b[:, None]

    @torch.no_grad()
    def scaled_factors(self) -> tuple[Tensor, Tensor]:
        return self.factors()


class VeRAPart(LowRank):
    """The low-rank component whose updates share their matrices."""

    def __init__(self, d_initial: float, seed: int, **common: Any) -> None:
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

    def check_room(self, target: TargetLayer) -> None:
        """A rank above the layer's width is useful here: d has as many entries."""
        width = min(weight_rows(target.module.weight, target.rows).shape)
        if self.rank > _MOST_RANKS * width:
            raise UsageError(
                f"rank {self.rank:,} is too high for {plain_path(target.path)}, a layer of"
                f" width {width}",
                where="method.rank",
                hint=f"Take at most {_MOST_RANKS * width:,}",
            )

    def peft_adapter(self, model: nn.Module) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """A VeRA adapter; of a fused matrix, whose roles have a d each, a LoRA adapter."""
        return _adapter(model, self.seed) or super().peft_adapter(model)


class AttachedVeRA(ImportedLowRank):
    """The updates of a VeRA adapter that was read in peft's format."""

    def attach(self, model: nn.Module) -> None:
        """DataError for an adapter that does not fit."""
        if self.settings.get("fan_in_fan_out"):
            raise DataError(
                "fan_in_fan_out is not supported",
                where="adapter_config.json",
                hint="Merge it with peft, and give the merged folder",
            )
        own = {name: each for name, each in self.tensors.items() if name not in _SHARED.values()}
        parts = parts_by_layer(model, own, "vera_lambda_b|vera_lambda_d")
        layers = {path: linear_layer(model, path) for path in parts}
        for path, each in parts.items():
            b, d = (each.get(f"vera_lambda_{letter}") for letter in "bd")
            if b is None or d is None or d.ndim != 1 or b.shape != (layers[path].out_features,):
                raise unfitting(path, layers[path])
        if not parts:
            raise DataError("it has no update", hint="Does the adapter belong to this base?")
        projection = self._projection(
            list(layers.values()), {len(each["vera_lambda_d"]) for each in parts.values()}
        )
        new: dict[nn.Module, nn.Module] = {}
        for number, (path, layer) in enumerate(layers.items()):
            update = VeRA(layer.weight, projection, number == 0, 0.0)
            with torch.no_grad():
                update.d.copy_(parts[path]["vera_lambda_d"])
                update.b.copy_(parts[path]["vera_lambda_b"])
            update.requires_grad_(False)
            new[layer] = LowRankLinear(layer, {"linear": (None, update)}, 0.0)
        replace_modules(model, new)

    def _projection(self, layers: Sequence[nn.Linear], ranks: set[int]) -> Projection:
        """The saved one; where none was saved, the one that the seed gives."""
        rows = max(layer.out_features for layer in layers)
        columns = max(layer.in_features for layer in layers)
        seed, rank = self.settings.get("projection_prng_key", 0), max(ranks)
        if type(seed) is not int or not 0 <= seed < 1 << 63:
            raise DataError(
                f"invalid value for 'projection_prng_key' ({seed!r})", where="adapter_config.json"
            )
        saved = {letter: self.tensors.get(name) for letter, name in _SHARED.items()}
        a, b = saved["A"], saved["B"]
        if (
            len(ranks) > 1
            or (a is None) != (b is None)
            or not (
                a is None
                or b is None
                or (
                    a.ndim == b.ndim == 2
                    and len(a) == b.shape[1] == rank
                    and a.shape[1] >= columns
                    and len(b) >= rows
                )
            )
        ):
            raise DataError(
                "vera_A and vera_B do not fit its vectors",
                hint="Does the adapter belong to this base?",
            )
        projection = Projection(rows, columns, rank, seed, layers[0].weight)
        for letter, tensor in saved.items():
            if tensor is not None:
                setattr(projection, letter, tensor.to(getattr(projection, letter)))
        return projection

    def peft_adapter(self, model: nn.Module) -> tuple[dict[str, Any], dict[str, Tensor]]:
        adapter = _adapter(model, self.settings.get("projection_prng_key", 0))
        assert adapter is not None
        return adapter


def _adapter(model: nn.Module, seed: int) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
    """Settings and tensors in peft's format; None where a layer has more than one update."""
    tensors: dict[str, Tensor] = {}
    updates: dict[str, VeRA] = {}
    for path, layer in export.low_rank_layers(model).items():
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
        name: each.detach().float().cpu().contiguous() for name, each in tensors.items()
    }
