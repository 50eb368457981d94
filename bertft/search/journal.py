"""The state of a search in its folder: ``search.journal``, a journal storage of Optuna.

    trials            the configurations, each with the metric at the first rung
    user attributes   identity (what must not change), metric, default, and per trial its results at
                      all rungs, its run folder and its error; the time that the search took

A line is appended for each change. If the process is killed, at most the last line is incomplete;
it is removed when the journal is opened again, and the change is made again. ``optuna-dashboard``
can read the file.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bertft.config.search_space import Space
from bertft.errors import DataError, UsageError
from bertft.search.halving import RungResult, Trial
from bertft.search.proposals import make_frozen_trial, study_direction
from bertft.utils.messages import format_list
from bertft.utils.safe_files import DAMAGED_FILE_HINT

if TYPE_CHECKING:
    from optuna.study import Study, StudyDirection

__all__ = ["JOURNAL_FILE", "Journal"]

JOURNAL_FILE = "search.journal"
_NAME = "bertft"
_FINAL = "final "


class Journal:
    """The study in ``folder``. Only one process may use it: the caller locks the folder.

    Attributes:
        trials: every trial, by number.
        default: the default configuration, trained to the end; without results if no evaluation has
            a finite metric.
        finals: (folder of a trial, seed) → the run of its configuration with that seed.
        seconds, units: time of the runs, and the number of complete runs that they amount to.
    """

    def __init__(self, folder: Path, space: Space, study: Study) -> None:
        self.folder, self.space, self._study = folder, space, study
        attributes = study.user_attrs
        self.metric = str(attributes["metric"])
        self.lower_is_better = bool(attributes["lower_is_better"])
        self.default = _to_trial(0, {}, attributes["default"])
        self.seconds, self.units = attributes.get("seconds", 0.0), attributes.get("units", 0.0)
        self.finals: dict[tuple[str, int], Trial] = {}
        for key, record in attributes.items():
            if key.startswith(_FINAL):
                seed, _, name = key.removeprefix(_FINAL).partition(" ")
                self.finals[name, int(seed)] = _to_trial(0, {}, record)
        self.trials: list[Trial] = []
        for frozen in study.get_trials(deepcopy=False):
            record = attributes.get(f"trial {frozen.number}", {})
            self.trials.append(_to_trial(frozen.number, frozen.user_attrs["params"], record))
            if record and not frozen.state.is_finished():  # killed between two changes
                self._tell(self.trials[-1])

    @classmethod
    def open(cls, folder: Path, space: Space, identity: Mapping[str, Any]) -> Journal | None:
        """The journal in ``folder``; None if there is none or the default is not trained yet.

        Raises:
            UsageError: it is the journal of another search.
            DataError: it is damaged.
        """
        path = folder / JOURNAL_FILE
        if not path.is_file():
            return None
        _remove_incomplete_line(path)
        try:
            study = _open_study(path, None)
            if study is None or "default" not in study.user_attrs:
                return None
            _check_identity(path, study.user_attrs["identity"], identity)
            return cls(folder, space, study)
        except UsageError:
            raise
        except Exception as error:
            raise DataError(
                f"cannot be read ({type(error).__name__}: {error})",
                where=str(path),
                hint=DAMAGED_FILE_HINT,
            ) from error

    @classmethod
    def create(
        cls,
        folder: Path,
        space: Space,
        identity: Mapping[str, Any],
        metric: str,
        lower_is_better: bool,
        default: Trial,
    ) -> Journal:
        """Start a journal with the results of the default configuration."""
        study = _open_study(folder / JOURNAL_FILE, study_direction(lower_is_better))
        assert study is not None
        study.set_user_attr("identity", dict(identity))
        study.set_user_attr("metric", metric)
        study.set_user_attr("lower_is_better", lower_is_better)
        study.set_user_attr("default", _to_record(default))  # last: the journal is complete now
        return cls(folder, space, study)

    def add_trial(self, params: Mapping[str, str]) -> Trial:
        """Add a trial that is not trained yet."""
        from optuna.trial import TrialState

        trial = Trial(len(self.trials), dict(params))
        self._study.add_trial(make_frozen_trial(self.space, trial, TrialState.RUNNING))
        self.trials.append(trial)
        return trial

    def record(self, trial: Trial) -> None:
        """Store the results, folder and error of ``trial``."""
        is_new = f"trial {trial.number}" not in self._study.user_attrs
        self._study.set_user_attr(f"trial {trial.number}", _to_record(trial))
        if is_new:
            self._tell(trial)

    def record_final(self, folder: str, seed: int, run: Trial) -> None:
        """Store ``run``: the configuration of the run folder ``folder``, trained with ``seed``."""
        self.finals[folder, seed] = run
        self._study.set_user_attr(f"{_FINAL}{seed} {folder}", _to_record(run))

    def add_time(self, seconds: float, units: float) -> None:
        """Add the time of runs; ``units`` is the number of complete runs that they amount to."""
        self.seconds, self.units = self.seconds + seconds, self.units + units
        self._study.set_user_attr("seconds", self.seconds)
        self._study.set_user_attr("units", self.units)

    def _tell(self, trial: Trial) -> None:
        from optuna.trial import TrialState

        if trial.results:
            self._study.tell(trial.number, trial.results[0].value, skip_if_finished=True)
        else:
            self._study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)


def _open_study(path: Path, direction: StudyDirection | None) -> Study | None:
    """The study in ``path``; if there is none, it is created with ``direction``, if given."""
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    # The lock of a process that was killed. The caller holds the lock of the folder.
    path.with_name(f"{path.name}.lock").unlink(missing_ok=True)
    storage = JournalStorage(JournalFileBackend(str(path)))
    if direction is None and _NAME not in optuna.get_all_study_names(storage):
        return None
    if direction is None:
        return optuna.load_study(study_name=_NAME, storage=storage)
    return optuna.create_study(
        study_name=_NAME, storage=storage, direction=direction, load_if_exists=True
    )


def _remove_incomplete_line(path: Path) -> None:
    content = path.read_bytes()
    end = content.rfind(b"\n") + 1
    if end < len(content):
        with open(path, "r+b") as file:
            file.truncate(end)


def _check_identity(path: Path, recorded: Mapping[str, Any], present: Mapping[str, Any]) -> None:
    changed = [name for name in present if present[name] != recorded.get(name)]
    if not changed:
        return
    names = {"default": "fixed settings or data", "space": "space", "seed": "seed of the proposals"}
    what = format_list([names[name] for name in changed])
    raise UsageError(
        f"the folder has a search that was started differently (changed: {what})",
        where=str(path),
        hint="Repeat the same command to continue it, or set another hydra.sweep.dir",
    )


def _to_record(trial: Trial) -> dict[str, Any]:
    return {  # JSON has no NaN
        "results": [
            {**asdict(result), "value": None if math.isnan(result.value) else result.value}
            for result in trial.results
        ],
        "folder": trial.folder,
        "error": trial.error,
    }


def _to_trial(number: int, params: Mapping[str, str], record: Mapping[str, Any]) -> Trial:
    results = [
        RungResult(
            math.nan if result["value"] is None else result["value"],
            result["loss"],
            result.get("is_informed", True),
        )
        for result in record.get("results", ())
    ]
    return Trial(number, dict(params), results, record.get("folder"), record.get("error"))
