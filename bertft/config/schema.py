"""The tree of a command's settings, read from its dataclasses.

    tree("train") -> Node("", ...)  with children method, model, data, trainer, seed, ...

A ``Leaf`` is one setting; a ``Node`` holds settings and may be null (a part of the method, eval's
data). Below a leaf of type Any lies free ground: ``model.architecture.hidden_size``.
"""

from __future__ import annotations

import dataclasses
import functools
import sys
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from bertft.config.command_configs import COMMAND_CONFIGS
from bertft.config.setting import MISSING

__all__ = [
    "GetSetting",
    "Leaf",
    "Node",
    "default_value",
    "find_setting",
    "iter_leaves",
    "iter_nodes",
    "node_from_dataclass",
    "settings_tree",
]


GetSetting = Callable[[str], Any]


def default_value(path: str) -> Any:
    """The schema's default of a setting of ``train``."""
    entry, _ = find_setting(settings_tree("train"), path)
    assert isinstance(entry, Leaf)
    return entry.default


@dataclass(frozen=True)
class Leaf:
    """One setting: ``type`` is str, int, float, bool or Any; None is admitted if ``optional``."""

    path: str
    type: Any
    optional: bool
    default: Any
    meaning: str
    choices: tuple[str, ...] | None = None
    bounds: dict[str, float] = field(default_factory=dict)
    former: str | None = None
    former_choices: dict[str, str] = field(default_factory=dict)

    @property
    def required(self) -> bool:
        """Whether a value must be given."""
        return isinstance(self.default, str) and self.default == MISSING


@dataclass(frozen=True)
class Node:
    """Settings under one name; ``optional`` nodes are null unless a preset or a key sets them."""

    path: str
    cls: type
    optional: bool
    meaning: str
    children: dict[str, Leaf | Node]


@functools.cache
def settings_tree(command: str) -> Node:
    """The settings of ``command``, a key of ``COMMANDS``."""
    cls = COMMAND_CONFIGS[command]
    return _build_node(cls, "", False, (cls.__doc__ or "").strip())


def node_from_dataclass(cls: type, path: str) -> Node:
    """The settings of a dataclass that belongs at ``path``."""
    return _build_node(cls, path, False, "")


def iter_leaves(node: Node) -> Iterator[Leaf]:
    """Every setting under ``node``, in the order of the dataclasses."""
    for child in node.children.values():
        if isinstance(child, Node):
            yield from iter_leaves(child)
        else:
            yield child


def iter_nodes(node: Node) -> Iterator[Node]:
    """``node`` and every node under it."""
    yield node
    for child in node.children.values():
        if isinstance(child, Node):
            yield from iter_nodes(child)


def find_setting(root: Node, path: str) -> tuple[Leaf | Node | None, Node]:
    """What stands at ``path`` (None: nothing), and the deepest node on the way to it."""
    entry: Leaf | Node | None = root
    parent = root
    for name in path.split(".") if path else ():
        if isinstance(entry, Leaf):
            return (entry if entry.type is Any else None), parent
        assert entry is not None
        parent = entry
        entry = entry.children.get(name)
        if entry is None:
            return None, parent
    return entry, parent


def _build_node(cls: type, path: str, optional: bool, meaning: str) -> Node:
    hints = typing.get_type_hints(cls)
    children: dict[str, Leaf | Node] = {}
    for item in dataclasses.fields(cls):
        child_path = f"{path}.{item.name}" if path else item.name
        inner, nullable = _split_optional(item.metadata.get("part") or hints[item.name])
        nullable = nullable or "part" in item.metadata
        if dataclasses.is_dataclass(inner):
            description = item.metadata["meaning"]
            if "part" in item.metadata:  # a component's module says what the component does
                lines = (sys.modules[inner.__module__].__doc__ or description).strip().splitlines()
                description = lines[0] if lines else item.name
            children[item.name] = _build_node(
                typing.cast(type, inner), child_path, nullable, description
            )
        else:
            children[item.name] = _build_leaf(item, child_path, inner, nullable or inner is Any)
    return Node(path, cls, optional, meaning, children)


def _build_leaf(item: dataclasses.Field[Any], path: str, kind: Any, optional: bool) -> Leaf:
    factory = item.default_factory
    default = item.default if factory is dataclasses.MISSING else factory()
    names = ("at_least", "above", "at_most", "below")
    bounds = {name: item.metadata[name] for name in names if item.metadata[name] is not None}
    return Leaf(
        path,
        kind,
        optional,
        default,
        item.metadata["meaning"],
        item.metadata["choices"],
        bounds,
        item.metadata["former"],
        item.metadata["former_choices"],
    )


def _split_optional(kind: Any) -> tuple[Any, bool]:
    """X | None -> (X, True); X -> (X, False)."""
    arguments = typing.get_args(kind)
    if type(None) not in arguments:
        return kind, False
    inner = next(argument for argument in arguments if argument is not type(None))
    return inner, True
