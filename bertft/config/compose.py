"""Compose the configuration of a command with Hydra, validate it and build its dataclass.

compose_config(request) -> DictConfig         UsageError lists every problem
run_hydra_job(request, prepare, task)         composes once and calls task in Hydra's job
build_settings(...) -> TrainConfig, EvalConfig, ...
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra import version
from hydra.core.config_search_path import ConfigSearchPath, SearchPathQuery
from hydra.core.config_store import ConfigStore
from hydra.core.default_element import ResultDefault
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.core.utils import configure_log
from hydra.errors import OverrideParseException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from bertft.config.command_configs import (
    COMMAND_CONFIGS,
    EvalRequest,
    InspectRequest,
    TrainConfig,
)
from bertft.config.config_file import CONFIG_GROUP, config_file_paths
from bertft.config.former_names import current_path
from bertft.config.hydra_errors import HYDRA_ERRORS, to_problem
from bertft.config.hydra_internals import (
    Hydra,
    IConfigRepository,
    create_automatic_config_search_path,
    use_former_names,
)
from bertft.config.job_name import register_job_folder_resolver
from bertft.config.method_components.low_rank import default_rate
from bertft.config.overrides import OPEN_GROUP, open_node_override, split_override
from bertft.config.presets import preset_groups
from bertft.config.registry import METHODS, conf_dir, plugin_preset_folders
from bertft.config.resume import metric_code_error, resume_config
from bertft.config.schema import settings_tree
from bertft.config.serialize import to_plain_dict
from bertft.config.task_facts import is_metric_function
from bertft.config.validation import ConfigFile, validate_config, validate_file, validate_override
from bertft.errors import UsageError
from bertft.utils.messages import Problem, display_path, usage_error

__all__ = [
    "ComposeRequest",
    "build_default_config",
    "build_settings",
    "compose_config",
    "compose_unchecked",
    "hydra_session",
    "inspect_defaults",
    "register_schema",
    "run_hydra_job",
    "to_dataclass",
    "try_compose",
    "validate_overrides",
]

_ONE_VALUE_HINTS = {
    "train": "Add -m for one run per value",
    "cross_validate": "Set one value. To compare settings, use bertft train -m or bertft tune",
}


# The settings of these commands include the paths of the settings on the command line.
_REQUESTS: dict[str, type[EvalRequest] | type[InspectRequest]] = {
    "eval": EvalRequest,
    "inspect": InspectRequest,
}


@dataclass(frozen=True)
class ComposeRequest:
    """A command, its overrides in Hydra's grammar, and its ``--config-dir``."""

    command: str
    overrides: tuple[str, ...]
    config_dir: Path | None = None


def register_schema() -> None:
    """Register the dataclasses of the commands as ``schema/<command>`` for the YAML files."""
    register_job_folder_resolver()
    OmegaConf.register_new_resolver("bertft_lora_rate", default_rate, replace=True)
    use_former_names()
    _store_schema(METHODS.names())


@functools.cache
def _store_schema(component_names: tuple[str, ...]) -> None:
    store = ConfigStore.instance()
    for command, cls in COMMAND_CONFIGS.items():
        store.store(group="schema", name=command, node=cls, package="_global_")
    for name in component_names:
        group = open_node_override(f"method.{name}").lstrip("+").partition("=")[0]
        node_content: dict[str, Any] = {"method": {name: {}}}
        store.store(group=group, name="yes", node=node_content, package="_global_")
    Plugins.instance().register(_PluginPresets)


class _PluginPresets(SearchPathPlugin):
    """Adds the presets of other packages after bertft's own."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        for folder in plugin_preset_folders():
            search_path.append("bertft-packages", f"file://{folder}")


@contextlib.contextmanager
def hydra_session(request: ComposeRequest) -> Iterator[Hydra]:
    """Hydra with the YAML files and the schema for ``request``."""
    version.setbase("1.3")
    register_schema()
    search_path = create_automatic_config_search_path(None, None, str(conf_dir()))
    if request.config_dir is not None:
        if not request.config_dir.is_dir():
            raise usage_error(
                [
                    Problem(
                        "--config-dir",
                        f"there is no folder {request.config_dir}",
                        "Set it to a folder of YAML files",
                    )
                ]
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
def inspect_defaults(
    hydra: Hydra, inspect: Callable[[Sequence[ResultDefault], IConfigRepository], None]
) -> Iterator[None]:
    """Call ``inspect(defaults, repository)`` with the files to load, before they are composed.

    Finding and reading the files in advance would take as long as composing. An exception of
    ``inspect`` ends the composition.
    """
    loader: Any = hydra.config_loader
    original = loader._compose_config_from_defaults_list

    def inspect_then_compose(defaults: list[ResultDefault], repo: IConfigRepository) -> DictConfig:
        inspect(defaults, repo)
        composed: DictConfig = original(defaults=defaults, repo=repo)
        return composed

    loader._compose_config_from_defaults_list = inspect_then_compose
    try:
        yield
    finally:
        del loader._compose_config_from_defaults_list


def compose_config(request: ComposeRequest) -> DictConfig:
    """The configuration, with Hydra's settings under ``hydra``. UsageError lists every problem."""
    with hydra_session(request) as hydra:
        return _compose_checked(hydra, request)


