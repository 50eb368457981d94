"""``bertft <command> [setting=value ...]``: the command word chooses a Hydra app.

The whole configuration is checked before anything is imported that is slow, and every mistake
is told at once. Errors become one message on stderr and the exit status of ``bertft.errors``.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import logging
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import bertft
from bertft.config.command_configs import COMMAND_CONFIGS
from bertft.config.registry import check_plugins
from bertft.errors import BertftError, StoppedBySignal, UsageError
from bertft.utils.distributed_env import read_distributed_env
from bertft.utils.messages import suggest
from bertft.utils.system_errors import to_bertft_error
from bertft.utils.terminal import prepare_streams, print_escaped

if TYPE_CHECKING:
    from bertft.config.compose import ComposeRequest

__all__ = ["main", "run_command"]

_EXIT_INTERRUPTED = 130
_EXIT_BUG = 1


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv`` (default: the program's); the exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    if argv is None:
        prepare_streams()
    try:
        status = _dispatch(words)
        sys.stdout.flush()  # a closed pipe shows here, not when the interpreter ends
        return status
    except BertftError as error:
        return _report_error(error)
    except KeyboardInterrupt:
        return _EXIT_INTERRUPTED
    except BrokenPipeError:  # the reader has seen enough; keep the interpreter's exit quiet too
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        bertft_error = to_bertft_error(error, words)
        if bertft_error is not None:
            return _report_error(bertft_error)
        traceback.print_exc()
        print(
            "\nerror: this is a bug of bertft; please report it with the lines above",
            file=sys.stderr,
        )
        return _EXIT_BUG


def _dispatch(words: list[str]) -> int:
    command_word = words[0] if words else "--help"
    if command_word in COMMAND_CONFIGS:
        return run_command(command_word, words[1:])
    if command_word in ("--help", "-h", "help"):
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
            f"{command_word} stands where a command must", hint="For example bertft train"
        )
    raise UsageError(
        f"there is no command {command_word!r}", hint=suggest(command_word, COMMAND_CONFIGS)
    )


def run_command(command: str, words: list[str]) -> int:
    """Run ``command`` on the ``words`` that follow it; the exit status. Its errors are raised."""
    check_plugins()
    if "--version" in words:
        return _dispatch(["--version"])
    if {"--help", "-h"} & set(words):
        from bertft.config.help import command_page

        print(command_page(command, _flag_value(words, "--config-dir", "-cd")))
        return 0
    from bertft.config.compose import ComposeRequest, compose_config, run_hydra_job
    from bertft.config.overrides import rewrite_overrides
    from bertft.config.positional import expand_positional

    if read_distributed_env().world_size > 1 and command != "train":
        raise UsageError(
            f"{command} runs in one process", where="torchrun", hint=f"bertft {command}"
        )
    parsed = _parse_flags(command, words)
    if parsed.multirun and command != "train":
        raise UsageError(f"{command} runs once", where="-m", hint="Only train sweeps")
    if parsed.shell_completion:
        raise UsageError(
            "--shell-completion stands alone", hint="For example bertft -sc install=bash"
        )
    if parsed.multirun and (parsed.cfg is not None or parsed.info is not None):
        raise UsageError("--cfg and --info show one run", where="-m", hint="Leave out -m")
    if parsed.multirun and read_distributed_env().world_size > 1:
        raise UsageError(
            "a sweep starts its own processes", where="torchrun", hint="bertft train -m"
        )
    flags = _remove_overrides(words, parsed.overrides)
    parsed.overrides = expand_positional(command, parsed.overrides)
    folder = Path(parsed.config_dir) if parsed.config_dir else None
    overrides = rewrite_overrides(command, parsed.overrides, parsed.multirun, folder)
    if (
        read_distributed_env().rank > 0
    ):  # the first process makes the folder and tells the others its name
        overrides.append("hydra.run.dir=.")
    request = ComposeRequest(command, tuple(overrides), folder)
    if parsed.multirun:
        return _run_sweep(request, flags)
    if parsed.cfg is not None or parsed.info is not None or parsed.hydra_help or parsed.resolve:
        compose_config(request)
        _hydra_app(command, flags, overrides, lambda _: None)
        return 0
    task_errors: list[Exception] = []

    def prepare() -> None:
        importlib.import_module(
            f"bertft.cli.commands.{command}"
        )  # slow: before Hydra makes a folder

    def task(config: Any) -> None:
        try:
            _run_job(command, config, overrides, parsed.overrides)
        except Exception as error:
            task_errors.append(error)

    with _preserve_logging(), _convert_hydra_errors():
        run_hydra_job(request, prepare, task)
    if task_errors:
        raise task_errors[0]
    return 0


def _run_sweep(request: ComposeRequest, flags: list[str]) -> int:
    from bertft.config.overrides import format_value
    from bertft.config.sweep_plan import plan_sweep

    planned = plan_sweep(request)
    from bertft.cli.commands.sweep import run_sweep

    # The folder is told Hydra as it was resolved here: it may hold the time.
    words = [*request.overrides, f"hydra.sweep.dir={format_value(str(planned.folder))}"]
    return run_sweep(planned, lambda task: _hydra_app(request.command, flags, words, task))


def _run_job(
    command: str, config: Any, overrides: Sequence[str], command_line_words: Sequence[str]
) -> None:
    """``overrides`` are what Hydra got, ``command_line_words`` the words of the command line."""
    from hydra.core.hydra_config import HydraConfig

    from bertft.config.compose import build_settings

    folder = Path(HydraConfig.get().runtime.output_dir)
    try:
        if read_distributed_env().world_size > 1:
            folder = _broadcast_folder(folder)
        settings = build_settings(command, config, folder, command_line_words)
        with _stop_on_signals(command):
            importlib.import_module(f"bertft.cli.commands.{command}").run(settings, folder)
        _remove_if_empty(folder)  # check=true wrote nothing, out= elsewhere
    except BaseException:  # a signal too
        has_explicit_folder = any("hydra.run.dir=" in override for override in overrides)
        if not has_explicit_folder:
            _remove_if_empty(folder)
        raise


def _stop_on_signals(command: str) -> contextlib.AbstractContextManager[Any]:
    """What a command was writing is removed on its way out; train finishes its step first."""
    if command == "train":
        return contextlib.nullcontext()
    from bertft.training.signals import InterruptOnSignal

    return InterruptOnSignal()


def _broadcast_folder(folder: Path) -> Path:
    from bertft.training.distributed import DistributedContext

    return Path(DistributedContext.initialize().broadcast_object(lambda: str(folder)))


def _remove_if_empty(folder: Path) -> None:
    """Hydra makes the folder before the command has looked at anything: leave no stray ones."""
    if folder == Path.cwd():  # merge, predict, verify … run where they are called
        return
    with contextlib.suppress(OSError):
        for parent in (folder, *folder.absolute().parents[:3]):  # outputs/train/<date>/<run>
            if parent == Path.cwd():
                return
            parent.rmdir()


def _hydra_app(command: str, flags: list[str], overrides: list[str], task: Any) -> None:
    import hydra

    from bertft.config.registry import conf_dir

    app = hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=command)(task)
    with _patch_argv(f"bertft {command}", [*flags, *overrides]), _convert_hydra_errors():
        app()


@contextlib.contextmanager
def _convert_hydra_errors() -> Iterator[None]:
    """What Hydra raises, as an error of ours."""
    from bertft.config.hydra_errors import HYDRA_ERRORS, to_problem
    from bertft.utils.messages import usage_error

    try:
        yield
    except HYDRA_ERRORS as error:
        raise usage_error([to_problem(error)]) from error
    except SystemExit as stop:
        if stop.code:
            raise UsageError(f"Hydra ended with status {stop.code}") from stop


@contextlib.contextmanager
def _preserve_logging() -> Iterator[None]:
    """What Hydra does to logging (--info, hydra.verbose, hydra/job_logging) ends with its job."""
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
    """``sys.argv`` as Hydra reads it; HYDRA_FULL_ERROR lets errors through, unprinted."""
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

    def refuse(message: str) -> NoReturn:
        raise UsageError(
            message, where=f"bertft {command}", hint="Settings are written trainer.epochs=3"
        )

    parser.error = refuse  # type: ignore[method-assign]
    args = parser.parse_intermixed_args(words)
    for name in ("config_path", "config_name", "experimental_rerun"):
        if getattr(args, name, None) is not None:
            raise UsageError(
                f"--{name.replace('_', '-')} is not for bertft",
                hint="Your own YAML files come with --config-dir=<folder>",
            )
    return args


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


def _remove_overrides(words: list[str], overrides: Sequence[str]) -> list[str]:
    rest = list(words)
    for override in overrides:
        rest.remove(override)
    return rest


def _report_error(error: BertftError) -> int:
    if os.environ.get("HYDRA_FULL_ERROR") == "1":
        traceback.print_exception(error)
    environment = read_distributed_env()
    # Bad input and a signal are the same for every process of a machine: one of them tells it.
    if environment.local_rank == 0 or not isinstance(error, (UsageError, StoppedBySignal)):
        print_escaped(
            f"{f'rank {environment.rank}: ' if environment.rank else ''}error: {error}", stderr=True
        )
    return error.status
