"""Compose a command's configuration with Hydra, checked whole; and the typed object of it.

compose(request) -> DictConfig            or UsageError with every problem
run(request, prepare, task)               composed once, and task called in Hydra's job
settings_of(...) -> TrainConfig, EvalConfig, ...
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import configure_log
from hydra.errors import OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from bertft.config.checks import File, check_file, check_whole, check_word
from bertft.config.command_line import OPEN, opening, split
from bertft.config.commands import COMMANDS, EvalRequest
from bertft.config.folder import group_names
from bertft.config.former_names import current_path
from bertft.config.hydra_errors import RENDERED, problem_of, relative
from bertft.config.hydra_internals import Hydra
from bertft.config.messages import Problem, usage_error
from bertft.config.plain import plain
from bertft.config.resumed import resumed
from bertft.config.schema import tree
from bertft.config.session import Request, looked_at, session

__all__ = [
    "attempt",
    "check_words",
    "compose",
    "compose_unchecked",
    "default_settings",
    "run",
    "settings_of",
    "typed",
]


def compose(request: Request) -> DictConfig:
    """The configuration, with Hydra's own under ``hydra``. UsageError lists every problem."""
    with session(request) as hydra:
        return _sound(hydra, request)


def run(request: Request, prepare: Callable[[], None], task: Callable[[DictConfig], None]) -> None:
    """``task`` on the configuration, in the job that Hydra makes of it: its folder and HydraConfig.

    The same as ``hydra.main``, which composes twice more what was composed to be checked: a third
    of the time of a small run. ``prepare`` is called once all is well, before the folder is made.
    """
    with session(request) as hydra:
        config = _sound(hydra, request)
        if config.hydra.mode == RunMode.MULTIRUN:
            raise usage_error([Problem("hydra.mode", "a sweep is asked for with -m", "")])
        prepare()

        def composed(with_log_configuration: bool = False, **_: Any) -> DictConfig:
            if with_log_configuration:
                configure_log(config.hydra.hydra_logging, config.hydra.verbose)
            return config

        hydra.compose_config = composed  # type: ignore[assignment, method-assign]
        hydra.run(request.command, task, list(request.overrides))


def _sound(hydra: Hydra, request: Request) -> DictConfig:
    config, problems = attempt(hydra, request, request.overrides)
    if problems:
        raise usage_error(problems)
    assert config is not None
    return config


def settings_of(command: str, config: DictConfig, folder: Path, words: Sequence[str]) -> Any:
    """What ``bertft.commands.<command>.run`` takes: the dataclass of the composed ``config``.

    ``words``: what the command line sets, without what was added from a run or a folder.

    Of a run that goes on (``resume``, in ``folder``) it is the run's own configuration.
    """
    given = [current_path(tree(command), split(word)[1]) for word in words]
    resume = config.get("resume")
    if command == "train" and resume is not None:
        begun = all((folder / name).is_file() for name in ("config.yaml", "manifest.json"))
        if resume != "auto" or begun:
            return resumed(folder, config, given)
    settings = typed(command, config)
    if command == "eval":
        return EvalRequest(**vars(settings), typed=frozenset(given))
    if command == "train":
        settings.experiment = HydraConfig.get().runtime.choices.get("experiment")
    return settings


def default_settings(command: str) -> Any:
    """The dataclass of ``command`` as it is without a word, from the presets that come with us."""
    running = GlobalHydra.instance().hydra  # a sweep goes on with it
    try:
        return typed(command, compose(Request(command, ())))
    finally:
        GlobalHydra.instance().hydra = running


def typed(command: str, config: DictConfig) -> Any:
    """The dataclass of ``command`` filled with a composed ``config``, its ``hydra`` left out."""
    schema = OmegaConf.structured(COMMANDS[command])
    return OmegaConf.to_object(OmegaConf.merge(schema, plain(config)))


