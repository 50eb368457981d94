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
from bertft.config.commands import COMMANDS
from bertft.config.messages import suggestion
from bertft.config.printed import say
from bertft.config.processes import place
from bertft.config.registry import check_packages
from bertft.config.streams import prepare_streams
from bertft.config.system_errors import explained
from bertft.errors import BertftError, Stopped, UsageError

if TYPE_CHECKING:
    from bertft.config.session import Request

__all__ = ["main"]

_INTERRUPTED = 130
_BUG = 1


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
        return _fail(error)
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:  # the reader has seen enough; keep the interpreter's exit quiet too
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        ours = explained(error, words)
        if ours is not None:
            return _fail(ours)
        traceback.print_exc()
        print("\nerror: this is a bug of bertft; please report it with the lines above",
              file=sys.stderr)  # fmt: skip
        return _BUG


def _dispatch(words: list[str]) -> int:
    first = words[0] if words else "--help"
    if first in COMMANDS:
        return _command(first, words[1:])
    if first in ("--help", "-h", "help"):
        from bertft.config.help import main_page

        print(main_page())
        return 0
    if first == "--version":
        print(f"bertft {bertft.__version__}")
        return 0
    if first in ("-sc", "--shell-completion", "--shell_completion"):
        return _completion(words[1:])
    if "=" in first or first.startswith("-"):
        raise UsageError(f"{first} stands where a command must", hint="For example bertft train")
    raise UsageError(f"there is no command {first!r}", hint=suggestion(first, COMMANDS))


def _command(command: str, words: list[str]) -> int:
    check_packages()
    if "--version" in words:
        return _dispatch(["--version"])
    if {"--help", "-h"} & set(words):
        from bertft.config.help import command_page

        print(command_page(command, _after(words, "--config-dir", "-cd")))
        return 0
    from bertft.config.command_line import rewrite
    from bertft.config.compose import compose, run
    from bertft.config.session import Request

    if place().size > 1 and command != "train":
        raise UsageError(
            f"{command} runs in one process", where="torchrun", hint=f"bertft {command}"
        )
    args = _parse(command, words)
    if args.multirun and command != "train":
        raise UsageError(f"{command} runs once", where="-m", hint="Only train sweeps")
    if args.shell_completion:
        raise UsageError(
            "--shell-completion stands alone", hint="For example bertft -sc install=bash"
        )
    if args.multirun and (args.cfg is not None or args.info is not None):
        raise UsageError("--cfg and --info show one run", where="-m", hint="Leave out -m")
    if args.multirun and place().size > 1:
        raise UsageError(
            "a sweep starts its own processes", where="torchrun", hint="bertft train -m"
        )
    flags = _without(words, args.overrides)
    folder = Path(args.config_dir) if args.config_dir else None
    overrides = rewrite(command, args.overrides, args.multirun, folder)
    if place().rank > 0:  # the first process makes the folder and tells the others its name
        overrides.append("hydra.run.dir=.")
    request = Request(command, tuple(overrides), folder)
    if args.multirun:
        return _sweep(request, flags)
    if args.cfg is not None or args.info is not None or args.hydra_help or args.resolve:
        compose(request)
        _hydra_app(command, flags, overrides, lambda _: None)
        return 0
    failed: list[Exception] = []

    def prepare() -> None:
        importlib.import_module(f"bertft.commands.{command}")  # slow: before Hydra makes a folder

    def task(config: Any) -> None:
        try:
            _run(command, config, overrides, args.overrides)
        except Exception as error:
            failed.append(error)

    with _logging_kept(), _told():
        run(request, prepare, task)
    if failed:
        raise failed[0]
    return 0


def _sweep(request: Request, flags: list[str]) -> int:
    from bertft.config.command_line import literal
    from bertft.config.plan import plan

    planned = plan(request)
    from bertft.commands.sweep import sweep

    # The folder is told Hydra as it was resolved here: it may hold the time.
    words = [*request.overrides, f"hydra.sweep.dir={literal(str(planned.folder))}"]
    return sweep(planned, lambda task: _hydra_app(request.command, flags, words, task))


