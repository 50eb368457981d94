"""The checkpoints of a run: immutable folders, each there whole or not at all.

    checkpoints/step-250/    what was written, and files.json with every size and sha256
    checkpoints/last         points at the newest
    checkpoints/best         points at the best

    save:   write into .step-N.tmp-<pid> → fsync all of it → files.json → rename to step-N
            → swap best, then last → remove what is kept no longer

A process killed anywhere in between leaves what ``last`` pointed at as it was. ``best`` is
swapped first: a run goes on from ``last``, and the state there may name no best to come.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from bertft.config.messages import did_you_mean, listing
from bertft.config.system_errors import system_error
from bertft.errors import BertftError, DataError, EnvironmentFailed, UsageError
from bertft.runs import pointers
from bertft.runs.atomic import (
    advice,
    clean,
    remove,
    sync_folder,
    sync_tree,
    temporary,
)
from bertft.runs.faults import point
from bertft.runs.files import check, drop_optional, has_state, holds_optional, seal

__all__ = ["Checkpoints"]

_STATELESS = "holds no training state: it was kept only as the best"


def _silent(message: str) -> None:
    """Tell nobody."""


class Checkpoints:
    """The checkpoints in ``folder`` (a run's ``checkpoints``); ``keep`` beside last and best."""

    def __init__(self, folder: Path, keep: int = 1) -> None:
        self.folder, self.keep = Path(folder), keep
        self._saved = False

    def steps(self) -> list[int]:
        """The steps that have a checkpoint, ascending, whole or not."""
        return pointers.steps_in(self.folder)

    def path(self, step: int) -> Path:
        return self.folder / pointers.step_name(step)

    def save(self, step: int, write: Callable[[Path], None], *, best: bool) -> Path:
        """Make the checkpoint of ``step``: ``write(folder)`` puts its files into an empty folder.

        One that is there and whole is taken as it is. An OSError (disk full, read-only, folder
        gone) becomes EnvironmentFailed; what was saved before is then as it was.
        """
        try:
            if not self._saved:
                self.folder.mkdir(exist_ok=True)
            clean(self.folder)
            if not self._reusable(step):
                self._write(step, write)
            sync_folder(self.folder)
            if best:
                pointers.swap(self.folder, "best", step)
            pointers.swap(self.folder, "last", step)
            self._rotate(step)
        except BertftError:
            raise
        except Exception as error:
            told = system_error(error)
            if told is None:
                raise
            raise self._failed(step, told) from error
        self._saved = True
        return self.path(step)

    def find(
        self,
        which: str,
        *,
        with_state: bool = False,
        warn: Callable[[str], None] = _silent,
    ) -> Path:
        """The whole checkpoint that ``which`` (best, last, a step) names, every file verified.

        Where ``last`` is damaged ``warn`` is told, and the newest whole one before it is found;
        any other that is damaged is a DataError. ``with_state``: only one to go on from.
        """
        if which == "last":
            return self._last(with_state, warn)
        if which == "best":
            step = self._pointed("best")
            if step is None:
                raise UsageError("there is no best", where=str(self.folder), hint=self._choices())
        else:
            step = self._numbered(which)
        path = self.path(step)
        self._verify(path)
        if with_state and not has_state(path):
            raise UsageError(_STATELESS, where=str(path), hint="Go on from last")
        return path

    def problem(self, step: int) -> str | None:
        """What is wrong with the checkpoint of ``step``; None if it is whole."""
        path = self.path(step)
        if not os.path.lexists(path):
            return f"{path} is missing"
        problems = check(path)
        return str(_damage(path, problems)) if problems else None

    def settle(self, step: int, best: int | None) -> None:
        """Before a run goes on from ``step``: let the pointers say what the state there says.

        ``best`` is the step of the best so far. They differ where ``step`` is not where ``last``
        points, or where the process was killed before the very first pointers were made.
        """
        try:
            clean(self.folder)  # a process that was killed in here may have left one of its own
            if best is not None and not check(self.path(best)):
                pointers.swap(self.folder, "best", best)
            pointers.swap(self.folder, "last", step)
        except OSError as error:
            raise self._failed(step, error) from error

    def _write(self, step: int, write: Callable[[Path], None]) -> None:
        final = self.path(step)
        new = temporary(final)
        try:
            point(f"create {new.name}")
            new.mkdir()
            write(new)
            sync_tree(new)
            seal(new)
            _replace(new, final)
        except BaseException:
            with suppress(OSError):
                remove(new)
            raise

    def _reusable(self, step: int) -> bool:
        path = self.path(step)
        return os.path.lexists(path) and not check(path) and holds_optional(path)

    def _rotate(self, last: int) -> None:
        """Steps after ``last`` are those of a run that went on from an earlier checkpoint."""
        best = self._pointed_or_none("best")
        older = [step for step in reversed(self.steps()) if step < last]
        beside = [step for step in older if step != best][: self.keep]
        for step in self.steps():
            if step not in (last, best, *beside):
                _discard(_aside(self.path(step)))
        if best in older and best not in older[: self.keep]:
            with suppress(DataError):  # damaged: what it holds is not known
                drop_optional(self.path(best))

    def _last(self, with_state: bool, warn: Callable[[str], None]) -> Path:
        newest: int | None = None
        try:
            newest = pointers.target(self.folder, "last")
        except DataError as error:
            warn(str(error))
        steps = [step for step in reversed(self.steps()) if newest is None or step <= newest]
        if newest is not None and newest not in steps:
            warn(f"{self.path(newest)}: last points at it, but it is missing")
        damaged = []
        for step in steps:
            path = self.path(step)
            problems = check(path)
            if problems:
                damaged.append(path.name)
                warn(str(_damage(path, problems)))
            elif not with_state or has_state(path):
                return path
            elif step == newest:  # rotation takes the state of older ones only
                warn(f"{path}: its training state is missing")
        if damaged:
            raise DataError(
                f"no checkpoint is whole{' and can be gone on from' if with_state else ''}:"
                f" {listing(damaged)} {'is' if len(damaged) == 1 else 'are'} damaged",
                where=str(self.folder),
            )
        if steps:
            raise UsageError("none can be gone on from", where=str(self.folder))
        raise UsageError("no checkpoint was saved yet", where=str(self.folder))

    def _numbered(self, which: str) -> int:
        step = pointers.step_of(f"step-{which}")
        if step is None:
            hint = did_you_mean(which, ("best", "last", *self.steps()))
            raise UsageError(f"{which!r} names no checkpoint", where="checkpoint", hint=hint)
        if not os.path.lexists(self.path(step)):
            raise UsageError(
                f"there is no checkpoint of step {step}", where=str(self.folder),
                hint=self._choices(step),
            )  # fmt: skip
        return step

    def _pointed(self, name: str) -> int | None:
        step = pointers.target(self.folder, name)
        if step is not None and not os.path.lexists(self.path(step)):
            raise DataError(
                f"{name} points at step-{step}, which is missing", where=str(self.folder),
                hint=self._choices(step),
            )  # fmt: skip
        return step

    def _pointed_or_none(self, name: str) -> int | None:
        try:
            return self._pointed(name)
        except DataError:
            return None

    def _verify(self, path: Path) -> None:
        problems = check(path)
        if problems:
            raise _damage(path, problems, self._choices())

    def _choices(self, step: int | None = None) -> str:
        steps = self.steps()
        if not steps:
            return "No checkpoint was saved yet"
        if step is None:
            return f"There are steps {listing(steps)}"
        near = min(steps, key=lambda each: (abs(each - step), -each))
        return f"The nearest is {near}, of {listing(steps)}"

    def _failed(self, step: int, error: OSError) -> EnvironmentFailed:
        name = os.path.basename(error.filename) if isinstance(error.filename, str) else ""
        why = f"{error.strerror or error}{f', {name}' if name else ''}"
        run = self.folder.parent
        try:
            kept = f"{self.find('last').name} is intact: go on from it with resume={run}"
        except (BertftError, OSError):
            kept = "No checkpoint was saved before" if run.exists() else "The run folder is gone"
        return EnvironmentFailed(
            f"the checkpoint of step {step} cannot be written ({why})",
            where=str(self.folder), hint=f"{advice(error)}. {kept}",
        )  # fmt: skip


def _replace(new: Path, final: Path) -> None:
    """Rename the folder ``new`` to ``final``; what lies there is put aside first, then removed."""
    old = _aside(final) if os.path.lexists(final) else None
    try:
        point(f"rename {final.name}")
        os.rename(new, final)
    except BaseException:
        if old is not None:
            os.rename(old, final)
        raise
    if old is not None:
        _discard(old)


def _aside(path: Path) -> Path:
    """Rename ``path`` to a temporary name, so that nobody sees it half removed."""
    old = temporary(path.with_name(f"{path.name}.old"))
    point(f"rename {path.name} away")
    os.rename(path, old)
    return old


def _discard(path: Path) -> None:
    with suppress(OSError):  # the next save tries again
        remove(path)


def _damage(path: Path, problems: list[str], hint: str | None = None) -> DataError:
    return DataError(f"damaged: {listing(problems, 4)}", where=str(path), hint=hint)
