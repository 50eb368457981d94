"""The checkpoints of a run: immutable folders that are written atomically.

    checkpoints/step-250/    the files of a checkpoint, and files.json with their sizes and sha256
    checkpoints/last         points to the newest checkpoint
    checkpoints/best         points to the best checkpoint

    save:   write into .step-N.tmp-<pid> → fsync → files.json → rename to step-N
            → swap best, then last → remove old checkpoints

If the process is killed at any point, the checkpoint that ``last`` points to is intact. ``best`` is
swapped first, because the state of ``last`` must not name a best checkpoint that is not saved yet.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path

from bertft.errors import BertftError, DataError, SystemResourceError, UsageError
from bertft.runs import checkpoint_pointers
from bertft.runs.files_json import (
    find_damage,
    has_optional_files,
    has_training_state,
    remove_optional_files,
    write_files_json,
)
from bertft.utils.atomic_io import (
    advise_on_os_error,
    fsync_folder,
    fsync_tree,
    remove_path,
    remove_stale_temporaries,
    temporary_path,
)
from bertft.utils.failpoints import failpoint
from bertft.utils.messages import format_list, suggest
from bertft.utils.system_errors import find_os_error

__all__ = ["CheckpointStore"]

_NO_STATE_MESSAGE = "has no training state, because it was only kept as the best checkpoint"
_RESUME_HINT = "Use bertft train resume=<run>, which resumes from the newest intact checkpoint"


def _ignore_warning(message: str) -> None:
    """Ignore ``message``; the default of ``warn``."""


class CheckpointStore:
    """The checkpoints in ``folder``; ``keep`` older ones are kept in addition to last and best."""

    def __init__(self, folder: Path, keep: int = 1) -> None:
        self.folder, self.keep = Path(folder), keep
        self._saved = False

    def steps(self) -> list[int]:
        """The steps that have a checkpoint, ascending, intact or damaged."""
        return checkpoint_pointers.list_steps(self.folder)

    def checkpoint_path(self, step: int) -> Path:
        return self.folder / checkpoint_pointers.format_step_name(step)

    def save(
        self,
        step: int,
        write: Callable[[Path], None],
        *,
        best: bool,
        protected: Collection[int] = (),
    ) -> Path:
        """Save the checkpoint of ``step``: ``write(folder)`` writes its files into an empty folder.

        The checkpoints of the steps ``protected`` are kept with their training state.
        An intact checkpoint of this step is reused. An OSError (disk full, read-only, folder
        removed) becomes SystemResourceError, and the earlier checkpoints stay as they were.
        """
        try:
            if not self._saved:
                self.folder.mkdir(exist_ok=True)
            remove_stale_temporaries(self.folder)
            if not self._is_reusable(step):
                self._write_checkpoint(step, write)
            fsync_folder(self.folder)
            if best:
                checkpoint_pointers.swap_pointer(self.folder, "best", step)
            checkpoint_pointers.swap_pointer(self.folder, "last", step)
            self._remove_old(step, protected)
        except BertftError:
            raise
        except Exception as error:
            os_error = find_os_error(error)
            if os_error is None:
                raise
            raise self._write_error(step, os_error) from error
        self._saved = True
        return self.checkpoint_path(step)

    def find_checkpoint(
        self,
        which: str,
        *,
        with_state: bool = False,
        warn: Callable[[str], None] = _ignore_warning,
    ) -> Path:
        """The folder of the checkpoint ``which`` (best, last or a step), with all files verified.

        If ``last`` is damaged, ``warn`` is called and the newest intact checkpoint before it is
        returned. DataError for any other damaged checkpoint. ``with_state``: only a checkpoint
        from which training can resume.
        """
        if which == "last":
            return self._find_last_intact(with_state, warn)
        if which == "best":
            step = self._read_existing_pointer("best")
            if step is None:
                raise UsageError(
                    "there is no best checkpoint",
                    where=str(self.folder),
                    hint=self._available_steps_hint(),
                )
        else:
            step = self._parse_step(which)
        path = self.checkpoint_path(step)
        self._verify(path)
        if with_state and not has_training_state(path):
            raise UsageError(_NO_STATE_MESSAGE, where=str(path), hint=_RESUME_HINT)
        return path

    def describe_damage(self, step: int) -> str | None:
        """The damage of the checkpoint of ``step``; None if it is intact."""
        path = self.checkpoint_path(step)
        if not os.path.lexists(path):
            return f"{path} is missing"
        problems = find_damage(path)
        return str(_damage_error(path, problems)) if problems else None

    def reset_pointers(self, step: int, best: int | None) -> None:
        """Make the pointers agree with the state of ``step``, from which the run resumes.

        ``best`` is the step of the best checkpoint so far. The pointers differ if ``last`` is
        damaged, or if the process was killed before the first pointers were written.
        """
        try:
            remove_stale_temporaries(self.folder)
            if best is not None and not find_damage(self.checkpoint_path(best)):
                checkpoint_pointers.swap_pointer(self.folder, "best", best)
            checkpoint_pointers.swap_pointer(self.folder, "last", step)
        except OSError as error:
            raise self._write_error(step, error) from error

    def return_to(self, step: int, best: int | None) -> None:
        """Let training continue from ``step``: remove the later checkpoints.

        ``best`` is the step of the best checkpoint until then. The pointers are changed first: if
        the process is killed in between, training is resumed from ``step``.
        """
        self.reset_pointers(step, best)
        try:
            if best is None:
                checkpoint_pointers.remove_pointer(self.folder, "best")
            for later in reversed(self.steps()):
                if later > step:
                    remove_path(_move_aside(self.checkpoint_path(later)))
        except OSError as error:
            raise self._write_error(step, error) from error

    def _write_checkpoint(self, step: int, write: Callable[[Path], None]) -> None:
        final = self.checkpoint_path(step)
        temporary_folder = temporary_path(final)
        try:
            failpoint(f"create {temporary_folder.name}")
            temporary_folder.mkdir()
            write(temporary_folder)
            fsync_tree(temporary_folder)
            write_files_json(temporary_folder)
            _replace_folder(temporary_folder, final)
        except BaseException:
            with suppress(OSError):
                remove_path(temporary_folder)
            raise

    def _is_reusable(self, step: int) -> bool:
        path = self.checkpoint_path(step)
        return os.path.lexists(path) and not find_damage(path) and has_optional_files(path)

    def _remove_old(self, last: int, protected: Collection[int]) -> None:
        """Remove all checkpoints but ``last``, best, ``protected`` and ``keep`` older ones.

        Steps after ``last`` remain from before a resume from an earlier checkpoint.
        """
        best = self._read_pointer_or_none("best")
        older = [step for step in reversed(self.steps()) if step < last]
        retained = [step for step in older if step != best][: self.keep]
        for step in self.steps():
            if step not in (last, best, *retained, *protected):
                _try_remove(_move_aside(self.checkpoint_path(step)))
        if best in older and best not in (*older[: self.keep], *protected):
            with suppress(DataError):  # damaged: its files are not known
                remove_optional_files(self.checkpoint_path(best))

    def _find_last_intact(self, with_state: bool, warn: Callable[[str], None]) -> Path:
        newest: int | None = None
        try:
            newest = checkpoint_pointers.read_pointer(self.folder, "last")
        except DataError as error:
            warn(str(error))
        steps = [step for step in reversed(self.steps()) if newest is None or step <= newest]
        if newest is not None and newest not in steps:
            warn(f"{self.checkpoint_path(newest)}: last points to it, but it is missing")
        damaged = []
        for step in steps:
            path = self.checkpoint_path(step)
            problems = find_damage(path)
            if problems:
                damaged.append(path.name)
                warn(str(_damage_error(path, problems)))
            elif not with_state or has_training_state(path):
                return path
            elif step == newest:  # only the state of older checkpoints is removed
                warn(f"{path}: its training state is missing")
        if damaged:
            raise DataError(
                f"no intact checkpoint{' with a training state' if with_state else ''}:"
                f" {format_list(damaged)} {'is' if len(damaged) == 1 else 'are'} damaged",
                where=str(self.folder),
                hint="Restore the files from a copy, or start a new run",
            )
        if steps:
            raise UsageError(
                "no checkpoint has a training state",
                where=str(self.folder),
                hint="Start a new run",
            )
        raise UsageError(
            "no checkpoint was saved yet",
            where=str(self.folder),
            hint=f"Resume the run with bertft train resume={self.folder.parent}",
        )

    def _parse_step(self, which: str) -> int:
        step = checkpoint_pointers.parse_step_name(f"step-{which}")
        if step is None:
            hint = suggest(which, ("best", "last", *self.steps()))
            raise UsageError(f"{which!r} is not a checkpoint", where="checkpoint", hint=hint)
        if not os.path.lexists(self.checkpoint_path(step)):
            raise UsageError(
                f"there is no checkpoint of step {step}",
                where=str(self.folder),
                hint=self._available_steps_hint(step),
            )
        return step

    def _read_existing_pointer(self, name: str) -> int | None:
        step = checkpoint_pointers.read_pointer(self.folder, name)
        if step is not None and not os.path.lexists(self.checkpoint_path(step)):
            raise DataError(
                f"{name} points to step-{step}, which is missing",
                where=str(self.folder),
                hint=self._available_steps_hint(step),
            )
        return step

    def _read_pointer_or_none(self, name: str) -> int | None:
        try:
            return self._read_existing_pointer(name)
        except DataError:
            return None

    def _verify(self, path: Path) -> None:
        problems = find_damage(path)
        if problems:
            raise _damage_error(path, problems, self._available_steps_hint())

    def _available_steps_hint(self, step: int | None = None) -> str:
        steps = self.steps()
        if not steps:
            return "No checkpoint was saved yet"
        if step is None:
            return f"Available steps: {format_list(steps)}"
        closest = min(steps, key=lambda other: (abs(other - step), -other))
        return f"The closest is {closest}. Available steps: {format_list(steps)}"

    def _write_error(self, step: int, error: OSError) -> SystemResourceError:
        name = os.path.basename(error.filename) if isinstance(error.filename, str) else ""
        reason = f"{error.strerror or error}{f', {name}' if name else ''}"
        run = self.folder.parent
        try:
            recovery_hint = (
                f"{self.find_checkpoint('last').name} is intact: resume from it with resume={run}"
            )
        except (BertftError, OSError):
            recovery_hint = (
                "No checkpoint was saved before"
                if run.exists()
                else "The run folder no longer exists"
            )
        return SystemResourceError(
            f"the checkpoint of step {step} cannot be written ({reason})",
            where=str(self.folder),
            hint=f"{advise_on_os_error(error)}. {recovery_hint}",
        )


def _replace_folder(new: Path, final: Path) -> None:
    """Rename the folder ``new`` to ``final``, which is removed if it exists."""
    moved_aside = _move_aside(final) if os.path.lexists(final) else None
    try:
        failpoint(f"rename {final.name}")
        os.rename(new, final)
    except BaseException:
        if moved_aside is not None:
            os.rename(moved_aside, final)
        raise
    if moved_aside is not None:
        _try_remove(moved_aside)


def _move_aside(path: Path) -> Path:
    """Rename ``path`` to a temporary name, so that it is never visible half removed."""
    old = temporary_path(path.with_name(f"{path.name}.old"))
    failpoint(f"rename {path.name} away")
    os.rename(path, old)
    return old


def _try_remove(path: Path) -> None:
    with suppress(OSError):  # the next save tries again
        remove_path(path)


def _damage_error(path: Path, problems: list[str], hint: str | None = None) -> DataError:
    return DataError(f"damaged: {format_list(problems, 4)}", where=str(path), hint=hint)
