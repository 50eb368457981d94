"""``bertft <command> [setting=value ...]``: every command is a Hydra app.

The whole configuration is validated before slow imports, and all problems are reported at once. An
error becomes one message on stderr and the exit status that ``bertft.errors`` defines.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import logging
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, NoReturn

import bertft
from bertft.config.command_configs import COMMAND_CONFIGS
from bertft.config.registry import check_plugins
from bertft.errors import BertftError, StoppedBySignal, UsageError
from bertft.utils.distributed_env import read_distributed_env
from bertft.utils.messages import quote_for_shell, suggest
from bertft.utils.status import IMPORT_STATUS, mute_status, show_status, status_lines
from bertft.utils.system_errors import to_bertft_error
from bertft.utils.terminal import prepare_streams, print_escaped

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from bertft.config.compose import ComposeRequest

__all__ = ["main", "run_command"]

_EXIT_INTERRUPTED = 130
_EXIT_BUG = 1


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv`` (default: ``sys.argv``) and return the exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    if argv is not None:
        return _run_words(words)
    prepare_streams()
    with status_lines():
        return _run_words(words)


def _run_words(words: list[str]) -> int:
    """Dispatch and report errors. Returns the exit status."""
    try:
        status = _dispatch(words)
        sys.stdout.flush()  # report a closed pipe here, not at interpreter exit
        return status
    except BertftError as error:
        return _report_error(error, words)
    except KeyboardInterrupt:
        return _EXIT_INTERRUPTED
    except BrokenPipeError:  # the reader closed the pipe: no message at exit either
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        bertft_error = to_bertft_error(error, words)
        if bertft_error is not None:
            return _report_error(bertft_error, words)
        traceback.print_exc()
        print(
            "\nerror: this is a bug in bertft; please report it with the lines above",
            file=sys.stderr,
        )
        return _EXIT_BUG


def _dispatch(words: list[str]) -> int:
    command_word = words[0] if words else "--help"
    if command_word in COMMAND_CONFIGS:
        return run_command(command_word, words[1:])
    if command_word in ("--help", "-h", "help"):
        if len(words) > 1 and not words[1].startswith("-"):  # help train trainer
            return _dispatch([words[1], "--help", *words[2:]])
        from bertft.config.help import main_page

        print(main_page())
        return 0
    if command_word == "--version":
        print(f"bertft {bertft.__version__}")
        return 0
    if command_word in ("-sc", "--shell-completion", "--shell_completion"):
        return _print_completion(words[1:])
    if "=" in command_word or command_word.startswith("-"):
        raise UsageError(
            f"expected a command, got {command_word!r}",
            hint="Example: bertft train. bertft --help lists the commands",
        )
    raise UsageError(
        f"unknown command {command_word!r}", hint=suggest(command_word, COMMAND_CONFIGS)
    )


def run_command(command: str, words: list[str]) -> int:
    """Run ``command`` with the arguments ``words`` and return the exit status.

    Raises BertftError.
    """
    check_plugins()
    if "--version" in words:
        return _dispatch(["--version"])
    if {"--help", "-h"} & set(words):
        from bertft.config.help import command_page

        print(command_page(command, _help_topic(words), _flag_value(words, "--config-dir", "-cd")))
        return 0
    from bertft.config.compose import ComposeRequest, compose_config
    from bertft.config.config_file import expand_config_file
    from bertft.config.overrides import rewrite_overrides
    from bertft.config.positional import expand_positional

    environment = read_distributed_env()
    if environment.world_size > 1 and command != "train":
        raise UsageError(
            f"{command} is not supported with torchrun", hint=f"Run bertft {command} without it"
        )
    flags = _parse_flags(command, words)
    _check_flags(command, flags, environment.world_size)
    other_words = _remove_overrides(words, flags.overrides)
    config_dir = Path(flags.config_dir) if flags.config_dir else None
    arguments = expand_positional(command, flags.overrides)
    arguments = expand_config_file(command, arguments, config_dir)
    prints_config = flags.cfg is not None or flags.info is not None or flags.resolve
    if command == "tune" and not prints_config:
        return _run_tune(arguments, config_dir, other_words)
    if command == "cross_validate" and not prints_config:
        return _run_cross_validation(arguments, config_dir, other_words)
    if command == "tune":
        from bertft.config.tune_command import fixed_words

        arguments = fixed_words(arguments)
    overrides = rewrite_overrides(command, arguments, flags.multirun, config_dir)
    if environment.rank > 0:  # rank 0 creates the folder and sends its path
        overrides.append("hydra.run.dir=.")
    request = ComposeRequest(command, tuple(overrides), config_dir)
    if flags.multirun:
        return _run_sweep(request, other_words)
    if prints_config or flags.hydra_help:
        compose_config(request)
        _run_hydra_app(command, other_words, overrides, lambda _: None)
        return 0
    _run_single(request, arguments)
    return 0


def _check_flags(command: str, flags: argparse.Namespace, world_size: int) -> None:
    """UsageError for flags that are not supported by the command or together."""
    if flags.shell_completion:
        raise UsageError(
            "--shell-completion is not supported after a command",
            hint="Example: bertft -sc install=bash",
        )
    if not flags.multirun:
        return
    if command != "train":
        hint = "Only train supports sweeps"
        if command in ("tune", "cross_validate"):
            hint = f"Leave it out: {command} always trains several runs"
        raise UsageError(f"is not supported by {command}", where="-m", hint=hint)
    if flags.cfg is not None or flags.info is not None:
        raise UsageError(
            "is not supported together with --cfg or --info", where="-m", hint="Leave out -m"
        )
    if world_size > 1:
        raise UsageError(
            "is not supported with torchrun: a sweep starts its own processes",
            where="-m",
            hint="Run bertft train -m without torchrun",
        )


def _run_single(request: ComposeRequest, command_line_words: Sequence[str]) -> None:
    """Run the command once in a Hydra job."""
    from bertft.config.compose import run_hydra_job

    command = request.command
    task_errors: list[Exception] = []

    def prepare(config: DictConfig) -> None:  # a slow import, before Hydra creates the folder
        with _mute_status_of(config):
            _import_command(command)

    def task(config: DictConfig) -> None:
        try:
            with _mute_status_of(config):
                _run_job(command, config, request.overrides, command_line_words)
        except Exception as error:
            task_errors.append(error)

    if "quiet=true" not in request.overrides:
        show_status("reading settings", brief=True)
    with _preserve_logging(), _convert_hydra_errors():
        run_hydra_job(request, prepare, task)
    if task_errors:
        raise task_errors[0]


def _import_command(command: str) -> ModuleType:
    """The module of ``command``. Its imports take seconds, so the status says so before them."""
    # eval predictions=, init and inspect do not need torch
    if command not in ("eval", "init", "inspect") and "torch" not in sys.modules:
        show_status(IMPORT_STATUS)
    return importlib.import_module(f"bertft.cli.commands.{command}")


def _mute_status_of(config: DictConfig) -> contextlib.AbstractContextManager[None]:
    """Mute the status for ``quiet=true``, and in all processes but the main one."""
    return mute_status(bool(config.get("quiet")) or read_distributed_env().rank > 0)


def _run_tune(arguments: Sequence[str], config_dir: Path | None, other_words: list[str]) -> int:
    """Run a search as a sweep of train."""
    from bertft.config.compose import ComposeRequest
    from bertft.config.overrides import rewrite_overrides
    from bertft.config.tune_command import sweep_words

    words = sweep_words(arguments, config_dir)
    overrides = rewrite_overrides("train", words, sweep=True, config_dir=config_dir)
    request = ComposeRequest("train", tuple(overrides), config_dir)
    return _run_sweep(request, [*other_words, "--multirun"])


def _run_cross_validation(
    arguments: Sequence[str], config_dir: Path | None, other_words: list[str]
) -> int:
    """Run the folds as a sweep of train."""
    from bertft.config.cross_validate_command import plan_folds

    show_status("checking settings", brief=True)
    plan, words = plan_folds(arguments, config_dir)
    from bertft.cli.commands.cross_validate import run_cross_validation

    flags = [*other_words, "--multirun"]
    return run_cross_validation(plan, lambda job: _run_hydra_app("train", flags, words, job))


def _run_sweep(request: ComposeRequest, other_words: list[str]) -> int:
    from bertft.config.overrides import format_value
    from bertft.config.search_plan import is_search, plan_search
    from bertft.config.sweep_plan import check_sweep_input, plan_sweep

    check_sweep_input(request.overrides)
    if is_search(request.overrides):
        from bertft.cli.commands.tune import run_search

        show_status("checking the space of the search", brief=True)
        search = plan_search(request)
        words = [*request.overrides, f"hydra.sweep.dir={format_value(str(search.folder))}"]
        return run_search(
            search, lambda job: _run_hydra_app(request.command, other_words, words, job)
        )
    show_status("checking the combinations of the sweep", brief=True)
    plan = plan_sweep(request)
    from bertft.cli.commands.sweep import run_sweep

    # The resolved folder, because its name may contain the time.
    words = [*request.overrides, f"hydra.sweep.dir={format_value(str(plan.folder))}"]
    return run_sweep(plan, lambda task: _run_hydra_app(request.command, other_words, words, task))


def _run_job(
    command: str, config: DictConfig, overrides: Sequence[str], command_line_words: Sequence[str]
) -> None:
    """Run ``command`` in the folder of the Hydra job, which is removed if it stays empty.

    ``overrides`` are Hydra's overrides, ``command_line_words`` those of the command line.
    """
    from hydra.core.hydra_config import HydraConfig

    from bertft.config.compose import build_settings

    folder = Path(HydraConfig.get().runtime.output_dir)
    try:
        if read_distributed_env().world_size > 1:
            folder = _broadcast_folder(folder)
        settings = build_settings(command, config, folder, command_line_words)
        with _stop_on_signals(command):
            _import_command(command).run(settings, folder)
        _remove_if_empty(folder)  # check=true writes nothing, out= is another folder
    except BaseException:  # including a signal
        has_explicit_folder = any("hydra.run.dir=" in override for override in overrides)
        if not has_explicit_folder:
            _remove_if_empty(folder)
        raise


def _stop_on_signals(command: str) -> contextlib.AbstractContextManager[object]:
    """Raise on SIGINT and SIGTERM, so that partial output is removed.

    train handles signals itself, because it finishes its step first.
    """
    if command == "train":
        return contextlib.nullcontext()
    from bertft.training.signals import InterruptOnSignal

    return InterruptOnSignal()


def _broadcast_folder(folder: Path) -> Path:
    from bertft.training.distributed import DistributedContext

    return Path(DistributedContext.initialize().broadcast_object(lambda: str(folder)))


def _remove_if_empty(folder: Path) -> None:
    """Remove the folders that Hydra created for a command that wrote nothing."""
    if folder == Path.cwd():  # the folder of merge, predict, verify, ...
        return
    with contextlib.suppress(OSError):
        for parent in (folder, *folder.absolute().parents[:3]):  # outputs/train/<date>/<run>
            if parent == Path.cwd():
                return
            parent.rmdir()


def _run_hydra_app(
    command: str,
    other_words: list[str],
    overrides: list[str],
    task: Callable[[DictConfig], object],
) -> None:
    """Call ``task`` through ``hydra.main``, for sweeps and for --cfg and --info."""
    import hydra

    from bertft.config.registry import conf_dir

    app = hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=command)(task)
    with _patch_argv(f"bertft {command}", [*other_words, *overrides]), _convert_hydra_errors():
        app()


@contextlib.contextmanager
def _convert_hydra_errors() -> Iterator[None]:
    """Convert the exceptions of Hydra to UsageError."""
    from bertft.config.hydra_errors import HYDRA_ERRORS, to_problem
    from bertft.utils.messages import usage_error

    try:
        yield
    except HYDRA_ERRORS as error:
        raise usage_error([to_problem(error)]) from error
    except SystemExit as stop:
        if stop.code:
            raise UsageError(
                f"Hydra ended with status {stop.code}", hint="See the lines above"
            ) from stop


@contextlib.contextmanager
def _preserve_logging() -> Iterator[None]:
    """Restore the root logger, which Hydra configures (--info, hydra.verbose, job_logging)."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    try:
        yield
    finally:
        for handler in set(root.handlers) - set(handlers):
            handler.close()
        root.handlers[:] = handlers
        root.setLevel(level)


