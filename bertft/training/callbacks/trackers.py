"""What a tracker is told, under which names.

    train/loss, penalty, gradient_norm, learning_rate/<group>, rows_per_second, tokens_per_second,
    and the parts' measures            every ``log_every`` steps
    validation/<metric>                after each evaluation

A tracker opens with the first event, so that its errors are caught as those of any callback. Its
files, and what it needs to resume, are in ``<run>/tracking/<name>/``.
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

from bertft.config.serialize import flatten_settings
from bertft.errors import DataError, UsageError
from bertft.training.events import Evaluated, Event, Finished, Started, StepCompleted
from bertft.utils.atomic_io import atomic_write_text
from bertft.utils.safe_files import read_regular_text

__all__ = [
    "MLflowTracker",
    "TensorBoardTracker",
    "Tracker",
    "WandbTracker",
    "build_trackers",
    "check_tracker_packages",
]


def check_tracker_packages(names: Sequence[str]) -> None:
    """UsageError, before anything is trained, unless what each tracker needs is installed."""
    for name in names:
        package = _TRACKERS[name].package
        if importlib.util.find_spec(package) is None:
            raise UsageError(
                f"{name} needs the package {package}, which is not installed",
                where="trainer.trackers",
                hint='It comes with pip install "bertft[tracking]"',
            )


def build_trackers(names: Sequence[str], run: Path, config: Any) -> list[Tracker]:
    """Of the run in the folder ``run``; nothing is opened before the first event."""
    return [
        _TRACKERS[name](
            run, run / "tracking" / name, flatten_settings(config), config.trainer.log_every
        )
        for name in names
    ]


_MAX_PARAMETER_LENGTH = 500  # characters of a parameter, in every store


_INIT_TIMEOUT = 20.0  # seconds for the server, unless WANDB_INIT_TIMEOUT says otherwise


def _has_key(settings: Any) -> bool:
    """Whether an account is known. What ``wandb login`` leaves in .netrc is in no setting."""
    if settings.api_key:
        return True
    try:
        credentials = netrc.netrc(os.environ.get("NETRC"))
    except (OSError, netrc.NetrcParseError):
        return False
    hosts = ("api.wandb.ai", urlparse(str(settings.base_url)).netloc)
    return any(credentials.authenticators(host) for host in hosts)


class Tracker(ABC):
    """``run`` is the run's folder, ``folder`` the tracker's own; ``settings``: name → text."""

    package: ClassVar[str]  # what must be installed

    def __init__(
        self, run: Path, folder: Path, settings: Mapping[str, str], log_every: int
    ) -> None:
        self.run, self.folder, self.settings, self.log_every = run, folder, settings, log_every
        self._is_open, self._finished, self._total_steps = False, False, 0
        self.__name__ = self.package  # the name in warnings

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
        elif isinstance(event, Finished):
            self._finished = True

    def close(self) -> None:
        """Say goodbye; a run that was interrupted may go on."""
        if self._is_open:
            self._is_open = False
            self.finish(self._finished)

    @abstractmethod
    def start(self, step: int) -> None:
        """Begin, or go on with the same one: the run has taken ``step`` steps."""

    @abstractmethod
    def log_metrics(self, values: Mapping[str, float], step: int) -> None:
        """Finite numbers by name."""

    @abstractmethod
    def finish(self, finished: bool) -> None:
        """Nothing more comes from this process."""

    def load_run_id(self) -> str | None:
        """The name under which the tracker knows the run since an earlier process."""
        try:
            return read_regular_text(self.folder / "id", 1 << 10).strip() or None
        except DataError:
            return None

    def save_run_id(self, name: str) -> None:
        atomic_write_text(self.folder / "id", f"{name}\n")

    def _log_finite(self, values: Mapping[str, float], step: int) -> None:
        self.log_metrics({name: float(v) for name, v in values.items() if math.isfinite(v)}, step)


class MLflowTracker(Tracker):
    """By a client of its own: whatever else this process tracks stays as it is."""

    package = "mlflow"
    _client: Any
    _run_id: str

    def start(self, step: int) -> None:
        use_local_store = "MLFLOW_TRACKING_URI" not in os.environ
        if (
            use_local_store
        ):  # newer versions would rather have a database, and take files when told so
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        from mlflow.tracking import MlflowClient

        tracking_uri = (
            self.folder.absolute().as_uri()
            if use_local_store
            else os.environ["MLFLOW_TRACKING_URI"]
        )
        self._client = MlflowClient(tracking_uri=tracking_uri)
        saved_run_id = self.load_run_id()
        if saved_run_id is not None:
            self._client.update_run(saved_run_id, status="RUNNING")
            self._run_id = saved_run_id
            return
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "bertft")
        existing_experiment = self._client.get_experiment_by_name(name)
        experiment_id = (
            existing_experiment.experiment_id
            if existing_experiment
            else self._client.create_experiment(name)
        )
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

    package = "tensorboard"
    _writer: Any

    def start(self, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(self.folder), purge_step=step + 1 if step else None)
        if step == 0:
            lines = [f"    {name}: {value}" for name, value in self.settings.items()]
            self._writer.add_text("config", "\n".join(lines))

    def log_metrics(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def finish(self, finished: bool) -> None:
        self._writer.close()


class WandbTracker(Tracker):
    """Files in ``<run>/tracking/wandb``."""

    package = "wandb"
    _run: Any

    def start(self, step: int) -> None:
        import wandb

        mode = os.environ.get("WANDB_MODE")
        if mode is not None:
            self._run = self._start_run(mode)
        elif not _has_key(wandb.setup().settings):
            self._run = self._start_run("offline")
        else:
            try:
                self._run = self._start_run("online")
            except wandb.errors.Error:
                self._run = self._start_run("offline")
        self.save_run_id(self._run.id)

    def _start_run(self, mode: Any) -> Any:
        import wandb

        saved_run_id = self.load_run_id()
        return wandb.init(
            project=os.environ.get("WANDB_PROJECT", "bertft"),
            name=self.run.name,
            id=saved_run_id,
            resume="allow" if saved_run_id else None,
            dir=str(self.folder),
            config=dict(self.settings),
            mode=mode,
            settings=wandb.Settings(
                init_timeout=float(os.environ.get("WANDB_INIT_TIMEOUT", _INIT_TIMEOUT))
            ),
        )

    def log_metrics(self, values: Mapping[str, float], step: int) -> None:
        self._run.log(dict(values), step=step)

    def finish(self, finished: bool) -> None:
        self._run.finish(exit_code=0 if finished else 1)


def _step_metrics(event: StepCompleted) -> dict[str, float]:
    values = {
        "loss": event.loss,
        "penalty": event.penalty,
        "gradient_norm": event.gradient_norm,
        "epoch": event.epoch,
        **{
            f"learning_rate/{name}": learning_rate
            for name, learning_rate in event.learning_rates.items()
        },
        **event.metrics,
    }
    if event.seconds > 0:
        values["rows_per_second"] = event.rows / event.seconds
        values["tokens_per_second"] = event.tokens / event.seconds
    return {f"train/{name}": value for name, value in values.items()}


_TRACKERS: dict[str, type[Tracker]] = {
    "mlflow": MLflowTracker,
    "tensorboard": TensorBoardTracker,
    "wandb": WandbTracker,
}