def _run(command: str, config: Any, overrides: Sequence[str], typed: Sequence[str]) -> None:
    """``overrides`` are what Hydra got, ``typed`` the words of the command line."""
    from hydra.core.hydra_config import HydraConfig

    from bertft.config.compose import settings_of

    folder = Path(HydraConfig.get().runtime.output_dir)
    try:
        if place().size > 1:
            folder = _folder_of_the_first(folder)
        settings = settings_of(command, config, folder, typed)
        with _ended_by_signals(command):
            importlib.import_module(f"bertft.commands.{command}").run(settings, folder)
        _remove_if_empty(folder)  # check=true wrote nothing, out= elsewhere
    except BaseException:  # a signal too
        chosen = any("hydra.run.dir=" in override for override in overrides)
        if not chosen:
            _remove_if_empty(folder)
        raise


def _ended_by_signals(command: str) -> contextlib.AbstractContextManager[Any]:
    """What a command was writing is removed on its way out; train finishes its step first."""
    if command == "train":
        return contextlib.nullcontext()
    from bertft.training.signals import EndingSignal

    return EndingSignal()


def _folder_of_the_first(folder: Path) -> Path:
    from bertft.training.ranks import Ranks

    return Path(Ranks.join().told(lambda: str(folder)))


def _remove_if_empty(folder: Path) -> None:
    """Hydra makes the folder before the command has looked at anything: leave no stray ones."""
    if folder == Path.cwd():  # merge, predict, verify … run where they are called
        return
    with contextlib.suppress(OSError):
        for each in (folder, *folder.absolute().parents[:3]):  # outputs/train/<date>/<run>
            if each == Path.cwd():
                return
            each.rmdir()


def _hydra_app(command: str, flags: list[str], overrides: list[str], task: Any) -> None:
    import hydra

    from bertft.config.folder import conf_dir

    app = hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=command)(task)
    with _program(f"bertft {command}", [*flags, *overrides]), _told():
        app()


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """What Hydra raises, as an error of ours."""
    from bertft.config.hydra_errors import RENDERED, problem_of
    from bertft.config.messages import usage_error

    try:
        yield
    except RENDERED as error:
        raise usage_error([problem_of(error)]) from error
    except SystemExit as stop:
        if stop.code:
            raise UsageError(f"Hydra ended with status {stop.code}") from stop


@contextlib.contextmanager
def _logging_kept() -> Iterator[None]:
    """What Hydra does to logging (--info, hydra.verbose, hydra/job_logging) ends with its job."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    try:
        yield
    finally:
        for added in set(root.handlers) - set(handlers):
            added.close()
        root.handlers[:] = handlers
        root.setLevel(level)


@contextlib.contextmanager
def _program(name: str, words: list[str]) -> Iterator[None]:
    """``sys.argv`` as Hydra reads it; HYDRA_FULL_ERROR lets errors through, unprinted."""
    argv, full = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    sys.argv, os.environ["HYDRA_FULL_ERROR"] = [name, *words], "1"
    try:
        with _logging_kept():
            yield
    finally:
        sys.argv = argv
        if full is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = full


def _parse(command: str, words: list[str]) -> argparse.Namespace:
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


def _completion(words: list[str]) -> int:
    action, _, shell = words[0].partition("=") if words else ("", "", "")
    from bertft.config.completion import complete, script

    if action == "query":
        found = complete(os.environ.get("COMP_LINE", ""))
        print(("\n" if shell == "fish" else " ").join(found))
        return 0
    with _program("bertft", []):
        print(script(shell, action), end="")
    return 0


def _after(words: list[str], *flags: str) -> Path | None:
    """The path given with one of ``flags``, as ``--flag value`` or ``--flag=value``."""
    for word, following in zip(words, [*words[1:], ""], strict=True):
        flag, equals, value = word.partition("=")
        if flag in flags:
            return Path(value if equals else following)
    return None


def _without(words: list[str], overrides: Sequence[str]) -> list[str]:
    rest = list(words)
    for override in overrides:
        rest.remove(override)
    return rest


def _fail(error: BertftError) -> int:
    if os.environ.get("HYDRA_FULL_ERROR") == "1":
        traceback.print_exception(error)
    here = place()
    # Bad input and a signal are the same for every process of a machine: one of them tells it.
    if here.local == 0 or not isinstance(error, (UsageError, Stopped)):
        say(f"{f'rank {here.rank}: ' if here.rank else ''}error: {error}", stderr=True)
    return error.status
