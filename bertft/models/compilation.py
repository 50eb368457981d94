"""Compile the encoder's layers with torch.compile: a few graphs for all layers and lengths.

Attention is excluded: it splits a batch by the lengths of its sequences, which differ in every
batch, and has kernels of its own. Everything between two attention calls is one graph, with a
symbolic number of tokens. Layers are compiled in place, so that weights keep their names. Passes
without gradients run eagerly, so that evaluation in training equals ``bertft eval``.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import torch

from bertft.errors import SystemResourceError, UsageError
from bertft.models.attention import ATTENTION_NAME, attention_forward
from bertft.models.families import encoder_family, encoder_layers

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["compile_layers", "eager"]

_WHERE = "trainer.compile"
_BACKEND = "inductor"


def compile_layers(model: PreTrainedModel, device: torch.device) -> None:
    """Compile every layer, on its first call.

    Raises:
        UsageError: The architecture's attention or layers cannot be separated.
        SystemResourceError: torch.compile does not work on ``device``.
    """
    from transformers import AttentionInterface

    family = encoder_family(model)
    if not family.uses_attention_interface:
        raise UsageError(
            f"torch.compile is not supported for {family.model_type} models",
            where=_WHERE,
            hint="Set it to false",
        )
    try:
        layers = encoder_layers(model)
    except UsageError as error:
        raise UsageError(
            f"torch.compile is not supported for {family.model_type} models: their layers share"
            " weights, or are not one list of layers",
            where=_WHERE,
            hint="Set it to false",
        ) from error
    _check_compiler(device)
    AttentionInterface.register(ATTENTION_NAME, torch.compiler.disable(attention_forward))
    # Training layers differ in few ways: whether lower layers need gradients, and token selection.
    config: Any = torch._dynamo.config
    config.recompile_limit = max(config.recompile_limit, 32)
    for layer in layers:
        layer.compile(dynamic=True, backend=_BACKEND)


def eager() -> contextlib.AbstractContextManager[Any]:
    """A context in which compiled layers run eagerly."""
    return torch.compiler.set_stance("force_eager")


def _check_compiler(device: torch.device) -> None:
    """SystemResourceError if a small function does not compile, which needs C++ or Triton."""
    try:
        torch.compile(_probe_function, backend=_BACKEND)(torch.ones(8, device=device))
    except Exception as error:
        reason = str(getattr(error, "inner_exception", error)).strip().split("\n")[0]
        raise SystemResourceError(
            f"torch.compile does not work here: {reason}",
            where=_WHERE,
            hint="Set it to false; on a CPU it needs a C++ compiler, on CUDA Triton",
        ) from error


def _probe_function(x: torch.Tensor) -> torch.Tensor:
    return (x + 1).relu() * 2
