"""Find the linear layers of an encoder by role or name, and wrap them.

    find_target_layers(model, ["query", "layer.0.output.dense"], "method.low_rank.targets")
        -> [TargetLayer(path, module, rows, role), ...]

A name is a role (query, key, value, attention_output, ffn_in, ffn_out), all_linear, or the last
parts of a module's dotted name: ``output.dense`` matches ``layer.11.output.dense``. Roles are known
for encoders whose layers are named as in one of ``_ROLE_SUFFIXES``.

Only linear layers inside the encoder's list of layers are found: not the task head, a pooler, or
the projection of embeddings. A module that several layers share (ALBERT) is found once. If query,
key and value are one matrix (ModernBERT's Wqkv), each is a slice of its rows. A layer that another
method has wrapped in a ``LinearWrapper`` is found as its outermost wrapper.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bertft.errors import BertftError, UsageError
from bertft.utils.messages import closest_name, format_list

__all__ = [
    "ROLES",
    "LinearWrapper",
    "LowRankUpdate",
    "TargetLayer",
    "check_foldable",
    "encoder_linears",
    "find_target_layers",
    "plain_path",
    "replace_modules",
]


_LINEAR_ATTRIBUTES = ("weight", "bias", "in_features", "out_features")


@dataclass(frozen=True)
class LowRankUpdate:
    """The term ``scale`` · up · down · drop(x) of a linear layer's output.

    ``down`` [R, in] and ``up`` [out, R] are differentiable; ``dropout`` is the rate in training.
    """

    down: Tensor
    up: Tensor
    scale: float
    dropout: float


class LinearWrapper(nn.Module):
    """Base class of modules that replace a linear layer, or another wrapper, and change its output.

    ``weight``, ``bias``, ``in_features`` and ``out_features`` are those of the linear layer. Put
    trained parameters and persistent buffers into a sub-module called ``adapter``: checkpoints save
    both. Compute in the type of ``inner``'s output: under autocast it is half precision, while
    trained parameters are fp32.
    """

    casts_inputs = True  # accepts inputs of any type (see ``bertft.models.precision``)

    def __init__(self, inner: nn.Module | None = None) -> None:
        super().__init__()
        if inner is not None:
            self.inner = inner
            self.train(inner.training)

    def __getattr__(self, name: str) -> Any:
        inner = self.__dict__.get("_modules", {}).get("inner")
        if inner is not None and name in _LINEAR_ATTRIBUTES:
            return getattr(inner, name)
        return super().__getattr__(name)

    def forward(self, x: Tensor) -> Tensor:
        """The output of ``inner``; subclasses change it."""
        y: Tensor = self.inner(x)
        return y

    def low_rank_update(self) -> LowRankUpdate | None:
        """The update, if ``forward`` only adds a low-rank one to a linear layer; None otherwise."""
        return None

    def unwrap(self) -> nn.Linear:
        """The linear layer with its parameters. BertftError if ``inner`` is another wrapper."""
        if type(self.inner) is not nn.Linear:
            raise BertftError(
                f"the layer inside is a {type(self.inner).__name__}, which has to be folded first"
            )
        return self.inner


def replace_modules(model: nn.Module, replacements: Mapping[nn.Module, nn.Module]) -> None:
    """Replace each key of ``replacements`` by its value, everywhere in ``model``."""
    for parent in list(model.modules()):
        for name, child in list(parent._modules.items()):
            if child is not None and child in replacements:
                setattr(parent, name, replacements[child])


def plain_path(path: str) -> str:
    """The path that a module or parameter had before layers were wrapped."""
    return re.sub(r"\.inner(?=\.|$)", "", path)


def check_foldable(layers: Mapping[str, nn.Linear | LinearWrapper]) -> None:
    """BertftError if the weight of a layer is kept in less than fp32."""
    for path, layer in layers.items():
        if layer.weight.dtype not in (torch.float32, torch.float64):
            raise BertftError(
                f"the weight is {str(layer.weight.dtype).removeprefix('torch.')}, in which a fold"
                " would lose the update",
                where=plain_path(path),
                hint="Load the model in fp32, fold, then cast",
            )


ROLES = ("query", "key", "value", "attention_output", "ffn_in", "ffn_out")
_FUSED_ROLES = ("query", "key", "value")  # the order of the thirds of a fused matrix

# Last parts of names, for each role in the order of ROLES; * is the number of a layer.
_ROLE_SUFFIXES: Mapping[str, tuple[tuple[str, ...], ...]] = {
    # BERT, RoBERTa, XLM-R, CamemBERT, ELECTRA, RemBERT, ERNIE, RoFormer, Longformer, ...
    "bert": (
        ("attention.self.query",),
        ("attention.self.key",),
        ("attention.self.value",),
        ("attention.output.dense",),
        ("layer.*.intermediate.dense",),
        ("layer.*.output.dense",),
    ),
    "deberta-v2": (
        ("self.query_proj",),
        ("self.key_proj",),
        ("self.value_proj",),
        ("attention.output.dense",),
        ("layer.*.intermediate.dense",),
        ("layer.*.output.dense",),
    ),
    "distilbert": (("q_lin",), ("k_lin",), ("v_lin",), ("out_lin",), ("lin1",), ("lin2",)),
    "albert": (
        ("attention.query",),
        ("attention.key",),
        ("attention.value",),
        ("attention.dense",),
        ("ffn",),
        ("ffn_output",),
    ),
    "mpnet": (
        ("attn.q",),
        ("attn.k",),
        ("attn.v",),
        ("attn.o",),
        ("layer.*.intermediate.dense",),
        ("layer.*.output.dense",),
    ),
    "modernbert": (
        ("attn.Wqkv",),
        ("attn.Wqkv",),
        ("attn.Wqkv",),
        ("attn.Wo",),
        ("mlp.Wi",),
        ("mlp.Wo",),
    ),
    # EuroBERT, NomicBERT
    "llama": (
        ("self_attn.q_proj",),
        ("self_attn.k_proj",),
        ("self_attn.v_proj",),
        ("self_attn.o_proj",),
        ("mlp.gate_proj", "mlp.up_proj"),
        ("mlp.down_proj",),
    ),
}


@dataclass(frozen=True)
class TargetLayer:
    """A linear layer, or the ``rows`` of its weight [out, in] that have the ``role``.

    ``role`` is one of ROLES, or "linear" for a layer with none or several.
    """

    path: str
    module: nn.Linear | LinearWrapper
    rows: slice | None
    role: str


def find_target_layers(model: nn.Module, names: Sequence[str], where: str) -> list[TargetLayer]:
    """The layers that ``names`` match, in the order of ``model``.

    Raises:
        UsageError: A name matches no layer; ``where`` is the setting of the names.
    """
    linears = encoder_linears(model)
    paths_by_role = _paths_by_role(list(linears))
    chosen: dict[tuple[str, str], TargetLayer] = {}
    for name in names:
        matches = list(_match_targets(name, linears, paths_by_role))
        if not matches:
            raise _no_match_error(name, list(linears), bool(paths_by_role), where)
        chosen |= {(target.path, target.role): target for target in matches}
    # A whole layer includes its slices.
    whole_layers = {target.path for target in chosen.values() if target.rows is None}
    order = {path: number for number, path in enumerate(linears)}
    return sorted(
        (
            candidate
            for candidate in chosen.values()
            if candidate.rows is None or candidate.path not in whole_layers
        ),
        key=lambda target: (order[target.path], target.rows.start if target.rows else 0),
    )


def encoder_linears(model: nn.Module) -> dict[str, nn.Linear | LinearWrapper]:
    """Path → linear layer or its outermost wrapper, for those inside a list of layers, each once.

    Subclasses of nn.Linear are left out, because their weight may be used in another way
    (nn.MultiheadAttention never calls its out_proj).
    """
    base = getattr(model, "base_model", model)
    base_modules = {id(module) for module in base.modules()}
    prefix = next(path for path, module in model.named_modules() if module is base)
    prefix_depth = len(prefix.split(".")) if prefix else 0
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
        and id(module) in base_modules
        and id(module) not in wrapped
        and any(name.isdigit() for name in path.split(".")[prefix_depth:])
    }


def _paths_by_role(paths: Sequence[str]) -> dict[str, list[str]]:
    """Role → paths, from the first family with layers for every role; empty if there is none."""
    for family in _ROLE_SUFFIXES.values():
        paths_by_role = {
            role: [path for path in paths if any(_path_ends_with(path, end) for end in ends)]
            for role, ends in zip(ROLES, family, strict=True)
        }
        if all(paths_by_role.values()):
            return paths_by_role
    return {}


def _match_targets(
    name: str,
    linears: Mapping[str, nn.Linear | LinearWrapper],
    paths_by_role: Mapping[str, list[str]],
) -> Iterator[TargetLayer]:
    if name in paths_by_role:
        for path in paths_by_role[name]:
            module = linears[path]
            yield TargetLayer(
                path, module, _fused_rows(name, path, module.out_features, paths_by_role), name
            )
        return
    for path, module in linears.items():
        if name == "all_linear" or _path_ends_with(path, name):
            matching_roles = [role for role, paths in paths_by_role.items() if path in paths]
            yield TargetLayer(
                path, module, None, matching_roles[0] if len(matching_roles) == 1 else "linear"
            )


def _fused_rows(
    role: str, path: str, row_count: int, paths_by_role: Mapping[str, list[str]]
) -> slice | None:
    """The role's third of the rows if query, key and value are one matrix."""
    if role not in _FUSED_ROLES or not all(
        path in paths_by_role[fused_role] for fused_role in _FUSED_ROLES
    ):
        return None
    index, third = _FUSED_ROLES.index(role), row_count // 3
    return slice(index * third, (index + 1) * third)


def _path_ends_with(path: str, suffix: str) -> bool:
    """Whether ``path`` ends with the dotted ``suffix``; * matches any number."""
    names, suffix_names = path.split("."), suffix.split(".")
    return len(suffix_names) <= len(names) and all(
        name == suffix_name or (suffix_name == "*" and name.isdigit())
        for name, suffix_name in zip(names[-len(suffix_names) :], suffix_names, strict=True)
    )


def _no_match_error(name: str, paths: Sequence[str], roles_known: bool, where: str) -> UsageError:
    last_names = sorted({path.rpartition(".")[2] for path in paths})
    if not last_names:
        return UsageError(
            "this model has no linear layers in its encoder layers (nn.ModuleList)",
            where=where,
            hint="Use a method without target layers, such as method=bitfit",
        )
    valid_names = [*(ROLES if roles_known else ()), "all_linear", *last_names]
    closest = closest_name(name, valid_names)
    if closest is not None:
        hint = f"Did you mean '{closest}'?"
    else:
        hint = f"Roles: {', '.join(ROLES)}" if roles_known else "Roles are not known for this model"
    return UsageError(
        f"{name!r} matches no linear layer of this model (last parts of their names:"
        f" {format_list(last_names)})",
        where=where,
        hint=hint,
    )
