"""Check that the weights of a folder are those of the encoder that its ``config.json`` describes.

transformers initializes missing weights at random and ignores weights without a place. A head or a
pooler may be new, but an encoder with a random norm, or without half of its layers, is an error.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from bertft.errors import UsageError
from bertft.models.source import ModelSource, local_model_folder

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = [
    "check_number_types",
    "check_weights",
    "first_non_finite",
]


def first_non_finite(tensors: Mapping[str, Tensor]) -> str | None:
    """The name of a tensor that contains NaN or infinity; None if there is none.

    Usually synchronizes with the device once, for the largest magnitude of all tensors. Integers
    count as finite.
    """
    floating = {
        name: tensor.detach()
        for name, tensor in tensors.items()
        if tensor.is_floating_point() and tensor.numel()
    }
    largest = torch.nn.utils.get_total_norm(list(floating.values()), norm_type=float("inf"))
    if bool(largest.isfinite()):
        return None
    return next((name for name, tensor in floating.items() if not tensor.isfinite().all()), None)


_MISMATCH_HINT = "Its config.json and weights belong to different models"
# Weights of an encoder that are not needed: buffers that older versions saved, poolers of heads
# without one, modules for pretraining.
_OPTIONAL_WEIGHTS = re.compile(
    r"pooler|position_ids|token_type_ids|inv_freq|embed_positions|contact_head|^funnel\.decoder\."
)
_WRAPPER_PREFIXES = {
    "module.": "as DistributedDataParallel saves them",
    "_orig_mod.": "as a compiled model saves them",
    "base_model.model.": "as peft saves them",
}


def check_weights(
    model: PreTrainedModel,
    source: ModelSource,
    missing: Collection[str],
    mismatched: Collection[str],
    unexpected: Collection[str],
) -> None:
    """UsageError unless files and model have the same encoder, with finite weights.

    Args:
        model: The loaded model.
        source: Where it was loaded from.
        missing: Parameters of the encoder without weights in the files.
        mismatched: Parameters of the encoder with weights of another shape.
        unexpected: Names in the files without a place in the model.
    """
    where = f"model.path={source.name}"
    prefix = f"{model.base_model_prefix}."
    missing_or_mismatched = {name for name in missing if "pooler" not in name} | set(mismatched)
    if missing_or_mismatched:
        _check_wrapper_prefix(missing_or_mismatched, unexpected, prefix, where)
        raise UsageError(
            f"the weights lack {min(missing_or_mismatched)}{_and_more(missing_or_mismatched)}, or"
            " have it in another shape",
            where=where,
            hint=_MISMATCH_HINT,
        )
    non_finite = first_non_finite(
        {name: weight for name, weight in model.named_parameters() if name.startswith(prefix)}
    )
    if non_finite is not None:
        raise UsageError(
            f"{non_finite} is not finite: all predictions would be NaN",
            where=where,
            hint="Use another copy of the model",
        )
    base_children = {name for name, _ in model.base_model.named_children()}
    unused = {
        name
        for name in unexpected
        if (name.startswith(prefix) or name.split(".")[0] in base_children)
        and not _OPTIONAL_WEIGHTS.search(name)
    }
    if unused:
        raise UsageError(
            f"the model has no place for the weights {min(unused)}{_and_more(unused)}",
            where=where,
            hint=f"{_MISMATCH_HINT}; check its number of layers and model_type",
        )


def check_number_types(source: ModelSource, build: Callable[..., PreTrainedModel]) -> None:
    """UsageError if a parameter is stored as integers or complex numbers, which would be cast.

    ``build`` returns the model; it is called on the meta device, and only if the files have such
    numbers.
    """
    from safetensors import SafetensorError, safe_open

    folder = local_model_folder(source)
    if folder is None:
        return
    kinds: dict[str, str] = {}
    for file in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(file, "pt") as opened:
                kinds |= {name: opened.get_slice(name).get_dtype() for name in opened.keys()}  # noqa: SIM118
        except (SafetensorError, OSError):
            continue  # loading reports the damage
    kinds = {
        name: kind
        for name, kind in kinds.items()
        if not _FLOATING.match(kind) and not name.endswith(("position_ids", "token_type_ids"))
    }
    if not kinds:
        return
    with torch.device("meta"):
        model = build()
    names, base = {name for name, _ in model.named_parameters()}, f"{model.base_model_prefix}."
    for name, kind in kinds.items():
        if names & {name, base + name}:
            raise UsageError(
                f"the weights {name} are stored as {kind}, not as floating-point numbers",
                where=f"model.path={source.name}",
                hint="Quantized weights are not supported: use the original model",
            )


_FLOATING = re.compile("F[0-9]|BF16")


def _and_more(names: Collection[str]) -> str:
    return f" and {len(names) - 1} more" if len(names) > 1 else ""


def _check_wrapper_prefix(
    lacking: Collection[str], unexpected: Collection[str], base_prefix: str, where: str
) -> None:
    """UsageError if a wrapper added the same prefix to every name."""
    expected_names = {*lacking, *(name.removeprefix(base_prefix) for name in lacking)}
    prefix_counts: Counter[str] = Counter()
    for name in unexpected:
        name_parts = name.split(".")
        for count in range(1, len(name_parts)):
            if ".".join(name_parts[count:]) in expected_names:
                prefix_counts[".".join(name_parts[:count]) + "."] += 1
                break
    if not prefix_counts:
        return
    prefix, count = prefix_counts.most_common(1)[0]
    if 2 * count < len(lacking):
        return
    saved_how = f", {_WRAPPER_PREFIXES[prefix]}" if prefix in _WRAPPER_PREFIXES else ""
    raise UsageError(
        f"the names of its weights begin with {prefix!r}{saved_how}",
        where=where,
        hint="Save the inner model with save_pretrained, or save the weights without the prefix, as"
        f" {{name.removeprefix({prefix!r}): tensor}}",
    )
