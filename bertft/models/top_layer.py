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
import threading
import weakref
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from bertft.errors import UsageError
from bertft.models.families import layers_of
from bertft.models.sequences import Sequences

__all__ = ["narrow"]

_SUMS = ["hidden_states", "input_tensor"]  # what BERT's kin project, and what is added to it


def narrow(model: Any) -> bool:
    """Let the top layer keep to ``sequences.asked``, where a pass has some; False: it cannot.

    Its output is [1, K, H] then, and ``sequences.narrowed`` true.
    """
    try:
        top: Any = layers_of(model)[-1]
    except UsageError:
        return False
    if getattr(top, "chunk_size_feed_forward", 0) > 1:  # so many tokens at a time, none left over
        return False
    taken = _Taken()
    attention: Any = getattr(top, "attention", None)
    output: Any = getattr(attention, "output", None)
    norm = getattr(top, "sa_layer_norm", None)
    if _names(output) == _names(getattr(top, "output", None)) == _SUMS:
        output.register_forward_pre_hook(taken.of_both)
    elif isinstance(norm, nn.LayerNorm):  # DistilBERT adds the two outside of its attention
        norm.register_forward_hook(taken.of_sum)
    else:
        return False
    # Inside what gradient checkpointing runs again, which is the layer's forward without its hooks.
    attention.register_forward_pre_hook(taken.begin, with_kwargs=True)
    return True


class _Taken:
    """Hooks that take out the tokens asked about; each thread is in a pass of its own."""

    def __init__(self) -> None:
        self.now = threading.local()

    def begin(self, _: nn.Module, __: Any, kwargs: Mapping[str, Any]) -> None:
        # Not held: where memory runs out before it is asked for, the pass must be let go.
        sequences = kwargs.get("sequences")
        self.now.sequences = None if sequences is None else weakref.ref(sequences)

    def of_both(self, _: nn.Module, values: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        asked = self._asked()
        return values if asked is None else tuple(_take(each, asked) for each in values)

    def of_sum(self, _: nn.Module, __: Any, value: Tensor) -> Tensor:
        asked = self._asked()
        return value if asked is None else _take(value, asked)

    def _asked(self) -> Tensor | None:
        """Of the pass that is in the layer, which is forgotten."""
        pointer = getattr(self.now, "sequences", None)
        sequences: Sequences | None = None if pointer is None else pointer()
        self.now.sequences = None
        if sequences is None or sequences.asked is None:
            return None
        sequences.narrowed = True
        return sequences.asked

    def __getstate__(self) -> dict[str, Any]:  # a copy of a model is in no pass
        return {}

    def __setstate__(self, _: dict[str, Any]) -> None:
        self.now = threading.local()


def _take(values: Tensor, asked: Tensor) -> Tensor:
    return values.flatten(0, 1).index_select(0, asked).unsqueeze(0)


def _names(module: Any) -> list[str]:
    return list(inspect.signature(module.forward).parameters) if module is not None else []
