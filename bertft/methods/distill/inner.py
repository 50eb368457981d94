"""Which inner states of student and teacher are compared.

Hidden state 0 stands after the embeddings and is compared too; state i + 1 follows layer i.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bertft.config.parts.distill import Settings
from bertft.errors import UsageError
from bertft.methods.distill.layers import layer_map
from bertft.models.families import Family, family_of
from bertft.models.trace import Trace

__all__ = ["Inner", "match"]

Pair = tuple[int, int]  # the student's number, the teacher's


@dataclass(frozen=True)
class Inner:
    """``hidden``: pairs of states; ``attention``, ``relation``: pairs of layers, from 0."""

    hidden: tuple[Pair, ...] = ()
    attention: tuple[Pair, ...] = ()
    relation: Pair | None = None
    heads: int = 0  # of the relations

    def traces(self) -> tuple[Trace, Trace] | None:
        """What a pass of the student and of the teacher shall leave; None: nothing."""
        pairs = [*self.attention, *([self.relation] if self.relation else [])]
        if not pairs and not self.hidden:
            return None
        mine, theirs = (frozenset(pair[side] for pair in pairs) for side in (0, 1))
        states = bool(self.hidden)
        return Trace(mine, states), Trace(theirs, states)


def match(settings: Settings, student: Any, teacher: Any) -> Inner:
    """What the weights above 0 ask for, of two transformers models. UsageError if it cannot be."""
    mine, theirs = family_of(student), family_of(teacher)
    if not (settings.hidden_weight or settings.attention_weight or settings.relation_weight):
        return Inner()
    pairs = list(enumerate(layer_map(settings.layer_map, mine.layers, theirs.layers)))
    hidden = [(0, 0), *((s + 1, t + 1) for s, t in pairs)] if settings.hidden_weight else []
    _check_interface(settings, mine, theirs)
    if settings.attention_weight:
        counts = [each.config.num_attention_heads for each in (student, teacher)]
        if counts[0] != counts[1]:
            raise UsageError(
                f"the student has {counts[0]} attention heads and the teacher {counts[1]}",
                where="method.distill.attention_weight",
                hint="Take relation_weight, whose heads may differ",
            )
    relation, heads = None, 0
    if settings.relation_weight:
        last = theirs.layers - 1
        layer = last if settings.relation_layer is None else settings.relation_layer
        if layer > last:
            raise UsageError(
                f"the teacher has no layer {layer}", where="method.distill.relation_layer",
                hint=f"Its layers are 0 to {last}",
            )  # fmt: skip
        heads = settings.relation_heads or int(teacher.config.num_attention_heads)
        relation = (mine.layers - 1, layer)
        for family in (mine, theirs):
            if family.width % heads:
                raise UsageError(
                    f"{heads} heads do not divide a width of {family.width}",
                    where="method.distill.relation_heads",
                    hint=f"Give a number that divides both {mine.width} and {theirs.width}",
                )
    attention = tuple(pairs) if settings.attention_weight else ()
    return Inner(tuple(hidden), attention, relation, heads)


def _check_interface(settings: Settings, *families: Family) -> None:
    for name in ("attention_weight", "relation_weight"):
        for family in families:
            if getattr(settings, name) and not family.interface:
                raise UsageError(
                    f"the attention of a {family.model_type} model cannot be looked into",
                    where=f"method.distill.{name}", hint="Set it to 0; hidden_weight works",
                )  # fmt: skip