def run_hydra_job(
    request: ComposeRequest,
    prepare: Callable[[DictConfig], None],
    task: Callable[[DictConfig], None],
) -> None:
    """Call ``task`` with the configuration in a Hydra job, with its folder and HydraConfig.

    The same as ``hydra.main``, but the configuration is composed once instead of three times, which
    saves a third of the time of a small run. ``prepare`` is called after validation and before the
    folder is created.
    """
    with hydra_session(request) as hydra:
        config = _compose_checked(hydra, request)
        if config.hydra.mode == RunMode.MULTIRUN:
            raise usage_error([Problem("hydra.mode", "cannot be set", "Use -m for a sweep")])
        prepare(config)

        def return_composed(with_log_configuration: bool = False, **_: Any) -> DictConfig:
            if with_log_configuration:
                configure_log(config.hydra.hydra_logging, config.hydra.verbose)
            return config

        hydra.compose_config = return_composed  # type: ignore[assignment, method-assign]
        hydra.run(request.command, task, list(request.overrides))


def _compose_checked(hydra: Hydra, request: ComposeRequest) -> DictConfig:
    config, problems = try_compose(hydra, request, request.overrides)
    if problems:
        raise usage_error(problems)
    assert config is not None
    return config


def build_settings(command: str, config: DictConfig, folder: Path, arguments: Sequence[str]) -> Any:
    """The settings for ``bertft.cli.commands.<command>.run``: the dataclass of ``config``.

    Args:
        command: the command.
        config: the composed configuration.
        folder: the folder of the job. On resume, the settings are those of the run in it.
        arguments: the overrides of the command line, without those added from a run or folder.
    """
    explicit_paths: list[str] = []
    command_line_paths: list[str] = []
    for _, key, value in map(split_override, arguments):
        paths_in_file = config_file_paths(value or "") if key == CONFIG_GROUP else ()
        path = current_path(settings_tree(command), key)
        explicit_paths += paths_in_file or (path,)
        command_line_paths.append(path)
    resume = config.get("resume")
    if command == "train" and resume is not None:
        has_run = all((folder / name).is_file() for name in ("config.yaml", "manifest.json"))
        if resume != "auto" or has_run:
            resumed = resume_config(folder, config, explicit_paths)
            if _is_unconfirmed_code(resumed.data.metric, command_line_paths):
                raise metric_code_error(folder, str(resumed.data.metric))
            return resumed
    settings = to_dataclass(command, config)
    if command == "train" and _is_unconfirmed_code(settings.data.metric, command_line_paths):
        raise _metric_in_file_error(settings.data.metric)
    if command in _REQUESTS:
        return _REQUESTS[command](**vars(settings), explicit_settings=frozenset(explicit_paths))
    if command == "train":
        settings.experiment = HydraConfig.get().runtime.choices.get("experiment")
    return settings


def _is_unconfirmed_code(metric: str | None, command_line_paths: Sequence[str]) -> bool:
    """Whether ``metric`` is a Python function that the command line does not name."""
    return is_metric_function(metric) and "data.metric" not in command_line_paths


def _metric_in_file_error(metric: str) -> UsageError:
    """A file, such as a preset or ``config=``, names a Python function."""
    return usage_error(
        [
            Problem(
                "data.metric",
                f"a file sets {metric}, which is Python code; only the command line can name code",
                f"If you trust it, add data.metric={metric} to the command",
            )
        ]
    )


def build_default_config() -> TrainConfig:
    """The configuration of ``bertft train`` without any overrides."""
    running_hydra = GlobalHydra.instance().hydra  # a sweep continues with it
    try:
        config = to_dataclass("train", compose_config(ComposeRequest("train", ())))
    finally:
        GlobalHydra.instance().hydra = running_hydra
    assert isinstance(config, TrainConfig)
    return config


def to_dataclass(command: str, config: DictConfig) -> Any:
    """The dataclass of ``command`` with the values of a composed ``config``."""
    schema = OmegaConf.structured(COMMAND_CONFIGS[command])
    return OmegaConf.to_object(OmegaConf.merge(schema, to_plain_dict(config)))


