"""LoRA adapters in peft's format, written and read: configuration and tensors.

    W + (lora_alpha / r) · lora_B · lora_A,   or lora_alpha / √r with use_rslora

rank_pattern and alpha_pattern state r and lora_alpha of single modules; lora_magnitude_vector is
DoRA's m. Written adapters have scale 1 (lora_alpha = r): pruned triplets, principal starts, rsLoRA
and slices of a fused matrix become plain pairs of their own rank. Modules without a triplet are
left out. Tensors are named ``base_model.model.<path>.lora_A.weight`` (``methods.peft_format``).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from bertft.config.registry import readers_by_peft_type
from bertft.errors import DataError, UsageError
from bertft.methods.component import MethodComponent, NamedParameter, PeftAdapter
from bertft.methods.low_rank.fold import (
    dora_magnitudes,
    fold_updates,
    low_rank_layers,
    scaled_factors_by_layer,
)
from bertft.methods.low_rank.lora import DoRA, LoRA, LowRankLinear
from bertft.methods.peft_format import (
    PREFIX,
    copy_and_group_tensors,
    find_linear_layer,
    shape_mismatch_error,
)
from bertft.models.linear_layers import replace_modules

__all__ = [
    "ImportedLowRank",
    "attach_peft",
    "check_peft_adapter",
    "from_peft",
    "peft_config",
    "peft_tensors",
]


def from_peft(settings: Mapping[str, Any], tensors: dict[str, Tensor]) -> ImportedLowRank:
    """The component of a LoRA adapter: entries of its adapter_config.json, and its tensors."""
    return ImportedLowRank(settings, tensors)


class ImportedLowRank(MethodComponent):
    """The frozen updates of an adapter that was trained elsewhere."""

    name = "low_rank"

    def __init__(self, settings: Mapping[str, Any], tensors: dict[str, Tensor]) -> None:
        self.settings, self.tensors = settings, tensors

    def attach(self, model: nn.Module) -> None:
        attach_peft(model, self.settings, self.tensors)

    def named_parameters(self, model: nn.Module) -> Iterator[NamedParameter]:
        for path, layer in low_rank_layers(model).items():
            yield from layer.adapter.named_parameters(f"{path}.adapter")

    def peft_adapter(self, model: nn.Module) -> PeftAdapter:
        tensors = peft_tensors(model)
        return peft_config(tensors), tensors

    def fold(self, model: nn.Module) -> int:
        return fold_updates(model)


_UPDATE_NAME = "lora_A|lora_B|lora_magnitude_vector"

# Starts that leave the base weights unchanged.
_INITS_KEEPING_BASE = (True, False, "gaussian", "orthogonal", "eva")
_UNSUPPORTED_SETTINGS = (
    "fan_in_fan_out",
    "lora_bias",
    "layer_replication",
    "target_parameters",
    "use_qalora",
    "use_bdlora",
    "alora_invocation_tokens",
    "trainable_token_indices",
    "megatron_config",
    "arrow_config",
    "kasa_config",
    "monteclora_config",
)


def peft_tensors(model: nn.Module) -> dict[str, Tensor]:
    """The updates of ``model`` as peft's tensors, in fp32. UsageError if every one was pruned."""
    layers, magnitudes = low_rank_layers(model), dora_magnitudes(model)
    tensors: dict[str, Tensor] = {}
    for path, layer_factors in scaled_factors_by_layer(model).items():
        layer = layers[path]
        down = torch.cat([down for _, down, _ in layer_factors])
        up = torch.cat([_expand_rows(up, rows, layer) for rows, _, up in layer_factors], 1)
        tensors[f"{PREFIX}{path}.lora_A.weight"] = down.float().contiguous()
        tensors[f"{PREFIX}{path}.lora_B.weight"] = up.float().contiguous()
        if path in magnitudes:
            row_norms = torch.linalg.vector_norm(layer.weight.detach().float(), dim=1)
            for rows, magnitude in magnitudes[path]:
                row_norms[slice(None) if rows is None else rows] = magnitude.float()
            tensors[f"{PREFIX}{path}.lora_magnitude_vector"] = row_norms
    if not tensors:
        raise UsageError(
            "every low-rank update was pruned: there is no adapter to write",
            where="run",
            hint="Write the model itself with bertft merge",
        )
    return {name: tensor.detach().cpu() for name, tensor in tensors.items()}


def _expand_rows(up: Tensor, rows: slice | None, layer: LowRankLinear) -> Tensor:
    """B' [rows, r] of some rows → [out, r], 0 in the other rows."""
    if rows is None:
        return up
    all_rows = up.new_zeros(layer.out_features, up.shape[1])
    all_rows[rows] = up
    return all_rows


