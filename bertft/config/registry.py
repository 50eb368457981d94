"""Methods, tasks, readers, metrics and optimizers by name, also those of other packages.

    TASKS.names()                                      ("classification", "masked_lm", ...)
    TASKS["regression"]                                its description, a ``TaskSpec``
    TASKS.implementation("regression", "task_class")   the class it names, imported now

A package adds a component with an entry point whose group is ``bertft.`` and the kind:

    [project.entry-points."bertft.tasks"]
    sarcasm = "my_package.components:SARCASM"    # a TaskSpec

bertft's own components (``bertft.config.builtin_components``) are objects of the same classes and
are found by the same lookup. A description does not import torch: it names its implementation as
``"module:attribute"``, which is imported when it is first used, so that ``--help`` and the
validation of a configuration stay fast. A folder ``conf`` in the package of an entry point adds
presets, such as ``conf/method/<name>.yaml``.
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

import bertft
from bertft.config.component_specs import (
    LABEL_KINDS,
    RESERVED_METHOD_SETTINGS,
    MethodSpec,
    MetricSpec,
    OptimizerSpec,
    ReaderSpec,
    TaskSpec,
)
from bertft.errors import DataError, UsageError
from bertft.utils.messages import Problem, end_sentence, first_line, suggest, usage_error

__all__ = [
    "LABEL_KINDS",
    "METHODS",
    "METRICS",
    "OPTIMIZERS",
    "READERS",
    "RESERVED_METHOD_SETTINGS",
    "TASKS",
    "MethodSpec",
    "MetricSpec",
    "OptimizerSpec",
    "PluginPackage",
    "ReaderSpec",
    "Registry",
    "TaskSpec",
    "check_plugins",
    "conf_dir",
    "plugin_preset_folders",
    "plugin_versions",
    "readers_by_peft_type",
]

T = TypeVar("T")


@dataclass(frozen=True)
class PluginPackage:
    """The distribution that registers a component."""

    name: str
    version: str

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


@dataclass(frozen=True)
class Registry(Generic[T]):
    """The components of one kind by name; ``setting`` selects one of them."""

    kind: str
    spec_class: type[T]
    noun: str
    setting: str

    def names(self) -> tuple[str, ...]:
        """All names, in alphabetical order."""
        return tuple(sorted(self.specs()))

    def specs(self) -> dict[str, T]:
        """Name → description; bertft's own components come first."""
        builtin: dict[str, T] = _builtin_specs()[self.kind]
        plugin_components = _discover_plugins().components
        return builtin | {
            name: spec for (kind, name), (spec, _) in plugin_components.items() if kind == self.kind
        }

    def __contains__(self, name: object) -> bool:
        return name in self.specs()

    def __getitem__(self, name: str) -> T:
        """The description of ``name``. UsageError with the closest name if it is not registered."""
        specs = self.specs()
        if name not in specs:
            raise UsageError(
                f"unknown {self.noun} {name!r}",
                where=self.setting,
                hint=f"{end_sentence(suggest(name, sorted(specs)))} If it is from another package,"
                " install that package",
            )
        return specs[name]

    def raise_missing(self, name: str, setting: str, file: str) -> NoReturn:
        """DataError for a run that uses a component which is not registered."""
        raise DataError(
            f"{setting}: unknown {self.noun} {name!r}",
            where=file,
            hint=f"{end_sentence(suggest(name, self.names()))} If the run was trained with another"
            " package, install that package",
        )

    def package(self, name: str) -> PluginPackage | None:
        """The package that registers ``name``; None for bertft's own."""
        entry = _discover_plugins().components.get((self.kind, name))
        return None if entry is None else entry[1]

    def implementation(self, name: str, attribute: str) -> Any:
        """The object that ``attribute`` of the description of ``name`` refers to, imported.

        Raises UsageError if the package of the component cannot be imported.
        """
        return self.load(name, getattr(self[name], attribute))

    def load(self, name: str, target: str) -> Any:
        """The object at ``target``, ``"module:attribute"``, for the component ``name``."""
        package = self.package(name)
        if package is None:
            return _import_object(target)
        try:
            return _import_object(target)
        except Exception as error:
            raise usage_error(
                [_load_problem(package, f"{self.kind} {name!r}", target, error)]
            ) from error


