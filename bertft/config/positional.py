"""Positional arguments: words without ``=`` are the usual files and folders of a command.

bertft train tickets.csv             data=files data.train=tickets.csv
bertft tune tickets.csv              data=files data.train=tickets.csv
bertft eval RUN new.csv              run=RUN data.validation=new.csv
bertft predict RUN new.csv           run=RUN input=new.csv
bertft merge RUN merged              run=RUN out=merged
bertft export RUN adapter            run=RUN out=adapter
bertft report RUN, verify RUN        run=RUN
bertft compare A B C                 runs=[A,B,C]
bertft init tickets.csv my.yaml      train=tickets.csv output=my.yaml
bertft init my.yaml                  output=my.yaml
bertft inspect tickets.csv           data.train=tickets.csv

eval also takes ``model.path=``, the name of train, for ``run=``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from bertft.config.command_configs import TRAINING_COMMANDS
from bertft.config.schema import find_setting, settings_tree
from bertft.utils.messages import Problem, usage_error

__all__ = ["expand_positional", "format_usage"]

# The settings that the positional arguments of a command set, in order.
_SETTINGS = {
    "train": ("data.train",),
    "tune": ("data.train",),
    "cross_validate": ("data.train",),
    "eval": ("run", "data.validation"),
    "predict": ("run", "input"),
    "merge": ("run", "out"),
    "export": ("run", "out"),
    "report": ("run",),
    "verify": ("run",),
    "init": ("train", "output"),
    "inspect": ("data.train",),
}


def format_usage(command: str) -> str:
    """The usage line of ``command``: its positional arguments and options."""
    names = ("runs ...",) if command == "compare" else _SETTINGS.get(command, ())
    return " ".join(
        ["bertft", command, *(f"[{name}]" for name in names), "[setting=value ...]", "[options]"]
    )


def expand_positional(command: str, words: Sequence[str]) -> list[str]:
    """``words`` with every positional argument replaced by its override.

    The name of a setting of train is not a file: it is reported as a setting without a value.

    Raises:
        UsageError: too many positional arguments, or one whose setting is also set.
    """
    if command == "eval" and not any(word.startswith("run=") for word in words):
        words = [re.sub(r"^model\.path=", "run=", word) for word in words]
    positional = [word for word in words if "=" not in word and not word.startswith("~")]
    if command in TRAINING_COMMANDS:  # other commands take folders, which may be called "run"
        root = settings_tree(command)
        positional = [word for word in positional if find_setting(root, word)[0] is None]
    settings = [word for word in words if word not in positional]
    explicit = {word.partition("=")[0].lstrip("+") for word in settings}
    has_training_file = command in TRAINING_COMMANDS and (positional or "data.train" in explicit)
    # A training file implies data=files, unless an experiment, a run or a file selects the data.
    # resume=auto may start a new run, and a resumed one has the same data.
    data_selectors = {"data", "experiment", "config"}
    if "resume=auto" not in settings:
        data_selectors.add("resume")
    if has_training_file and not explicit & data_selectors:
        settings.insert(0, "data=files")
    if not positional:
        return settings
    if command == "compare":
        _check_unset("runs", explicit, positional[0])
        return [f"runs=[{','.join(positional)}]", *settings]
    names = _SETTINGS.get(command, ())
    if command == "init" and positional[0].endswith((".yaml", ".yml")):
        names = ("output",)
    if len(positional) > len(names):
        word = positional[len(names)]
        accepted = f"accepts only {' and '.join(names)}" if names else "accepts only settings"
        what = f"unexpected argument: without a name, {command} {accepted}"
        setting = "data.validation" if command in TRAINING_COMMANDS else "name"
        value = word if command in TRAINING_COMMANDS else "value"
        hint = f"Write other settings as {setting}={value}"
        if command == "inspect":
            hint = f"Inspect several files as data.train=[{positional[0]},{word}]"
        if command in TRAINING_COMMANDS:
            hint += f", and several training files as data.train=[{positional[0]},{word}]"
        raise usage_error([Problem(word, what, hint)])
    for number, (name, word) in enumerate(zip(names, positional, strict=False)):
        unset = [other for other in names[number + 1 :] if other not in explicit]
        _check_unset(name, explicit, word, unset[0] if unset else None)
    return [
        *(f"{name}={word}" for name, word in zip(names, positional, strict=False)),
        *settings,
    ]


def _check_unset(name: str, explicit: set[str], word: str, other: str | None = None) -> None:
    """Raise UsageError if ``name`` is also set; ``other`` is a setting that ``word`` may mean."""
    if name in explicit:
        hint = f", or write {other}={word}" if other else ""
        raise usage_error(
            [
                Problem(
                    word,
                    f"is the value of {name}, which is also set",
                    f"Set only one of them{hint}",
                )
            ]
        )