@contextlib.contextmanager
def _patch_argv(name: str, words: list[str]) -> Iterator[None]:
    """Set ``sys.argv`` for Hydra, and HYDRA_FULL_ERROR, so that it raises exceptions."""
    argv, previous_full_error = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    sys.argv, os.environ["HYDRA_FULL_ERROR"] = [name, *words], "1"
    try:
        with _preserve_logging():
            yield
    finally:
        sys.argv = argv
        if previous_full_error is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = previous_full_error


def _parse_flags(command: str, words: list[str]) -> argparse.Namespace:
    from bertft.config.hydra_internals import get_args_parser

    parser = get_args_parser()

    def raise_usage_error(message: str) -> NoReturn:
        unknown = re.match(r"(?:unrecognized arguments:|ambiguous option:) (-\S+)", message)
        if unknown is not None:
            raise _unknown_option_error(command, words, unknown[1])
        raise UsageError(
            message,
            where=f"bertft {command}",
            hint=f"bertft {command} --help lists the settings and options",
        )

    parser.error = raise_usage_error  # type: ignore[method-assign]
    args = parser.parse_intermixed_args(words)
    presets_hint = "Use --config-dir=<folder> for your own presets"
    for name, hint in (
        ("config_path", presets_hint),
        ("config_name", presets_hint),
        ("experimental_rerun", "Repeat a run with bertft train config=<run>/config.yaml"),
    ):
        if getattr(args, name, None) is not None:
            raise UsageError(f"--{name.replace('_', '-')} is not supported", hint=hint)
    return args


