"""Experiment trackers: MLflow, TensorBoard and Weights & Biases.

    train/loss, penalty, gradient_norm, learning_rate/<group>, rows_per_second, tokens_per_second,
    and the metrics of the components      every ``log_every`` steps
    validation/<metric>                    after each evaluation

A tracker opens at the first event, so that its errors are suppressed like those of other callbacks
(``suppress_errors``). The id with which a resumed run continues in the same tracked run is in
``<run>/tracking/<name>/``.
"""

from __future__ import annotations

import importlib.util
import math
import netrc
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlparse

from bertft.config.command_configs import TrainConfig
from bertft.config.serialize import flatten_settings
from bertft.errors import DataError, UsageError
from bertft.training.events import Evaluated, Event, Finished, Retried, Started, StepCompleted
from bertft.utils.atomic_io import atomic_write_text
from bertft.utils.safe_files import read_regular_text

__all__ = [
    "TRACKER_CLASSES",
    "MLflowTracker",
    "TensorBoardTracker",
    "Tracker",
    "WandbTracker",
    "build_trackers",
    "check_tracker_packages",
]

_MAX_PARAMETER_LENGTH = 500  # characters; MLflow rejects longer parameters
_INIT_TIMEOUT = 20.0  # seconds to reach the server of Weights & Biases


def check_tracker_packages(names: Sequence[str]) -> None:
    """Raise UsageError unless the package of each tracker is installed."""
    for name in names:
        package = TRACKER_CLASSES[name].package
        if importlib.util.find_spec(package) is None:
            raise UsageError(
                f"{name} needs the package {package}, which is not installed",
                where="trainer.trackers",
                hint='Install it with pip install "bertft[tracking]"',
            )


def build_trackers(names: Sequence[str], run: Path, config: TrainConfig) -> list[Tracker]:
    """The trackers ``names`` of the run in the folder ``run``, not yet opened."""
    settings, log_every = flatten_settings(config), config.trainer.log_every
    return [
        TRACKER_CLASSES[name](run, run / "tracking" / name, settings, log_every) for name in names
    ]


class Tracker(ABC):
    """A callback that sends metrics to an experiment tracker.

    Args:
        run: the run's folder; its name becomes the name of the tracked run.
        folder: the tracker's own folder.
        settings: every setting of the run as text.
        log_every: number of steps between two records of training metrics.
    """

    name: ClassVar[str]  # as in ``trainer.trackers``
    package: ClassVar[str]  # the package to install

    def __init__(
        self, run: Path, folder: Path, settings: Mapping[str, str], log_every: int
    ) -> None:
        self.run, self.folder, self.settings, self.log_every = run, folder, settings, log_every
        self._is_open, self._finished, self._total_steps = False, False, 0

    def __call__(self, event: Event) -> None:
        if isinstance(event, Started):
            self.folder.mkdir(parents=True, exist_ok=True)
            self.start(event.step)
            self._is_open, self._total_steps = True, event.total_steps
        elif isinstance(event, StepCompleted):
            if event.step % self.log_every == 0 or event.step == self._total_steps:
                self._log_finite(_step_metrics(event), event.step)
        elif isinstance(event, Evaluated):
            values = {f"{event.split}/{name}": value for name, value in event.metrics.items()}
            self._log_finite(values, event.step)
        elif isinstance(event, Retried):
            self.return_to(event.step)
        elif isinstance(event, Finished):
            self._finished = True

    def close(self) -> None:
        """Close the tracked run; an interrupted run can be resumed later."""
        if self._is_open:
            self._is_open = False
            self.finish(self._finished)

    @abstractmethod
    def start(self, step: int) -> None:
        """Create the tracked run, or continue the existing one after ``step`` steps."""

    def return_to(self, step: int) -> None:
        """Training continues from ``step``: later metrics are recorded again."""

    @abstractmethod
    def log_metrics(self, values: Mapping[str, float], step: int) -> None:
        """Record ``values``, which are all finite."""

    @abstractmethod
    def finish(self, finished: bool) -> None:
        """Close the tracked run; ``finished`` is False if training was interrupted."""

    def load_run_id(self) -> str | None:
        """The tracker's id of this run, saved by an earlier process; None for a new run."""
        try:
            return read_regular_text(self.folder / "id", 1 << 10).strip() or None
        except DataError:
            return None

    def save_run_id(self, run_id: str) -> None:
        atomic_write_text(self.folder / "id", f"{run_id}\n")

    def _log_finite(self, values: Mapping[str, float], step: int) -> None:
        finite = {name: float(value) for name, value in values.items() if math.isfinite(value)}
        self.log_metrics(finite, step)


