"""Methods, tasks, readers, metrics and optimizers by name, also those of other packages.

    TASKS.names()                                ("classification", "masked_lm", ...)
    TASKS["regression"]                          its description, a ``Task``
    TASKS.implementation("regression", "task")   what computes, imported now

A package adds a component with an entry point whose group is ``bertft.`` and the kind:

    [project.entry-points."bertft.tasks"]
    sarcasm = "my_package.components:SARCASM"    # an object of the class Task below

bertft's own components (``bertft.config.built_in``) are objects of the same classes and are found
by the same lookup. A description does not import torch: what computes is named as
``"module:attribute"`` and imported when it is first used, so that help and the checks of a
configuration stay fast. A folder ``conf`` in the package of an entry point adds presets, such as
``conf/method/<name>.yaml``.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import importlib.util
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Generic, NoReturn, TypeVar

from bertft.config.components import (
    LABELS,
    RESERVED,
    Method,
    Metric,
    Optimizer,
    Reader,
    Task,
)
from bertft.config.messages import Problem, suggestion, usage_error
from bertft.errors import DataError, UsageError

__all__ = [
    "LABELS", "METHODS", "METRICS", "OPTIMIZERS", "READERS", "RESERVED", "TASKS", "Method",
    "Metric", "Optimizer", "Package", "Reader", "Registry", "Task", "check_packages", "packages",
    "peft_types", "preset_folders",
]  # fmt: skip

T = TypeVar("T")


@dataclass(frozen=True)
class Package:
    """The distribution that registers a component."""

    name: str
    version: str

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


@dataclass(frozen=True)
class Registry(Generic[T]):
    """The components of one kind by name. ``setting``: the one that chooses among them."""

    kind: str
    of: type[T]
    noun: str
    setting: str

    def names(self) -> tuple[str, ...]:
        """All names, in alphabetical order."""
        return tuple(sorted(self.items()))

    def items(self) -> dict[str, T]:
        """Name → description; bertft's own come first."""
        own: dict[str, T] = _built_in()[self.kind]
        added = _external().components
        return own | {name: each for (kind, name), (each, _) in added.items() if kind == self.kind}

    def __contains__(self, name: object) -> bool:
        return name in self.items()

    def __getitem__(self, name: str) -> T:
        """UsageError with the closest name where there is no such component."""
        known = self.items()
        if name not in known:
            raise UsageError(
                f"unknown {self.noun} {name!r}", where=self.setting,
                hint=f"{_sentence(suggestion(name, sorted(known)))} If it is from another package,"
                " install that package",
            )  # fmt: skip
        return known[name]

    def report_missing(self, name: str, setting: str, file: str) -> NoReturn:
        """DataError for a run that uses a component which is not registered."""
        raise DataError(
            f"{setting}: unknown {self.noun} {name!r}", where=file,
            hint=f"{_sentence(suggestion(name, self.names()))} If the run was trained with another"
            " package, install that package",
        )  # fmt: skip

    def package(self, name: str) -> Package | None:
        """The package that registers ``name``; None for bertft's own."""
        entry = _external().components.get((self.kind, name))
        return None if entry is None else entry[1]

    def implementation(self, name: str, attribute: str) -> Any:
        """What the ``attribute`` of a description names. UsageError if a package's is broken."""
        return self.load(name, getattr(self[name], attribute))

    def load(self, name: str, target: str) -> Any:
        """The same, of a ``target`` that the description of ``name`` holds."""
        package = self.package(name)
        if package is None:
            return _imported(target)
        try:
            return _imported(target)
        except Exception as error:
            raise usage_error([_broken(package, f"{self.kind} {name!r}", target, error)]) from error


METHODS = Registry("methods", Method, "method component", "method")
TASKS = Registry("tasks", Task, "task", "data.task")
READERS = Registry("readers", Reader, "reader", "data")
METRICS = Registry("metrics", Metric, "metric", "data.metric")
OPTIMIZERS = Registry("optimizers", Optimizer, "optimizer", "trainer.optimizer")
_REGISTRIES: tuple[Registry[Any], ...] = (METHODS, TASKS, READERS, METRICS, OPTIMIZERS)


def check_packages() -> None:
    """UsageError that names every package with an entry point that cannot be used."""
    problems = _external().problems
    if problems:
        raise usage_error(problems)


def peft_types() -> dict[str, tuple[str, str]]:
    """``peft_type`` → the method component that reads it, and with which function."""
    return {
        kind: (name, target)
        for name, each in METHODS.items().items()
        for kind, target in each.peft_types.items()
    }


def preset_folders() -> tuple[Path, ...]:
    """The folders ``conf`` of the packages that register a component."""
    return _external().presets


def packages() -> dict[str, str]:
    """Name → version of every package that registers a component."""
    found = {package for _, package in _external().components.values()}
    return {package.name: package.version for package in sorted(found, key=str)}


def _sentence(text: str) -> str:
    return text if text.endswith(("?", ".")) else f"{text}."


