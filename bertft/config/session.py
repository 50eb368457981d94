"""Hydra over our YAML files and the schema: what is composed from, looked at on its way."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra import version
from hydra.core.config_search_path import ConfigSearchPath, SearchPathQuery
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin

from bertft.config.command_line import open_node_override
from bertft.config.commands import COMMAND_CONFIGS
from bertft.config.folder import conf_dir
from bertft.config.hydra_internals import (
    Hydra,
    create_automatic_config_search_path,
    use_former_names,
)
from bertft.config.job_folder import register_job_folder_resolver
from bertft.config.messages import Problem, usage_error
from bertft.config.registry import METHODS, plugin_preset_folders

__all__ = ["ComposeRequest", "inspect_defaults", "register_schema", "hydra_session"]


@dataclass(frozen=True)
class ComposeRequest:
    """A command with its overrides (already in Hydra's grammar) and its ``--config-dir``."""

    command: str
    overrides: tuple[str, ...]
    config_dir: Path | None = None


def register_schema() -> None:
    """Put the dataclasses where the YAML files expect them: ``schema/<command>``."""
    register_job_folder_resolver()
    use_former_names()
    _store_schema(METHODS.names())


@functools.cache
def _store_schema(component_names: tuple[str, ...]) -> None:
    store = ConfigStore.instance()
    for command, cls in COMMAND_CONFIGS.items():
        store.store(group="schema", name=command, node=cls, package="_global_")
    for part in component_names:
        group = open_node_override(f"method.{part}").lstrip("+").partition("=")[0]
        node_content: dict[str, Any] = {"method": {part: {}}}
        store.store(group=group, name="yes", node=node_content, package="_global_")
    Plugins.instance().register(_PluginPresets)


class _PluginPresets(SearchPathPlugin):
    """The presets of other packages come after bertft's own."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        for folder in plugin_preset_folders():
            search_path.append("bertft-packages", f"file://{folder}")


@contextlib.contextmanager
def hydra_session(request: ComposeRequest) -> Iterator[Hydra]:
    """Hydra with the YAML files and the schema that ``request`` composes from."""
    version.setbase("1.3")
    register_schema()
    search_path = create_automatic_config_search_path(None, None, str(conf_dir()))
    if request.config_dir is not None:
        if not request.config_dir.is_dir():
            raise usage_error(
                [Problem("--config-dir", f"there is no folder {request.config_dir}", "")]
            )
        search_path.prepend(
            "command-line",
            f"file://{request.config_dir.resolve()}",
            anchor=SearchPathQuery(provider="schema"),
        )
    GlobalHydra.instance().clear()
    try:
        yield Hydra.create_main_hydra2(request.command, search_path)
    finally:
        GlobalHydra.instance().clear()


@contextlib.contextmanager
def inspect_defaults(hydra: Hydra, inspect: Callable[[Any, Any], None]) -> Iterator[None]:
    """``inspect(defaults, repository)`` before they are composed: the files that take part, in order.

    To seek and read them first would take the time of composing once more. What ``inspect`` raises
    ends the composition.
    """
    loader: Any = hydra.config_loader
    original = loader._compose_config_from_defaults_list

    def inspect_then_compose(defaults: Any, repo: Any) -> Any:
        inspect(defaults, repo)
        return original(defaults=defaults, repo=repo)

    loader._compose_config_from_defaults_list = inspect_then_compose
    try:
        yield
    finally:
        del loader._compose_config_from_defaults_list
