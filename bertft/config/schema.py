"""The tree of a command's settings, built from its dataclasses.

    settings_tree("train")  -> Node("", ...) with children method, model, data, trainer, seed, ...

A ``Leaf`` is one setting. A ``Node`` is a group of settings and may be null (a component of the
method, the ``data`` of eval). Any key is valid below a leaf of type Any:
``model.architecture.hidden_size``.
"""

from __future__ import annotations

import dataclasses
import functools
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from bertft.config.command_configs import COMMAND_CONFIGS
from bertft.config.setting import MISSING, FileUse, ResumePolicy

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
    "settings_without_effect",
]

GetSetting = Callable[[str], Any]  # path -> value, None below a null node


@dataclass(frozen=True)
class Leaf:
    """One setting, as ``bertft.config.setting.setting`` describes it.

    ``type`` is str, int, float, bool or Any; null is valid if ``optional``.
    """

    path: str
    type: Any
    optional: bool
    default: Any
    help: str
    choices: tuple[str, ...] | None = None
    bounds: dict[str, float] = field(default_factory=dict)
    former: str | None = None
    former_choices: dict[str, str] = field(default_factory=dict)
    file: FileUse | None = None
    affects_result: bool = True
    on_resume: ResumePolicy = "fixed"

    @property
    def required(self) -> bool:
        """Whether a value must be given."""
        return isinstance(self.default, str) and self.default == MISSING


@dataclass(frozen=True)
class Node:
    """A group of settings; an ``optional`` node is null unless a preset or a key sets it."""

    path: str
    cls: type
    optional: bool
    help: str
    children: dict[str, Leaf | Node]


@functools.cache
def settings_tree(command: str) -> Node:
    """The settings of ``command``, a key of ``COMMAND_CONFIGS``."""
    cls = COMMAND_CONFIGS[command]
    return _build_node(cls, "", False, (cls.__doc__ or "").strip())


def node_from_dataclass(cls: type, path: str) -> Node:
    """The settings of a dataclass whose values are at ``path``."""
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
    """The setting or group at ``path`` (None if there is none) and the deepest group above it."""
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


def settings_without_effect() -> frozenset[str]:
    """Paths of the settings of ``train`` that do not change the result of a run."""
    return frozenset(
        leaf.path for leaf in iter_leaves(settings_tree("train")) if not leaf.affects_result
    )


def default_value(path: str) -> Any:
    """The default of a setting of ``train``."""
    entry, _ = find_setting(settings_tree("train"), path)
    assert isinstance(entry, Leaf)
    return entry.default


def _build_node(cls: type, path: str, optional: bool, help: str) -> Node:
    hints = typing.get_type_hints(cls)
    children: dict[str, Leaf | Node] = {}
    for item in dataclasses.fields(cls):
        child_path = f"{path}.{item.name}" if path else item.name
        component = item.metadata.get("component")
        inner, nullable = _split_optional(component or hints[item.name])
        nullable = nullable or component is not None
        if dataclasses.is_dataclass(inner):
            inner = typing.cast(type, inner)
            children[item.name] = _build_node(inner, child_path, nullable, item.metadata["help"])
        else:
            children[item.name] = _build_leaf(item, child_path, inner, nullable or inner is Any)
    return Node(path, cls, optional, help, children)


def _build_leaf(item: dataclasses.Field[Any], path: str, kind: Any, optional: bool) -> Leaf:
    metadata, factory = item.metadata, item.default_factory
    names = ("at_least", "above", "at_most", "below")
    return Leaf(
        path,
        kind,
        optional,
        default=item.default if factory is dataclasses.MISSING else factory(),
        help=metadata["help"],
        choices=metadata["choices"],
        bounds={name: metadata[name] for name in names if metadata[name] is not None},
        former=metadata["former"],
        former_choices=metadata["former_choices"],
        file=metadata["file"],
        affects_result=metadata["affects_result"],
        on_resume=metadata["on_resume"],
    )


def _split_optional(kind: Any) -> tuple[Any, bool]:
    """X | None -> (X, True); X -> (X, False)."""
    arguments = typing.get_args(kind)
    if type(None) not in arguments:
        return kind, False
    inner = next(argument for argument in arguments if argument is not type(None))
    return inner, True