@dataclass
class _External:
    """What other packages register; ``problems``: entry points that cannot be used."""

    components: dict[tuple[str, str], tuple[Any, Package]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    presets: tuple[Path, ...] = ()


def _built_in() -> Mapping[str, Any]:
    from bertft.config.built_in import COMPONENTS

    return COMPONENTS


@functools.cache
def _external() -> _External:
    found = _External()
    folders: dict[Path, None] = {}
    points = metadata.entry_points()
    for registry in _REGISTRIES:
        for point in sorted(points.select(group=f"bertft.{registry.kind}"), key=_order):
            package = _package_of(point)
            problem = _register(registry, point, package, found)
            if problem is not None:
                found.problems.append(problem)
                continue
            folder = _conf_of(point)
            if folder is not None and folder not in folders:
                folders[folder] = None
                found.problems += _preset_clashes(folder, package)
    found.presets = tuple(folders)
    return found


def _order(point: metadata.EntryPoint) -> tuple[str, str]:
    return _package_of(point).name, point.name


def _package_of(point: metadata.EntryPoint) -> Package:
    dist = point.dist
    return Package("an unknown package", "") if dist is None else Package(dist.name, dist.version)


def _register(
    registry: Registry[Any], point: metadata.EntryPoint, package: Package, found: _External
) -> Problem | None:
    """Add a component to ``found``; what is wrong with it, if anything."""
    what = f"{registry.kind} {point.name!r}"
    try:
        description = _imported(point.value)
    except Exception as error:  # whatever a foreign module raises
        return _broken(package, what, point.value, error)
    if not isinstance(description, registry.of):
        kind = type(description).__name__
        expected = f"bertft.config.components.{registry.of.__name__}"
        return _broken(package, what, point.value, TypeError(f"it is a {kind}, not a {expected}"))
    other: object = "bertft" if point.name in _built_in()[registry.kind] else None
    if (registry.kind, point.name) in found.components:
        other = found.components[registry.kind, point.name][1]
    if other is not None:
        return Problem(
            str(package), f"its {registry.noun} {point.name!r} has the name of one of {other}",
            _REMEDY.format(package.name),
        )  # fmt: skip
    wrong = _fault(registry, point.name, description, found)
    if wrong:
        return Problem(str(package), f"{what}: {wrong}", _REMEDY.format(package.name))
    found.components[registry.kind, point.name] = description, package
    return None


_REMEDY = "Update or uninstall the package: pip uninstall {}"


def _broken(package: Package, what: str, target: str, error: Exception) -> Problem:
    reason = str(error).strip().split("\n")[0] or "no message"
    return Problem(
        str(package), f"{what} cannot be loaded from {target} ({type(error).__name__}: {reason})",
        _REMEDY.format(package.name),
    )  # fmt: skip


def _imported(target: str) -> Any:
    """The object that ``module:attribute`` names."""
    module, _, attribute = target.partition(":")
    value: Any = importlib.import_module(module.strip())
    for name in attribute.strip().split("."):
        value = getattr(value, name)
    return value


def _fault(registry: Registry[Any], name: str, description: Any, found: _External) -> str:
    """Why a description cannot be used; empty where it can."""
    if not re.fullmatch(r"[A-Za-z]\w*", name):
        return "a name has letters, digits and _"
    targets = [
        (each, getattr(description, each)) for each in _TARGETS if hasattr(description, each)
    ]
    for attribute, target in targets:
        if target is not None and not re.fullmatch(r"[\w.]+:[\w.]+", str(target)):
            return f"{attribute}={target!r} is not of the form 'module:attribute'"
    if isinstance(description, Method):
        if name in RESERVED:
            return f"method.{name} is a setting of every method"
        taken = [kind for kind in description.peft_types if kind in _known_peft_types(found)]
        if taken:
            return f"adapters of peft_type {taken[0]} are read by another method"
        return _settings_fault(description.settings)
    if isinstance(description, Optimizer) and description.settings is not None:
        return _settings_fault(description.settings)
    if isinstance(description, Task) and description.label not in (None, *LABELS):
        return f"label={description.label!r} is not one of {', '.join(LABELS)}"
    if isinstance(description, Metric):
        return "" if description.compute else "it has no compute"
    if isinstance(description, Reader):
        return _endings_fault(description, found)
    return ""


_TARGETS = ("build", "rules", "task", "rows", "code", "read", "compute")


def _known_peft_types(found: _External) -> set[str]:
    others = [each for each, _ in found.components.values() if isinstance(each, Method)]
    return {
        kind for each in (*_built_in()["methods"].values(), *others) for kind in each.peft_types
    }


def _settings_fault(settings: type) -> str:
    if not (isinstance(settings, type) and dataclasses.is_dataclass(settings)):
        return "its settings are not a dataclass"
    plain = [each.name for each in dataclasses.fields(settings) if "meaning" not in each.metadata]
    if plain:
        return f"its setting {plain[0]} is not made with bertft.config.setting.setting"
    return ""


def _endings_fault(reader: Reader, found: _External) -> str:
    if not reader.endings or not all(re.fullmatch(r"\.\S+", each) for each in reader.endings):
        return "its endings are not of the form '.csv'"
    others = {
        ending: "bertft" for each in _built_in()["readers"].values() for ending in each.endings
    }
    for (kind, _), (each, package) in found.components.items():
        if kind == "readers":
            others |= dict.fromkeys(each.endings, str(package))
    taken = [ending for ending in reader.endings if ending in others]
    return f"files that end in {taken[0]} are read by {others[taken[0]]}" if taken else ""


def _conf_of(point: metadata.EntryPoint) -> Path | None:
    """The folder ``conf`` of the top-level package that holds the component."""
    spec = importlib.util.find_spec(point.value.partition(":")[0].partition(".")[0].strip())
    for place in (spec.submodule_search_locations or ()) if spec is not None else ():
        if (folder := Path(place) / "conf").is_dir():
            return folder
    return None


def _preset_clashes(folder: Path, package: Package) -> Iterator[Problem]:
    from bertft.config.folder import conf_dir

    for file in sorted(folder.glob("*/*.yaml")):
        if (conf_dir() / file.parent.name / file.name).is_file():
            yield Problem(
                str(package), f"its preset {file.parent.name}={file.stem} has the name of one of"
                " bertft", _REMEDY.format(package.name),
            )  # fmt: skip
