"""The low-rank updates of a model in peft's form, and back: configuration and tensors.

    peft:    W + (lora_alpha / r) · lora_B · lora_A,   or / √r with use_rslora,   r and lora_alpha
             by module where rank_pattern and alpha_pattern name one; DoRA's m as
             lora_magnitude_vector
    to_peft  scale 1 (alpha = r): pruned triplets, principal starts, rsLoRA and slices of a fused
             matrix all become plain pairs of their own rank; a module with none left is left out

Tensors are named ``base_model.model.<path>.lora_A.weight`` (see ``methods.peft_format``).
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
from bertft.methods.component import MethodComponent, ParamGroup
from bertft.methods.low_rank import export
from bertft.methods.low_rank.linear import LowRankLinear
from bertft.methods.low_rank.lora import DoRA, LoRA
from bertft.methods.peft_format import PREFIX, linear_layer, parts_by_layer, unfitting
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
    """``settings`` and ``tensors`` are those of adapter_config.json and its weights."""
    return ImportedLowRank(settings, tensors)


class ImportedLowRank(MethodComponent):
    """The updates of an adapter that was trained elsewhere."""

    name = "low_rank"

    def __init__(self, settings: Mapping[str, Any], tensors: dict[str, Tensor]) -> None:
        self.settings, self.tensors = settings, tensors

    def attach(self, model: nn.Module) -> None:
        attach_peft(model, self.settings, self.tensors)

    def param_groups(self, model: nn.Module) -> Iterator[ParamGroup]:
        return iter(())

    def parameter_counts(self, model: nn.Module) -> dict[str, int]:
        parameter_count = sum(
            parameter.numel()
            for layer in export.low_rank_layers(model).values()
            for parameter in layer.adapter.parameters()
        )
        return {"trainable": parameter_count, "kept": parameter_count, "exported": parameter_count}

    def peft_adapter(self, model: nn.Module) -> tuple[dict[str, Any], dict[str, Tensor]]:
        tensors = peft_tensors(model)
        return peft_config(tensors), tensors

    def fold(self, model: nn.Module) -> int:
        return export.fold_updates(model)


_UPDATE_NAME = "lora_A|lora_B|lora_magnitude_vector"

# What a configuration may say beside rank and scale without changing what the weights mean.
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
    """The updates of ``model`` as peft's tensors, in fp32. UsageError if none is left."""
    layers, magnitudes = export.low_rank_layers(model), export.dora_magnitudes(model)
    tensors: dict[str, Tensor] = {}
    for path, layer_factors in export.scaled_factors_by_layer(model).items():
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
            "no low-rank update is left: every one was pruned",
            where="run",
            hint="bertft merge writes the model itself",
        )
    return {name: tensor.detach().cpu() for name, tensor in tensors.items()}


def _expand_rows(up: Tensor, rows: slice | None, layer: LowRankLinear) -> Tensor:
    """B' [rows, r] among the rows of the whole matrix, the others 0: [out, r]."""
    if rows is None:
        return up
    all_rows = up.new_zeros(layer.out_features, up.shape[1])
    all_rows[rows] = up
    return all_rows


def peft_config(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The keys of peft's LoraConfig that describe ``peft_tensors``."""
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
    """Put the updates of a LoRA adapter beside the layers of ``model``; how many.

    What is no update (a head, biases) is copied into the parameter of its name. DataError for a
    kind of adapter that is not LoRA or DoRA over unchanged base weights, or that does not fit.
    """
    check_peft_adapter(settings)
    for name in tensors:
        path, _, embedding = name.removeprefix(PREFIX).partition(".lora_embedding_")
        if embedding:
            raise DataError(
                f"an update of the embedding {path} is not known here",
                hint="Merge it with peft, and give the merged folder",
            )
    replacements: dict[nn.Module, nn.Module] = {}
    for path, update_tensors in parts_by_layer(model, tensors, _UPDATE_NAME).items():
        layer = linear_layer(model, path)
        update = _build_update(
            layer, update_tensors, _update_scale(settings, path, update_tensors), path
        )
        replacements[layer] = LowRankLinear(layer, {"linear": (None, update)}, 0.0)
    replace_modules(model, replacements)
    return len(replacements)


def check_peft_adapter(settings: Mapping[str, Any]) -> None:
    """DataError for an adapter that is not LoRA or DoRA over unchanged base weights."""
    if settings.get("peft_type") != "LORA":
        raise DataError(
            f"adapters of peft_type {settings.get('peft_type')} are not supported",
            where="adapter_config.json",
            hint=f"Those that are read: {', '.join(sorted(readers_by_peft_type()))}",
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
            f"{', '.join(unsupported)} is not known here",
            where="adapter_config.json",
            hint="Merge it with peft, and give the merged folder",
        )


def _update_scale(
    settings: Mapping[str, Any], path: str, update_tensors: Mapping[str, Tensor]
) -> float:
    if "lora_A" not in update_tensors:
        raise DataError(f"has no lora_A of {path}")
    if update_tensors["lora_A"].ndim != 2:
        raise DataError(f"lora_A of {path} is no matrix")
    rank = update_tensors["lora_A"].shape[0]
    try:
        alpha = settings.get("lora_alpha", 8)
        patterns = settings.get("alpha_pattern") or {}
        if len(patterns) > _MOST_PATTERNS:
            raise ValueError(f"{len(patterns):,} patterns; the most is {_MOST_PATTERNS:,}")
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
        ) from None
    return scale


_MAX_SCALE = 1e6
_MOST_PATTERNS = 5_000  # one for each module of the largest encoders


def _pattern_matches(pattern: str, path: str) -> bool:
    """Whether a key of ``alpha_pattern`` is for the module ``path``: peft's own reading.

    ValueError for an expression whose search could take for ever, as a repeated group's can.
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
        raise unfitting(path, layer)
    update_class = LoRA if magnitude is None else DoRA
    update = update_class(weight, down.shape[0], scale)
    with torch.no_grad():
        update.A.copy_(down)
        update.B.copy_(up)
        if isinstance(update, DoRA) and magnitude is not None:
            update.magnitude.copy_(magnitude.flatten())
    return update.requires_grad_(False)