def _unknown_option_error(command: str, words: list[str], option: str) -> UsageError:
    """The error for an option such as ``--input``, with the setting that it may mean."""
    from bertft.config.schema import find_setting, settings_tree
    from bertft.config.validation import validate_override

    name, equals, value = option.lstrip("-").partition("=")
    name = name.replace("-", "_")
    hint = "Write settings as name=value"
    entry, _ = find_setting(settings_tree(command), name)
    if entry is None:
        problems = validate_override(command, f"{name}=", None, {})
        hint = ". ".join([hint, *(problem.hint for problem in problems)])
    else:
        if not equals and option in words:
            following = words[words.index(option) + 1 :][:1]
            value = following[0] if following and "=" not in following[0] else ""
        hint += f": {quote_for_shell(f'{name}={value}') if value else f'{name}=<value>'}"
    return UsageError(f"{option.partition('=')[0]} is not an option", hint=hint)


def _print_completion(flags: list[str]) -> int:
    action, _, shell = flags[0].partition("=") if flags else ("", "", "")
    from bertft.cli.completion import complete_line, completion_script

    if action == "query":
        completions = complete_line(os.environ.get("COMP_LINE", ""))
        print(("\n" if shell == "fish" else " ").join(completions))
        return 0
    with _patch_argv("bertft", []):
        print(completion_script(shell, action), end="")
    return 0