METHODS = Registry("methods", MethodSpec, "method component", "method")
TASKS = Registry("tasks", TaskSpec, "task", "data.task")
READERS = Registry("readers", ReaderSpec, "reader", "data")
METRICS = Registry("metrics", MetricSpec, "metric", "data.metric")
OPTIMIZERS = Registry("optimizers", OptimizerSpec, "optimizer", "trainer.optimizer")
_REGISTRIES: tuple[Registry[Any], ...] = (METHODS, TASKS, READERS, METRICS, OPTIMIZERS)


def check_plugins() -> None:
    """UsageError that lists every entry point that cannot be used, with its package."""
    problems = _discover_plugins().problems
    if problems:
        raise usage_error(problems)


def readers_by_peft_type() -> dict[str, tuple[str, str]]:
    """``peft_type`` → the method component that reads such adapters, and its function."""
    return {
        kind: (name, target)
        for name, spec in METHODS.specs().items()
        for kind, target in spec.peft_types.items()
    }


def conf_dir() -> Path:
    """``bertft/conf`` of an installed package, else ``conf`` of the checkout."""
    package = Path(bertft.__file__).parent
    packaged = package / "conf"
    return packaged if packaged.is_dir() else package.parent / "conf"


def plugin_preset_folders() -> tuple[Path, ...]:
    """The folders ``conf`` of the packages that register a component."""
    return _discover_plugins().presets


def plugin_versions() -> dict[str, str]:
    """Name → version of every package that registers a component."""
    plugin_packages = {package for _, package in _discover_plugins().components.values()}
    return {package.name: package.version for package in sorted(plugin_packages, key=str)}


