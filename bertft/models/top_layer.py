"""The top layer behind its attention, for those tokens alone that the head is asked about.

Behind the attention of a layer every token goes its own way: projection, feed-forward, norms. A
classifier looks at the first token of each sequence, masked language modelling at the masked ones:
of all others the top layer needs keys and values and no more. The rest of it, three quarters of its
products, is left out for them; what is computed is what it would have been.

The model stays as it is: a hook in its top layer takes the tokens out. Where an architecture has no
known place for one, all tokens go through.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from bertft.errors import UsageError
from bertft.models.families import layers_of
from bertft.models.sequences import Sequences

__all__ = ["narrow"]


def narrow(model: Any) -> bool:
    """Let the top layer keep to ``sequences.asked``, where a pass has some; False: it cannot.

    Its output is [1, K, H] then, and ``sequences.narrowed`` true.
    """
    try:
        top = layers_of(model)[-1]
    except UsageError:
        return False
    now: dict[str, Sequences | None] = {}  # of the pass that is in the layer

    def begin(_: nn.Module, __: Any, kwargs: Mapping[str, Any]) -> None:
        now["sequences"] = kwargs.get("sequences")

    def take(values: Tensor) -> Tensor:
        sequences = now.get("sequences")
        if sequences is None or sequences.asked is None:
            return values
        sequences.narrowed = True
        return values.flatten(0, 1).index_select(0, sequences.asked).unsqueeze(0)

    output = getattr(getattr(top, "attention", None), "output", None)
    norm = getattr(top, "sa_layer_norm", None)
    if isinstance(output, nn.Module) and _names(output) == ["hidden_states", "input_tensor"]:
        # BERT and its kin: what attention gave, and what is added to it behind a projection.
        output.register_forward_pre_hook(lambda _, values: tuple(map(take, values)))
    elif isinstance(norm, nn.LayerNorm):  # DistilBERT: behind both
        norm.register_forward_hook(lambda _, __, value: take(value))
    else:
        return False
    top.register_forward_pre_hook(begin, with_kwargs=True)
    return True


def _names(module: nn.Module) -> list[str]:
    return list(inspect.signature(module.forward).parameters)
