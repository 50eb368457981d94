"""The encoder's layers through torch.compile: a few graphs for all layers, batches and lengths.

Attention stays outside of them: it takes a batch apart by the lengths of its sequences, which no
two batches share, and has kernels of its own. Between two calls of it everything is one graph, with
the number of tokens as a symbol. Layers are compiled in their places, so that weights keep their
names. Passes without gradients run as they are: what training measures is what ``eval`` finds.
"""

from __future__ import annotations

import contextlib
from typing import Any

import torch

from bertft.errors import SystemResourceError, UsageError
from bertft.models.attention import ATTENTION_NAME, attention_forward
from bertft.models.families import encoder_family, encoder_layers

__all__ = ["compile_layers", "eager"]

_WHERE = "trainer.compile"
_BACKEND = "inductor"


def compile_layers(model: Any, device: torch.device) -> None:
    """Let every layer be compiled when it first runs.

    UsageError for an architecture whose attention or layers cannot be told apart,
    EnvironmentFailed where torch.compile does not work on ``device``.
    """
    from transformers import AttentionInterface

    family = encoder_family(model)
    if not family.uses_attention_interface:
        raise UsageError(
            f"the attention of a {family.model_type} model cannot be left out of a graph",
            where=_WHERE,
            hint="Set it to false",
        )
    try:
        layers = encoder_layers(model)
    except UsageError as error:
        raise UsageError(error.what, where=_WHERE, hint="Set it to false") from error
    _check_compiler(device)
    AttentionInterface.register(ATTENTION_NAME, torch.compiler.disable(attention_forward))
    # Training layers differ in few ways: whether gradients go on below, and what the top one takes.
    config: Any = torch._dynamo.config
    limit = "recompile_limit" if hasattr(config, "recompile_limit") else "cache_size_limit"  # 2.6
    setattr(config, limit, max(getattr(config, limit), 32))
    for layer in layers:
        layer.compile(dynamic=True, backend=_BACKEND)


def eager() -> contextlib.AbstractContextManager[Any]:
    """Inside, what was compiled runs as it was written."""
    return torch.compiler.set_stance("force_eager")


def _check_compiler(device: torch.device) -> None:
    """Compile a function of no use: it needs a C++ compiler, or Triton."""
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
