"""Which linear layer of an encoder plays which part in it.

    find_targets(model, ["query", "layer.0.output.dense"], "method.low_rank.targets")
        -> [Target(path, module, rows, role)]

A layer that another method has wrapped already (``models.wrapper``) counts as the layer.

A word is one of the roles query, key, value, attention_output, ffn_in, ffn_out; or all_linear;
or the end of a module's dotted name, cut at a dot: ``layer.1.output.dense`` is no end of
``layer.11.output.dense``. Roles are known for the encoders whose layers are named as in one of
``_FAMILIES``; elsewhere a role is read as a name like any other.

Only linear layers inside the encoder's list of layers are ever found: never the task head, a
pooler, or the projection of embeddings. A module that several layers share (ALBERT) comes once.
Where query, key and value are one matrix (ModernBERT's Wqkv), each is a slice of its rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from bertft.config.messages import did_you_mean, listing
from bertft.errors import UsageError
from bertft.models.wrapper import LinearWrapper

__all__ = ["ROLES", "Target", "encoder_linears", "find_targets"]

ROLES = ("query", "key", "value", "attention_output", "ffn_in", "ffn_out")
_FUSED = ("query", "key", "value")  # the order of the thirds of a fused matrix

# Ends of names, role by role in the order of ROLES; * stands for a layer's number.
_FAMILIES: Mapping[str, tuple[tuple[str, ...], ...]] = {
    # BERT, RoBERTa, XLM-R, CamemBERT, ELECTRA, RemBERT, ERNIE, RoFormer, Longformer, ...
    "bert": (
        ("attention.self.query",), ("attention.self.key",), ("attention.self.value",),
        ("attention.output.dense",), ("layer.*.intermediate.dense",), ("layer.*.output.dense",),
    ),
    "deberta-v2": (
        ("self.query_proj",), ("self.key_proj",), ("self.value_proj",),
        ("attention.output.dense",), ("layer.*.intermediate.dense",), ("layer.*.output.dense",),
    ),
    "distilbert": (("q_lin",), ("k_lin",), ("v_lin",), ("out_lin",), ("lin1",), ("lin2",)),
    "albert": (
        ("attention.query",), ("attention.key",), ("attention.value",),
        ("attention.dense",), ("ffn",), ("ffn_output",),
    ),
    "mpnet": (
        ("attn.q",), ("attn.k",), ("attn.v",), ("attn.o",),
        ("layer.*.intermediate.dense",), ("layer.*.output.dense",),
    ),
    "modernbert": (
        ("attn.Wqkv",), ("attn.Wqkv",), ("attn.Wqkv",), ("attn.Wo",), ("mlp.Wi",), ("mlp.Wo",),
    ),
    # EuroBERT, NomicBERT
    "llama": (
        ("self_attn.q_proj",), ("self_attn.k_proj",), ("self_attn.v_proj",), ("self_attn.o_proj",),
        ("mlp.gate_proj", "mlp.up_proj"), ("mlp.down_proj",),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Target:
    """A linear layer, or the ``rows`` of its weight [out, in] that play ``role``.

    ``role`` is one of ROLES, or "linear" where the layer plays none or several.
    """

    path: str
    module: nn.Linear | LinearWrapper
    rows: slice | None
    role: str


def find_targets(model: nn.Module, names: Sequence[str], where: str) -> list[Target]:
    """What ``names`` mean in ``model``, in its own order.

    UsageError for a name without meaning; ``where`` is the setting that gave the names.
    """
    linears = encoder_linears(model)
    roles = _roles(list(linears))
    chosen: dict[tuple[str, str], Target] = {}
    for name in names:
        found = list(_matches(name, linears, roles))
        if not found:
            raise _nothing(name, list(linears), bool(roles), where)
        chosen |= {(target.path, target.role): target for target in found}
    # A whole layer has its slices in it.
    whole = {target.path for target in chosen.values() if target.rows is None}
    order = {path: number for number, path in enumerate(linears)}
    return sorted(
        (each for each in chosen.values() if each.rows is None or each.path not in whole),
        key=lambda each: (order[each.path], each.rows.start if each.rows else 0),
    )


def encoder_linears(model: nn.Module) -> dict[str, nn.Linear | LinearWrapper]:
    """Path → linear layer, for those inside a list of layers of the base model, each once.

    Of a wrapped layer it is the outermost wrapper.

    Subclasses of nn.Linear are left out: their forward pass, or whoever reads their weight, is
    not known (nn.MultiheadAttention never calls its out_proj).
    """
    base = getattr(model, "base_model", model)
    inside = {id(module) for module in base.modules()}
    prefix = next(path for path, module in model.named_modules() if module is base)
    start = len(prefix.split(".")) if prefix else 0
    wrapped = {
        id(child)
        for module in base.modules()
        if isinstance(module, LinearWrapper)
        for child in module.modules()
        if child is not module
    }
    return {
        path: module
        for path, module in model.named_modules()
        if (type(module) is nn.Linear or isinstance(module, LinearWrapper))
        and id(module) in inside
        and id(module) not in wrapped
        and any(part.isdigit() for part in path.split(".")[start:])
    }


def _roles(paths: Sequence[str]) -> dict[str, list[str]]:
    """role → paths, as the first family says that has every role in this model; else empty."""
    for family in _FAMILIES.values():
        found = {
            role: [path for path in paths if any(_ends(path, end) for end in ends)]
            for role, ends in zip(ROLES, family, strict=True)
        }
        if all(found.values()):
            return found
    return {}


def _matches(
    name: str, linears: Mapping[str, nn.Linear | LinearWrapper], roles: Mapping[str, list[str]]
) -> Iterator[Target]:
    if name in roles:
        for path in roles[name]:
            module = linears[path]
            yield Target(path, module, _third(name, path, module.out_features, roles), name)
        return
    for path, module in linears.items():
        if name == "all_linear" or _ends(path, name):
            playing = [role for role, paths in roles.items() if path in paths]
            yield Target(path, module, None, playing[0] if len(playing) == 1 else "linear")


def _third(role: str, path: str, rows: int, roles: Mapping[str, list[str]]) -> slice | None:
    """The role's third of the rows, where query, key and value are the same matrix."""
    if role not in _FUSED or not all(path in roles[each] for each in _FUSED):
        return None
    place, size = _FUSED.index(role), rows // 3
    return slice(place * size, (place + 1) * size)


def _ends(path: str, end: str) -> bool:
    """Whether ``end`` is the end of ``path``, part by part; * is any number."""
    parts, wanted = path.split("."), end.split(".")
    return len(wanted) <= len(parts) and all(
        part == want or (want == "*" and part.isdigit())
        for part, want in zip(parts[-len(wanted) :], wanted, strict=True)
    )


def _nothing(name: str, paths: Sequence[str], known: bool, where: str) -> UsageError:
    last = sorted({path.rpartition(".")[2] for path in paths})
    if not last:
        return UsageError(
            "this model has no linear layers inside a list of layers",
            where=where,
            hint="Take a method that needs none, such as method=bitfit",
        )
    words = [*(ROLES if known else ()), "all_linear", *last]
    near = did_you_mean(name, words)
    if not near.startswith("did"):
        near = f"Roles: {', '.join(ROLES)}" if known else "Roles are not known for this model"
    return UsageError(
        f"{name!r} names no linear layer of this model (layers' last names: {listing(last)})",
        where=where,
        hint=f"{near[0].upper()}{near[1:]}",
    )