@dataclass
class _Plugins:
    """Components and presets of other packages; ``problems`` of unusable entry points."""

    components: dict[tuple[str, str], tuple[Any, PluginPackage]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    presets: tuple[Path, ...] = ()


def _builtin_specs() -> Mapping[str, Any]:
    from bertft.config.builtin_components import BUILTIN_COMPONENTS

    return BUILTIN_COMPONENTS


@functools.cache
def _discover_plugins() -> _Plugins:
    plugins = _Plugins()
    folders: dict[Path, None] = {}
    points = metadata.entry_points()
    for registry in _REGISTRIES:
        for point in sorted(points.select(group=f"bertft.{registry.kind}"), key=_sort_key):
            package = _package_of(point)
            problem = _register_plugin(registry, point, package, plugins)
            if problem is not None:
                plugins.problems.append(problem)
                continue
            folder = _preset_folder_of(point)
            if folder is not None and folder not in folders:
                folders[folder] = None
                plugins.problems += _preset_clashes(folder, package)
    plugins.presets = tuple(folders)
    return plugins


def _sort_key(point: metadata.EntryPoint) -> tuple[str, str]:
    return _package_of(point).name, point.name


def _package_of(point: metadata.EntryPoint) -> PluginPackage:
    dist = point.dist
    return (
        PluginPackage("an unknown package", "")
        if dist is None
        else PluginPackage(dist.name, dist.version)
    )


def _register_plugin(
    registry: Registry[Any], point: metadata.EntryPoint, package: PluginPackage, plugins: _Plugins
) -> Problem | None:
    """Add a component to ``plugins``, or return why it cannot be used."""
    component = f"{registry.kind} {point.name!r}"
    try:
        description = _import_object(point.value)
    except Exception as error:  # a module of another package can raise anything
        return _load_problem(package, component, point.value, error)
    if not isinstance(description, registry.spec_class):
        kind = type(description).__name__
        expected = f"bertft.config.component_specs.{registry.spec_class.__name__}"
        return _load_problem(
            package, component, point.value, TypeError(f"it is a {kind}, not a {expected}")
        )
    owner: object = "bertft" if point.name in _builtin_specs()[registry.kind] else None
    if (registry.kind, point.name) in plugins.components:
        owner = plugins.components[registry.kind, point.name][1]
    if owner is not None:
        return Problem(
            str(package),
            f"its {registry.noun} {point.name!r} has the same name as one of {owner}",
            _REMEDY.format(package.name),
        )
    reason = _spec_problem(registry, point.name, description, plugins)
    if reason:
        return Problem(str(package), f"{component}: {reason}", _REMEDY.format(package.name))
    plugins.components[registry.kind, point.name] = description, package
    return None


_REMEDY = "Update or uninstall the package: pip uninstall {}"


def _load_problem(package: PluginPackage, component: str, target: str, error: Exception) -> Problem:
    reason = first_line(error) if str(error).strip() else "no message"
    return Problem(
        str(package),
        f"{component} cannot be loaded from {target} ({type(error).__name__}: {reason})",
        _REMEDY.format(package.name),
    )


def _import_object(target: str) -> Any:
    """The object that ``module:attribute`` names."""
    module, _, attribute = target.partition(":")
    value: Any = importlib.import_module(module.strip())
    for name in attribute.strip().split("."):
        value = getattr(value, name)
    return value


def _spec_problem(registry: Registry[Any], name: str, description: Any, plugins: _Plugins) -> str:
    """Why a description cannot be used; empty if it can."""
    if not re.fullmatch(r"[A-Za-z]\w*", name):
        return "a name can contain only letters, digits and _"
    targets = [
        (field_name, getattr(description, field_name))
        for field_name in _IMPORTED_FIELDS
        if hasattr(description, field_name)
    ]
    for attribute, target in targets:
        if target is not None and not re.fullmatch(r"[\w.]+:[\w.]+", str(target)):
            return f"invalid {attribute}={target!r} (expected 'module:attribute')"
    if isinstance(description, MethodSpec):
        if name in RESERVED_METHOD_SETTINGS:
            return f"method.{name} is a setting of every method"
        taken_types = [
            kind for kind in description.peft_types if kind in _known_peft_types(plugins)
        ]
        if taken_types:
            return f"peft_type {taken_types[0]} is already registered by another method component"
        return _settings_problem(description.settings)
    if isinstance(description, OptimizerSpec) and description.settings is not None:
        return _settings_problem(description.settings)
    if isinstance(description, TaskSpec) and description.label not in (None, *LABEL_KINDS):
        return f"invalid label={description.label!r}, expected one of {', '.join(LABEL_KINDS)}"
    if isinstance(description, MetricSpec):
        return "" if description.compute else "compute is missing"
    if isinstance(description, ReaderSpec):
        return _extensions_problem(description, plugins)
    return ""


_IMPORTED_FIELDS = (
    "build",
    "rules",
    "task_class",
    "row_schema",
    "model_card_code",
    "score_predictions",
    "input_encoding",
    "read",
    "matches",
    "schema",
    "compute",
)


def _known_peft_types(plugins: _Plugins) -> set[str]:
    plugin_methods = [
        spec for spec, _ in plugins.components.values() if isinstance(spec, MethodSpec)
    ]
    return {
        kind
        for spec in (*_builtin_specs()["methods"].values(), *plugin_methods)
        for kind in spec.peft_types
    }


def _settings_problem(settings: type) -> str:
    if not (isinstance(settings, type) and dataclasses.is_dataclass(settings)):
        return "its settings must be a dataclass"
    unmarked = [
        dataclass_field.name
        for dataclass_field in dataclasses.fields(settings)
        if "help" not in dataclass_field.metadata
    ]
    if unmarked:
        return f"its setting {unmarked[0]} must be defined with bertft.config.setting.setting"
    return ""


def _extensions_problem(reader: ReaderSpec, plugins: _Plugins) -> str:
    if not reader.extensions or not all(
        re.fullmatch(r"\.\S+", extension) for extension in reader.extensions
    ):
        return "invalid extensions (expected the form '.csv')"
    owner_by_extension = {
        extension: "bertft"
        for spec in _builtin_specs()["readers"].values()
        for extension in spec.extensions
    }
    for (kind, _), (spec, package) in plugins.components.items():
        if kind == "readers":
            owner_by_extension |= dict.fromkeys(spec.extensions, str(package))
    for extension in reader.extensions if reader.matches is None else ():
        if extension in owner_by_extension:
            owner = owner_by_extension[extension]
            return f"the extension {extension} is already registered by {owner}"
    return ""


def _preset_folder_of(point: metadata.EntryPoint) -> Path | None:
    """The folder ``conf`` of the top-level package that holds the component."""
    spec = importlib.util.find_spec(point.value.partition(":")[0].partition(".")[0].strip())
    for location in (spec.submodule_search_locations or ()) if spec is not None else ():
        if (folder := Path(location) / "conf").is_dir():
            return folder
    return None


def _preset_clashes(folder: Path, package: PluginPackage) -> Iterator[Problem]:
    for file in sorted(folder.glob("*/*.yaml")):
        if (conf_dir() / file.parent.name / file.name).is_file():
            yield Problem(
                str(package),
                f"its preset {file.parent.name}={file.stem} has the same name as one of bertft",
                _REMEDY.format(package.name),
            )