def attempt(
    hydra: Hydra, request: Request, overrides: Sequence[str]
) -> tuple[DictConfig | None, list[Problem]]:
    """The configuration as far as it can be composed, and what is wrong with it."""
    problems, bad, good = check_words(hydra, request, overrides)

    def look(defaults: Any, repository: Any) -> None:
        files = _files(defaults, repository)
        if found := [each for file in files for each in check_file(request.command, file)]:
            raise _InFiles(found)

    try:
        with looked_at(hydra, look):
            config = compose_unchecked(hydra, request, good, RunMode.RUN)
        content = plain(config)
    except _InFiles as error:
        return None, [*problems, *error.problems]
    except RENDERED as error:
        return None, [*problems, problem_of(error)]
    return config, [*problems, *check_whole(request.command, content, bad)]


class _InFiles(Exception):
    """There is no use in composing what the files say: they have these problems."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__(problems)
        self.problems = problems


def compose_unchecked(
    hydra: Hydra, request: Request, words: Sequence[str], mode: RunMode
) -> DictConfig:
    """What Hydra makes of ``words``; it raises one of ``RENDERED`` for the first mistake."""
    return hydra.compose_config(
        request.command, list(words), run_mode=mode, with_log_configuration=False
    )


def check_words(
    hydra: Hydra, request: Request, overrides: Sequence[str]
) -> tuple[list[Problem], list[str], list[str]]:
    """Problems, the paths they leave unknown, and the overrides without any."""
    parser = OverridesParser.create(hydra.config_loader)
    names = _presets(hydra, request, overrides)
    problems = _contradictions(overrides)
    bad, good = [problem.where for problem in problems], []
    for word in overrides:
        sign, key, text = split(word)
        if key in bad:
            continue
        if word == opening(key.removeprefix(f"{OPEN}/").replace("/", ".")):
            good.append(word)
            continue
        try:
            override = parser.parse_overrides([word])[0]
        except OverrideParseException as error:
            wrong = list(check_word(request.command, word, text, names)) or [problem_of(error)]
        else:
            if override.is_sweep_override():
                wrong = [
                    Problem(
                        key, f"{text} are several values",
                        "Add -m for a run with each, or write a list: [a,b]",
                    )
                ]  # fmt: skip
            else:
                value = None if sign == "~" else override.value()
                wrong = list(check_word(request.command, word, value, names))
        problems += wrong
        (bad if wrong else good).append(key if wrong else word)
    return problems, bad, good


def _presets(hydra: Hydra, request: Request, overrides: Sequence[str]) -> dict[str, Sequence[str]]:
    """Group → names of its presets, those of ``--config-dir`` and ``hydra.searchpath`` included."""
    loader: Any = hydra.config_loader
    groups = {split(word)[1] for word in overrides} & set(group_names())
    path = [word for word in overrides if split(word)[1] == "hydra.searchpath"]
    if not path:  # the loader's own way takes a tenth of composing for each group
        return {group: loader.repository.get_group_options(group) for group in groups}
    options, name = loader.get_group_options, request.command
    return {
        group: options(group, ObjectType.CONFIG, config_name=name, overrides=path)
        for group in groups
    }


def _contradictions(overrides: Sequence[str]) -> list[Problem]:
    """Nodes that are set to null while something below them is set too."""
    given = {key: value for _, key, value in map(split, overrides)}
    nulls = [key for key, value in given.items() if value == "null"]
    return [
        Problem(below, f"has no place, for {null} is null", "Leave out one of the two")
        for null in nulls
        for below in given
        if below.startswith(f"{null}.")
    ]


def _files(defaults: Any, repository: Any) -> Iterator[File]:
    """The YAML files that take part, those of Hydra and the schema left out."""
    for default in defaults:
        if default.config_path is None:
            continue
        found = repository.load_config(default.config_path)
        if found is None or found.is_schema_source or found.provider in ("hydra", "schema"):
            continue
        package = default.package or ""
        yield File(
            relative(f"{found.path}/{default.config_path}.yaml"),
            "" if package == "_global_" else package,
            OmegaConf.to_container(found.config, resolve=False),  # type: ignore[arg-type]
            default.config_path.rpartition("/")[0] or None,
        )
