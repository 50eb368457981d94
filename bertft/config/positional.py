"""Words without ``=``: the files and folders that a command is mostly given.

bertft train tickets.csv             data=files data.train=tickets.csv
bertft eval RUN new.csv              run=RUN data.validation=new.csv
bertft predict RUN new.csv           run=RUN input=new.csv
bertft merge RUN merged              run=RUN out=merged
bertft export RUN adapter            run=RUN out=adapter
bertft report RUN, verify RUN        run=RUN
bertft compare A B C                 runs=[A,B,C]
"""

from __future__ import annotations

from collections.abc import Sequence

from bertft.config.schema import find_setting, settings_tree
from bertft.utils.messages import Problem, usage_error

__all__ = ["expand_positional"]

# The settings that the words of a command set, in order.
_SETTINGS = {
    "train": ("data.train",),
    "eval": ("run", "data.validation"),
    "predict": ("run", "input"),
    "merge": ("run", "out"),
    "export": ("run", "out"),
    "report": ("run",),
    "verify": ("run",),
}


def expand_positional(command: str, words: Sequence[str]) -> list[str]:
    """``words`` with every word without ``=`` as the override that it stands for.

    The name of one of train's settings is not a file: it is reported as one without a value.

    Raises:
        UsageError: the command takes fewer words, or a word and a setting say the same thing.
    """
    positional = [word for word in words if "=" not in word and not word.startswith("~")]
    if command == "train":  # the other commands take folders, and a folder may be called "run"
        root = settings_tree(command)
        positional = [word for word in positional if find_setting(root, word)[0] is None]
    settings = [word for word in words if word not in positional]
    given = {word.partition("=")[0].lstrip("+") for word in settings}
    own_file = command == "train" and (positional or "data.train" in given)
    # A file of one's own needs no data=files, unless a recipe or a run chooses the data.
    if own_file and not given & {"data", "experiment", "resume"}:
        settings.insert(0, "data=files")
    if not positional:
        return settings
    if command == "compare":
        _check_unset("runs", given, positional[0])
        return [f"runs=[{','.join(positional)}]", *settings]
    names = _SETTINGS.get(command, ())
    if len(positional) > len(names):
        word = positional[len(names)]
        takes = f"takes {' and '.join(names)} as words" if names else "takes settings alone"
        raise usage_error(
            [Problem(word, f"is no setting; {command} {takes}", "Write settings as name=value")]
        )
    for name, word in zip(names, positional, strict=False):
        _check_unset(name, given, word)
    return [
        *(f"{name}={word}" for name, word in zip(names, positional, strict=False)),
        *settings,
    ]


def _check_unset(name: str, given: set[str], word: str) -> None:
    if name in given:
        raise usage_error([Problem(word, f"is {name}, which is set as well", "Give one of them")])