def try_compose(
    hydra: Hydra, request: ComposeRequest, overrides: Sequence[str]
) -> tuple[DictConfig | None, list[Problem]]:
    """The configuration (None if it cannot be composed) and its problems."""
    problems, unknown_paths, valid_overrides = validate_overrides(hydra, request, overrides)

    def check_files(defaults: Sequence[ResultDefault], repository: IConfigRepository) -> None:
        files = _config_files(defaults, repository)
        if file_problems := [
            problem for file in files for problem in validate_file(request.command, file)
        ]:
            raise _ConfigFileProblems(file_problems)

    try:
        with inspect_defaults(hydra, check_files):
            config = compose_unchecked(hydra, request, valid_overrides, RunMode.RUN)
        content = to_plain_dict(config)
    except _ConfigFileProblems as error:
        return None, [*problems, *error.problems]
    except HYDRA_ERRORS as error:
        return None, [*problems, to_problem(error)]
    return config, [*problems, *validate_config(request.command, content, unknown_paths)]


class _ConfigFileProblems(Exception):
    """The YAML files have problems and are not composed."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__(problems)
        self.problems = problems


def compose_unchecked(
    hydra: Hydra, request: ComposeRequest, words: Sequence[str], mode: RunMode
) -> DictConfig:
    """The configuration as Hydra composes it. Raises one of ``HYDRA_ERRORS`` if it is invalid."""
    return hydra.compose_config(
        request.command, list(words), run_mode=mode, with_log_configuration=False
    )


def validate_overrides(
    hydra: Hydra, request: ComposeRequest, overrides: Sequence[str]
) -> tuple[list[Problem], list[str], list[str]]:
    """Problems, the paths that have one, and the overrides without problems."""
    parser = OverridesParser.create(hydra.config_loader)
    preset_names = _available_presets(hydra, request, overrides)
    problems = _null_conflicts(overrides)
    unknown_paths, valid_overrides = [problem.where for problem in problems], []
    for word in overrides:
        sign, key, text = split_override(word)
        if key in unknown_paths:
            continue
        opened_path = key.removeprefix(f"{OPEN_GROUP}/").replace("/", ".")
        if key == CONFIG_GROUP or word == open_node_override(opened_path):
            valid_overrides.append(word)
            continue
        try:
            override = parser.parse_overrides([word])[0]
        except OverrideParseException as error:
            override_problems = list(
                validate_override(request.command, word, text, preset_names)
            ) or [to_problem(error)]
        else:
            if override.is_sweep_override():
                override_problems = [
                    Problem(
                        key,
                        f"expected one value, got {text}",
                        _ONE_VALUE_HINTS.get(request.command, "Set one value"),
                    )
                ]
            else:
                value = None if sign == "~" else override.value()
                override_problems = list(
                    validate_override(request.command, word, value, preset_names)
                )
        problems += override_problems
        if override_problems:
            unknown_paths.append(key)
        else:
            valid_overrides.append(word)
    return problems, unknown_paths, valid_overrides


def _available_presets(
    hydra: Hydra, request: ComposeRequest, overrides: Sequence[str]
) -> dict[str, Sequence[str]]:
    """Group → names of its presets, including ``--config-dir`` and ``hydra.searchpath``."""
    loader: Any = hydra.config_loader
    groups = {split_override(word)[1] for word in overrides} & set(preset_groups())
    path = [word for word in overrides if split_override(word)[1] == "hydra.searchpath"]
    if not path:  # faster than get_group_options, which takes a tenth of composing
        return {group: loader.repository.get_group_options(group) for group in groups}
    options, name = loader.get_group_options, request.command
    return {
        group: options(group, ObjectType.CONFIG, config_name=name, overrides=path)
        for group in groups
    }


def _null_conflicts(overrides: Sequence[str]) -> list[Problem]:
    """Groups that are set to null while a setting in them is set too."""
    value_by_key = {key: value for _, key, value in map(split_override, overrides)}
    nulls = [key for key, value in value_by_key.items() if value == "null"]
    return [
        Problem(nested_path, f"cannot be set, because {null_path}=null", "Leave out one of them")
        for null_path in nulls
        for nested_path in value_by_key
        if nested_path.startswith(f"{null_path}.")
    ]


def _config_files(
    defaults: Sequence[ResultDefault], repository: IConfigRepository
) -> Iterator[ConfigFile]:
    """The YAML files that are loaded, without those of Hydra and the schema."""
    for default in defaults:
        if default.config_path is None:
            continue
        loaded = repository.load_config(default.config_path)
        if loaded is None or loaded.is_schema_source or loaded.provider in ("hydra", "schema"):
            continue
        package = default.package or ""
        yield ConfigFile(
            display_path(f"{loaded.path}/{default.config_path}.yaml"),
            "" if package == "_global_" else package,
            OmegaConf.to_container(loaded.config, resolve=False),  # type: ignore[arg-type]
            default.config_path.rpartition("/")[0] or None,
        )
