"""The command lines in Markdown pages, and whether their settings are valid."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from bertft.config.compose import ComposeRequest, compose_config
from bertft.config.config_file import expand_config_file
from bertft.config.cross_validate_command import plan_folds
from bertft.config.overrides import rewrite_overrides
from bertft.config.positional import expand_positional
from bertft.config.search_plan import plan_search
from bertft.config.sweep_plan import plan_sweep
from bertft.config.tune_command import sweep_words

_INPUT_FILES = re.compile(r"(data\.(train|validation|test|unlabelled|drop_rows)|train|config)=")


def command_lines(page: str) -> list[str]:
    """The lines of all bash blocks; a line that ends with a backslash continues."""
    return [
        line.replace("\\\n", " ")
        for block in re.findall(r"```bash\n(.*?)```", page, re.DOTALL)
        for line in re.findall(r"(?:[^\\\n]|\\\n)+", block)
    ]


def bertft_commands(page: str) -> list[str]:
    """The command lines that start bertft."""
    return [line for line in command_lines(page) if re.match(r"(\w+=\S+ )?bertft ", line)]


def _create_files(value: str, folder: Path) -> None:
    """The files of a setting: a name, a pattern, a folder or a list of them."""
    for name in value.strip("[]").split(","):
        path = folder / name.replace("*", "x")
        if "/" in name and not path.suffix:
            path /= "x.txt"
        if not name.startswith(("/", "~")):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()


def check_command(line: str, folder: Path) -> None:
    """Compose the configuration of ``line`` in ``folder``, the current directory.

    The files of the reader are created there. Raises UsageError for an invalid setting.
    """
    (folder / "run").mkdir(exist_ok=True)
    line = re.sub(r" [<>] \S+| #.*", "", line.replace("$RUN", "run").replace("RUN", "run"))
    words = [word for word in shlex.split(line) if not re.match(r"[A-Z_]+=", word)]
    command, sweep = words[1], "-m" in words
    arguments = expand_positional(command, [word for word in words[2:] if word != "-m"])
    for word in arguments:
        if _INPUT_FILES.match(word):
            _create_files(word.partition("=")[2], folder)
    arguments = expand_config_file(command, arguments)
    if command == "tune":
        words = rewrite_overrides("train", sweep_words(arguments), sweep=True)
        plan_search(ComposeRequest("train", tuple(words)))
        return
    if command == "cross_validate":
        assert len(plan_folds(arguments)[0].jobs or ()) > 1
        return
    request = ComposeRequest(command, tuple(rewrite_overrides(command, arguments, sweep)))
    if sweep:
        assert len(plan_sweep(request).jobs or ()) > 1
    else:
        compose_config(request)
