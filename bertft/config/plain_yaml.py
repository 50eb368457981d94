"""YAML files that bertft itself wrote, read as plain data within bounds.

OmegaConf's own reader resolves aliases, and so nine lines can hold 9⁹ values: here they are
refused, as are tags, duplicate keys, deep nesting and large files. Numbers are read as OmegaConf
reads them. ``${`` is refused too: a value of a file is a literal, never an interpolation.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from bertft.config.regular_file import read_regular_text
from bertft.errors import DataError

__all__ = ["parse_plain_yaml", "read_plain_yaml"]

_MAX_YAML_BYTES = 1 << 19
_MAX_DEPTH = 32
_YAML_HINT = "Was it edited or cut short?"
_BASE_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_SCALAR_TAGS = {f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null")}


class _PlainLoader(_BASE_LOADER):  # type: ignore[misc]
    """Numbers as in OmegaConf: 1e-3 is one, and a date is a text."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> Any:
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if len(names) < len(node.value):
            raise ValueError(f"line {node.start_mark.line + 1}: a key is not a name")
        if len(set(names)) < len(names):
            duplicate = next(name for name, count in Counter(names).items() if count > 1)
            raise ValueError(f"line {node.start_mark.line + 1}: the key {duplicate!r} is there twice")
        return super().construct_mapping(node, deep=deep)


_PlainLoader.yaml_implicit_resolvers = {
    key: [(tag, pattern) for tag, pattern in resolvers if tag in _SCALAR_TAGS]
    for key, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_PlainLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"[-+]?[0-9]+(?:_[0-9]+)*(?:\.[0-9_]*)?[eE][-+]?[0-9]+$"
        r"|\.[0-9]+(?:_[0-9]+)*(?:[eE][-+][0-9]+)?$"
    ),
    list("-+0123456789."),
)


def read_plain_yaml(path: Path) -> Any:
    """The value in ``path``. DataError if it is missing, damaged, too large or not plain."""
    try:
        return parse_plain_yaml(read_regular_text(path, _MAX_YAML_BYTES))
    except (yaml.YAMLError, ValueError, RecursionError, OverflowError) as error:
        first_line = str(error).strip().split("\n")[0][:200]
        raise DataError(f"cannot be read ({first_line})", where=str(path), hint=_YAML_HINT) from None


def parse_plain_yaml(text: str) -> Any:
    """The value of the YAML ``text``. ValueError or yaml.YAMLError if it is not plain YAML."""
    depth = 0
    for event in yaml.parse(text, Loader=_BASE_LOADER):
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise ValueError(f"line {line}: anchors and aliases are not supported")
        if getattr(event, "tag", None) is not None and event.tag != "!":
            raise ValueError(f"line {line}: tags are not supported")
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > _MAX_DEPTH:
            raise ValueError(f"line {line}: nested more than {_MAX_DEPTH} levels deep")
    value = yaml.load(text, Loader=_PlainLoader)
    _reject_interpolation(value)
    return value


def _reject_interpolation(value: Any) -> None:
    if isinstance(value, str) and "${" in value:
        raise ValueError(f"it refers to what lies outside of it with ${{: {value[:80]!r}")
    if isinstance(value, Mapping):
        for name, item in value.items():
            _reject_interpolation(name)
            _reject_interpolation(item)
    elif isinstance(value, list):
        for item in value:
            _reject_interpolation(item)
