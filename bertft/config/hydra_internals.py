"""Private parts of Hydra that bertft uses; no other module imports them.

``use_former_names`` checks the encoding of every YAML file that Hydra loads (bertft's presets,
--config-dir, hydra.searchpath, packages), and renames its settings.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from hydra._internal.config_repository import IConfigRepository
from hydra._internal.core_plugins import file_config_source
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.hydra import Hydra
from hydra._internal.sources_registry import SourcesRegistry
from hydra._internal.utils import create_automatic_config_search_path, get_args_parser
from hydra.plugins.config_source import ConfigResult
from omegaconf import OmegaConf

from bertft.config.command_configs import COMMAND_CONFIGS
from bertft.config.former_names import rename_settings
from bertft.config.presets import read_preset
from bertft.config.schema import Node, find_setting, settings_tree
from bertft.utils.messages import Problem, display_path, usage_error

__all__ = [
    "BasicSweeper",
    "Hydra",
    "IConfigRepository",
    "create_automatic_config_search_path",
    "get_args_parser",
    "use_former_names",
]


@functools.cache
def use_former_names() -> None:
    """Replace Hydra's source of YAML files with ``FileConfigSource``."""
    SourcesRegistry.instance().types[FileConfigSource.scheme()] = FileConfigSource


class FileConfigSource(file_config_source.FileConfigSource):  # the registry compares the names
    """A folder of YAML files whose settings are renamed when a file is loaded.

    Loading raises UsageError for a file that is not UTF-8, or has an invalid first line.
    """

    def load_config(self, config_path: str) -> ConfigResult:
        path = Path(self.path, self._normalize_file_name(config_path))
        text = read_preset(path) if path.is_file() else ""  # super reports a missing file
        try:
            header = self._get_header_dict(text)
        except ValueError as error:  # a first line such as "# @package"
            problem = Problem(display_path(path), str(error), "Example: # @package _global_")
            raise usage_error([problem]) from error
        result = super().load_config(config_path)
        result.header = header  # Hydra does not find "# @package" after a byte order mark
        content: Any = OmegaConf.to_container(result.config, resolve=False)
        group, _, name = config_path.removesuffix(".yaml").rpartition("/")
        package = str(result.header.get("package") or group.replace("/", "."))
        root = settings_tree(name if not group and name in COMMAND_CONFIGS else "train")
        node, _ = find_setting(root, "" if package == "_global_" else package)
        if isinstance(node, Node) and isinstance(content, dict):
            file = display_path(f"{result.path}/{config_path.removesuffix('.yaml')}.yaml")
            renamed = rename_settings(node, content, file)
            if renamed != content:
                result.config = OmegaConf.create(renamed)
        return result
