"""Rules of ``method`` and its components."""

from __future__ import annotations

import re
from collections.abc import Iterator

from bertft.config.method_components.low_rank import DATA_STARTS, KINDS
from bertft.config.presets import preset_value
from bertft.config.schema import GetSetting, default_value
from bertft.utils.messages import Problem

__all__ = ["BASE_RULES", "IA3_RULES", "LOW_RANK_RULES", "METHOD_RULES", "PREFIX_RULES"]


def _check_preset_names(get: GetSetting) -> Iterator[Problem]:
    """Names of presets are part of the run folder's name and must not contain a path."""
    for path in ("method.name", "data.name", "model.name"):
        name = get(path)
        if isinstance(name, str) and (re.search(r"[/\\\x00-\x1f]", name) or name.startswith(".")):
            yield Problem(
                path, f"{name!r} cannot be part of a folder's name", "Use letters, digits, _ and -"
            )


def _check_rank(get: GetSetting) -> Iterator[Problem]:
    rank, initial = get("method.rank"), get("method.initial_rank")
    kind = get("method.low_rank.kind")
    if kind is None:
        for name, value in (("rank", rank), ("initial_rank", initial)):
            if value is not None:
                yield Problem(
                    f"method.{name}",
                    f"is not supported by method={get('method.name')}, which has no"
                    " method.low_rank",
                    "Leave it out, or set method=lora or method=svd_lora",
                )
    elif rank is None:
        yield Problem(
            "method.rank", "is missing: it is required by method.low_rank", "Try method.rank=8"
        )
    elif initial is not None and not KINDS[kind].adapts:
        yield Problem(
            "method.initial_rank",
            f"is not supported by {_kind_setting(get, kind)}, which has a constant rank",
            "Leave it out, or set method=svd_lora",
        )
    elif initial is not None and initial < rank:
        yield Problem(
            "method.initial_rank",
            f"{initial} is below method.rank={rank}, the final average",
            "Set it to at least method.rank",
        )


def _check_low_rank(get: GetSetting) -> Iterator[Problem]:
    kind = get("method.low_rank.kind")
    if kind is None:
        return
    kinds_by_setting: dict[str, list[str]] = {}
    for other_kind, spec in KINDS.items():
        for name in spec.settings:
            kinds_by_setting.setdefault(name, []).append(other_kind)
    for name, supporting_kinds in kinds_by_setting.items():
        path = f"method.low_rank.{name}"
        if kind not in supporting_kinds and get(path) != default_value(path):
            yield Problem(
                path,
                f"is not supported by {_kind_setting(get, kind)}",
                f"Leave it out, or set {_kind_setting(get, ' or '.join(supporting_kinds))}",
            )
    start, starts = get("method.low_rank.start"), KINDS[kind].starts
    if start is not None and starts and start not in starts:
        yield Problem(
            "method.low_rank.start",
            f"{start!r} is not supported by {_kind_setting(get, kind)}",
            f"Use {' or '.join(starts)}",
        )
    path = "method.low_rank.start_batches"
    if start not in DATA_STARTS and get(path) != default_value(path) and starts:
        yield Problem(
            path,
            f"has no effect with method.low_rank.start={start or starts[0]}",
            f"Leave it out, or set method.low_rank.start={' or '.join(DATA_STARTS)}",
        )
    begin, end = get("method.low_rank.begin"), get("method.low_rank.end")
    if kind == "svd_lora" and begin + end >= 1:
        yield Problem(
            "method.low_rank.begin",
            f"{begin:g} and method.low_rank.end={end:g} leave no steps for pruning",
            "Their sum must be below 1",
        )


def _kind_setting(get: GetSetting, kinds: str) -> str:
    """``method=lora`` if the preset is named after its kind, else ``method.low_rank.kind=lora``."""
    is_preset = get("method.name") == get("method.low_rank.kind")
    return f"method={kinds}" if is_preset else f"method.low_rank.kind={kinds}"


def _check_targets(get: GetSetting) -> Iterator[Problem]:
    if get("method.low_rank.kind") is not None:
        yield from _check_layer_names(get, "method.low_rank.targets", "[query,value]")


def _check_ia3(get: GetSetting) -> Iterator[Problem]:
    if get("method.ia3.learning_rate") is None:
        return
    yield from _check_layer_names(get, "method.ia3.targets", "[key,value,ffn_out]")
    if get("method.ia3.feedforward") not in ([], None):
        yield from _check_layer_names(get, "method.ia3.feedforward", "[ffn_out]")


def _check_layer_names(get: GetSetting, path: str, example: str) -> Iterator[Problem]:
    targets = get(path)
    names = targets if isinstance(targets, list) else [targets]
    if not names or not all(isinstance(name, str) and name for name in names):
        yield Problem(
            path, f"{targets!r} is not a list of layers", f"Use a name or a list, as in {example}"
        )
    elif any("," in name for name in names):
        yield Problem(
            path, f"{targets!r} is one name with a comma in it", f"Write a list, as in {example}"
        )


def _check_base(get: GetSetting) -> Iterator[Problem]:
    train, last_k = get("method.base.train"), get("method.base.last_k")
    if train == "last_k" and last_k is None:
        yield Problem(
            "method.base.last_k",
            "is missing: it is required by method.base.train=last_k",
            "Try method.base.last_k=2",
        )
    if train not in (None, "last_k") and last_k is not None:
        yield Problem(
            "method.base.last_k",
            f"is not supported by method.base.train={train}",
            "Leave it out, or set method=last_k",
        )
    yield from _check_layer_decay(get)


def _check_layer_decay(get: GetSetting) -> Iterator[Problem]:
    path, train, name = "method.base.layer_decay", get("method.base.train"), get("method.name")
    if train is None or get(path) == default_value(path):
        return
    if train == "nothing":
        yield Problem(path, "has no effect with method.base.train=nothing", "Leave it out")
    elif train == default_value("method.base.train") and _is_preset_without_base(name):
        # The setting alone would add method.base, whose default trains all weights.
        yield Problem(
            path,
            f"is not supported by method={name}, which does not train the weights of the base",
            "Leave it out, or set method=full",
        )


def _is_preset_without_base(name: object) -> bool:
    is_preset = preset_value("method", name, "name") is not None
    return is_preset and preset_value("method", name, "base") is None


def _check_prefix(get: GetSetting) -> Iterator[Problem]:
    path = "method.prefix.mlp_hidden"
    if get("method.prefix.kind") == "prompt":
        # Presets with a low-rank update set start_scale, which the user then cannot leave out.
        preset = preset_value("method", get("method.name"), "prefix") or {}
        for name in ("mlp", "mlp_hidden", "shift_positions", "start_scale"):
            path = f"method.prefix.{name}"
            if get(path) not in (default_value(path), preset.get(name)):
                yield Problem(
                    path,
                    "is not supported by method.prefix.kind=prompt",
                    "Leave it out, or set method.prefix.kind=key_value",
                )
    elif get("method.prefix.mlp") is False and get(path) != default_value(path):
        yield Problem(
            path,
            "has no effect with method.prefix.mlp=false",
            "Leave it out, or set method.prefix.mlp=true",
        )


METHOD_RULES = (_check_preset_names, _check_rank)
LOW_RANK_RULES = (_check_low_rank, _check_targets)
IA3_RULES = (_check_ia3,)
BASE_RULES = (_check_base,)
PREFIX_RULES = (_check_prefix,)