def peft_config(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The entries of peft's LoraConfig that describe ``peft_tensors``."""
    suffix = ".lora_A.weight"
    ranks = {
        name.removeprefix(PREFIX).removesuffix(suffix): tensor.shape[0]
        for name, tensor in tensors.items()
        if name.endswith(suffix)
    }
    common_rank, _ = Counter(ranks.values()).most_common(1)[0]
    other_ranks = {path: rank for path, rank in ranks.items() if rank != common_rank}
    return {
        "peft_type": "LORA",
        "r": common_rank,
        "lora_alpha": common_rank,
        "rank_pattern": other_ranks,
        "alpha_pattern": other_ranks,
        "target_modules": sorted(ranks),
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "init_lora_weights": True,
        "use_rslora": False,
        "use_dora": any(name.endswith("magnitude_vector") for name in tensors),
        "inference_mode": True,
    }


def attach_peft(model: nn.Module, settings: Mapping[str, Any], tensors: dict[str, Tensor]) -> int:
    """Add the updates of a LoRA adapter to the layers of ``model``.

    Other tensors (a head, biases) are copied into the parameter of their name.

    Returns:
        The number of adapted layers.

    Raises:
        DataError: It is not LoRA or DoRA over unchanged base weights, or does not fit the model.
    """
    check_peft_adapter(settings)
    for name in tensors:
        path, _, embedding = name.removeprefix(PREFIX).partition(".lora_embedding_")
        if embedding:
            raise DataError(
                f"the update of the embedding {path} is not supported",
                hint="Merge the adapter with peft, and use the merged folder",
            )
    replacements: dict[nn.Module, nn.Module] = {}
    for path, update_tensors in copy_and_group_tensors(model, tensors, _UPDATE_NAME).items():
        layer = find_linear_layer(model, path)
        scale = _update_scale(settings, path, update_tensors)
        update = _build_update(layer, update_tensors, scale, path)
        replacements[layer] = LowRankLinear(layer, {"linear": (None, update)}, 0.0)
    replace_modules(model, replacements)
    return len(replacements)


def check_peft_adapter(settings: Mapping[str, Any]) -> None:
    """DataError for an adapter that is not LoRA or DoRA over unchanged base weights."""
    if settings.get("peft_type") != "LORA":
        raise DataError(
            f"adapters of peft_type {settings.get('peft_type')} are not supported",
            where="adapter_config.json",
            hint=f"Supported: {', '.join(sorted(readers_by_peft_type()))}",
        )
    init = settings.get("init_lora_weights", True)
    if init not in _INITS_KEEPING_BASE:
        raise DataError(
            f"init_lora_weights={init!r} changed the base weights beneath the adapter",
            where="adapter_config.json",
            hint="Save it with peft's path_initial_model_for_weight_conversion",
        )
    unsupported = [name for name in _UNSUPPORTED_SETTINGS if settings.get(name)]
    if unsupported:
        raise DataError(
            f"{', '.join(unsupported)} is not supported",
            where="adapter_config.json",
            hint="Merge the adapter with peft, and use the merged folder",
        )


def _update_scale(
    settings: Mapping[str, Any], path: str, update_tensors: Mapping[str, Tensor]
) -> float:
    if "lora_A" not in update_tensors:
        raise DataError(f"has no lora_A of {path}", hint="Save the adapter with peft again")
    if update_tensors["lora_A"].ndim != 2:
        raise DataError(
            f"lora_A of {path} is not a matrix", hint="Save the adapter with peft again"
        )
    rank = update_tensors["lora_A"].shape[0]
    try:
        alpha = settings.get("lora_alpha", 8)
        patterns = settings.get("alpha_pattern") or {}
        if len(patterns) > _MAX_PATTERNS:
            raise ValueError(f"{len(patterns):,} patterns; at most {_MAX_PATTERNS:,} are supported")
        for pattern, value in patterns.items():
            if _pattern_matches(pattern, path):
                alpha = value
                break
        scale = float(alpha / math.sqrt(rank) if settings.get("use_rslora") else alpha / rank)
        if not abs(scale) <= _MAX_SCALE:
            raise ValueError(f"the updates would be scaled by {scale}")
    except (
        TypeError,
        AttributeError,
        ZeroDivisionError,
        OverflowError,
        ValueError,
        re.error,
    ) as error:
        raise DataError(
            f"invalid value for 'lora_alpha' or 'alpha_pattern' ({error})",
            where="adapter_config.json",
            hint="Merge the adapter with peft, and use the merged folder",
        ) from None
    return scale


_MAX_SCALE = 1e6
_MAX_PATTERNS = 5_000  # one for each module of the largest encoders


def _pattern_matches(pattern: str, path: str) -> bool:
    """Whether a key of ``alpha_pattern`` matches the module ``path``, by peft's rule.

    ValueError for an expression whose search could take very long, such as a repeated group.
    """
    if len(pattern) > 200 or _COMPLEX_PATTERN.search(pattern) or len(_REPEATS.findall(pattern)) > 2:
        raise ValueError(f"the pattern {pattern[:40]!r} is too complex")
    return re.match(rf"(.*\.)?({pattern})$", path) is not None


_COMPLEX_PATTERN = re.compile(r"\)[*+{]|\\[1-9]|\(\?")
_REPEATS = re.compile(r"[*+{]")


def _build_update(
    layer: nn.Linear, update_tensors: Mapping[str, Tensor], scale: float, path: str
) -> LoRA:
    weight = layer.weight
    down, up = update_tensors["lora_A"], update_tensors.get("lora_B")
    magnitude = update_tensors.get("lora_magnitude_vector")
    if (
        up is None
        or down.shape[1] != weight.shape[1]
        or up.shape != (weight.shape[0], down.shape[0])
        or (magnitude is not None and magnitude.numel() != weight.shape[0])
    ):
        raise shape_mismatch_error(path, layer)
    update_class = LoRA if magnitude is None else DoRA
    update = update_class(weight, down.shape[0], scale)
    with torch.no_grad():
        update.A.copy_(down)
        update.B.copy_(up)
        if isinstance(update, DoRA) and magnitude is not None:
            update.magnitude.copy_(magnitude.flatten())
    return update.requires_grad_(False)