class MLflowTracker(Tracker):
    """MLflow, with a separate client: the active MLflow run of this process is not changed."""

    name, package = "mlflow", "mlflow"
    _client: Any
    _run_id: str

    def start(self, step: int) -> None:
        tracking_uri = os.environ.get("MLFLOW_TRACKING_URI")
        if tracking_uri is None:
            tracking_uri = self.folder.absolute().as_uri()
            # Newer versions of MLflow allow files as a store only with this variable.
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        from mlflow.tracking import MlflowClient

        self._client = MlflowClient(tracking_uri=tracking_uri)
        saved_run_id = self.load_run_id()
        if saved_run_id is not None:
            self._client.update_run(saved_run_id, status="RUNNING")
            self._run_id = saved_run_id
            return
        experiment_name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "bertft")
        experiment = self._client.get_experiment_by_name(experiment_name)
        if experiment is not None:
            experiment_id = experiment.experiment_id
        else:
            experiment_id = self._client.create_experiment(experiment_name)
        self._run_id = self._client.create_run(experiment_id, run_name=self.run.name).info.run_id
        self.save_run_id(self._run_id)
        for key, value in self.settings.items():
            self._client.log_param(self._run_id, key, value[:_MAX_PARAMETER_LENGTH])

    def log_metrics(self, values: Mapping[str, float], step: int) -> None:
        now = int(time.time() * 1000)
        for name, value in values.items():
            self._client.log_metric(self._run_id, name, value, timestamp=now, step=step)

    def finish(self, finished: bool) -> None:
        self._client.set_terminated(self._run_id, "FINISHED" if finished else "KILLED")


class TensorBoardTracker(Tracker):
    """Event files in ``<run>/tracking/tensorboard``."""

    name, package = "tensorboard", "tensorboard"
    _writer: Any

    def start(self, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(self.folder), purge_step=step + 1 if step else None)
        if step == 0:
            lines = [f"    {name}: {value}" for name, value in self.settings.items()]
            self._writer.add_text("config", "\n".join(lines))

    def return_to(self, step: int) -> None:
        """Hide what was recorded after ``step``."""
        from torch.utils.tensorboard import SummaryWriter

        self._writer.close()
        self._writer = SummaryWriter(str(self.folder), purge_step=step + 1)

    def log_metrics(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def finish(self, finished: bool) -> None:
        self._writer.close()


class WandbTracker(Tracker):
    """Weights & Biases: online with an account, otherwise offline in ``<run>/tracking/wandb``."""

    name, package = "wandb", "wandb"
    _run: Any

    def start(self, step: int) -> None:
        import wandb

        mode = os.environ.get("WANDB_MODE")
        if mode is not None:
            self._run = self._start_run(mode)
        elif not _has_wandb_account(wandb.setup().settings):
            self._run = self._start_run("offline")
        else:
            try:
                self._run = self._start_run("online")
            except wandb.errors.Error:
                self._run = self._start_run("offline")
        self.save_run_id(self._run.id)

    def _start_run(self, mode: str) -> Any:
        import wandb

        timeout = float(os.environ.get("WANDB_INIT_TIMEOUT", _INIT_TIMEOUT))
        saved_run_id = self.load_run_id()
        return wandb.init(
            project=os.environ.get("WANDB_PROJECT", "bertft"),
            name=self.run.name,
            id=saved_run_id,
            resume="allow" if saved_run_id else None,
            dir=str(self.folder),
            config=dict(self.settings),
            mode=mode,
            settings=wandb.Settings(init_timeout=timeout),
        )

    def log_metrics(self, values: Mapping[str, float], step: int) -> None:
        self._run.log(dict(values), step=step)

    def finish(self, finished: bool) -> None:
        self._run.finish(exit_code=0 if finished else 1)


TRACKER_CLASSES: dict[str, type[Tracker]] = {
    tracker.name: tracker for tracker in (MLflowTracker, TensorBoardTracker, WandbTracker)
}


def _has_wandb_account(settings: Any) -> bool:
    """Whether the wandb ``settings`` or .netrc, where ``wandb login`` writes, have an API key."""
    if settings.api_key:
        return True
    try:
        credentials = netrc.netrc(os.environ.get("NETRC"))
    except (OSError, netrc.NetrcParseError):
        return False
    hosts = ("api.wandb.ai", urlparse(str(settings.base_url)).netloc)
    return any(credentials.authenticators(host) for host in hosts)


def _step_metrics(event: StepCompleted) -> dict[str, float]:
    values = {
        "loss": event.loss,
        "penalty": event.penalty,
        "gradient_norm": event.gradient_norm,
        "epoch": event.epoch,
    }
    values |= {f"learning_rate/{name}": rate for name, rate in event.learning_rates.items()}
    values |= event.metrics
    if event.seconds > 0:
        values["rows_per_second"] = event.rows / event.seconds
        values["tokens_per_second"] = event.tokens / event.seconds
    return {f"train/{name}": value for name, value in values.items()}