def _flag_value(words: list[str], *flags: str) -> Path | None:
    """The path given with one of ``flags``, as ``--flag value`` or ``--flag=value``."""
    for word, following in zip(words, [*words[1:], ""], strict=True):
        flag, equals, value = word.partition("=")
        if flag in flags:
            return Path(value if equals else following)
    return None


def _help_topic(words: list[str]) -> str | None:
    """The word after ``--help``; None if it is an option or there is none."""
    index = min(words.index(flag) for flag in ("--help", "-h") if flag in words)
    following = words[index + 1 : index + 2]
    return following[0] if following and not following[0].startswith("-") else None


def _remove_overrides(words: list[str], overrides: Sequence[str]) -> list[str]:
    rest = list(words)
    for override in overrides:
        rest.remove(override)
    return rest


def _report_error(error: BertftError, words: Sequence[str]) -> int:
    if os.environ.get("HYDRA_FULL_ERROR") == "1":
        traceback.print_exception(error)
    environment = read_distributed_env()
    # Bad input and a signal are the same in every process of a machine: one process reports them.
    if environment.local_rank == 0 or not isinstance(error, (UsageError, StoppedBySignal)):
        print_escaped(
            f"{f'rank {environment.rank}: ' if environment.rank else ''}error: {error}", stderr=True
        )
        if error.proposed_settings:
            print_escaped(f"Try:\n  {_with_settings(words, error.proposed_settings)}", stderr=True)
    return error.status


def _with_settings(words: Sequence[str], settings: Sequence[str]) -> str:
    """The command line ``words`` with ``settings`` in place of those of the same names."""
    names = {setting.partition("=")[0] for setting in settings}
    other_words = [word for word in words if word.partition("=")[0].lstrip("+") not in names]
    return " ".join(["bertft", *map(quote_for_shell, [*other_words, *settings])])
