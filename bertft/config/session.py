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

from bertft.config.command_line import opening
from bertft.config.commands import COMMANDS
from bertft.config.folder import conf_dir
from bertft.config.hydra_internals import (
    Hydra,
    create_automatic_config_search_path,
    use_former_names,
)
from bertft.config.job_folder import register_resolver
from bertft.config.messages import Problem, usage_error
from bertft.config.registry import METHODS, preset_folders

__all__ = ["Request", "looked_at", "register_schema", "session"]


@dataclass(frozen=True)
class Request:
    """A command with its overrides (already in Hydra's grammar) and its ``--config-dir``."""

    command: str
    overrides: tuple[str, ...]
    config_dir: Path | None = None


def register_schema() -> None:
    """Put the dataclasses where the YAML files expect them: ``schema/<command>``."""
    register_resolver()
    use_former_names()
    _register(METHODS.names())


@functools.cache
def _register(parts: tuple[str, ...]) -> None:
    store = ConfigStore.instance()
    for command, cls in COMMANDS.items():
        store.store(group="schema", name=command, node=cls, package="_global_")
    for part in parts:
        group = opening(f"method.{part}").lstrip("+").partition("=")[0]
        filling: dict[str, Any] = {"method": {part: {}}}
        store.store(group=group, name="yes", node=filling, package="_global_")
    Plugins.instance().register(_PresetsOfPackages)


class _PresetsOfPackages(SearchPathPlugin):
    """The presets of other packages come after bertft's own."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        for folder in preset_folders():
            search_path.append("bertft-packages", f"file://{folder}")


@contextlib.contextmanager
def session(request: Request) -> Iterator[Hydra]:
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
def looked_at(hydra: Hydra, look: Callable[[Any, Any], None]) -> Iterator[None]:
    """``look(defaults, repository)`` before they are composed: the files that take part, in order.

    To seek and read them first would take the time of composing once more. What ``look`` raises
    ends the composition.
    """
    loader: Any = hydra.config_loader
    plainly = loader._compose_config_from_defaults_list

    def after_a_look(defaults: Any, repo: Any) -> Any:
        look(defaults, repo)
        return plainly(defaults=defaults, repo=repo)

    loader._compose_config_from_defaults_list = after_a_look
    try:
        yield
    finally:
        del loader._compose_config_from_defaults_list
