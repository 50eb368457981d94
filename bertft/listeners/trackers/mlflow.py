"""MLflow. MLFLOW_TRACKING_URI names the server, else the run folder holds a store of files.

MLFLOW_EXPERIMENT_NAME names the experiment (bertft). A run that goes on keeps its id.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any

from bertft.listeners.trackers import tracker

__all__ = ["MLflowTracker"]

_MAX_PARAMETER_LENGTH = 500  # characters of a parameter, in every store


class MLflowTracker(tracker.Tracker):
    """By a client of its own: whatever else this process tracks stays as it is."""

    package = "mlflow"
    _client: Any
    _run_id: str

    def start(self, step: int) -> None:
        use_local_store = "MLFLOW_TRACKING_URI" not in os.environ
        if use_local_store:  # newer versions would rather have a database, and take files when told so
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        from mlflow.tracking import MlflowClient

        tracking_uri = self.folder.absolute().as_uri() if use_local_store else os.environ["MLFLOW_TRACKING_URI"]
        self._client = MlflowClient(tracking_uri=tracking_uri)
        saved_run_id = self.load_run_id()
        if saved_run_id is not None:
            self._client.update_run(saved_run_id, status="RUNNING")
            self._run_id = saved_run_id
            return
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "bertft")
        existing_experiment = self._client.get_experiment_by_name(name)
        experiment_id = existing_experiment.experiment_id if existing_experiment else self._client.create_experiment(name)
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
