"""MLflow. MLFLOW_TRACKING_URI names the server, else the run folder holds a store of files.

MLFLOW_EXPERIMENT_NAME names the experiment (bertft). A run that goes on keeps its id.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any

from bertft.listeners.trackers import tracker

__all__ = ["Tracker"]

_LONGEST = 500  # characters of a parameter, in every store


class Tracker(tracker.Tracker):
    """By a client of its own: whatever else this process tracks stays as it is."""

    package = "mlflow"
    _client: Any
    _id: str

    def open(self, step: int) -> None:
        own = "MLFLOW_TRACKING_URI" not in os.environ
        if own:  # newer versions would rather have a database, and take files when told so
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        from mlflow.tracking import MlflowClient

        place = self.folder.absolute().as_uri() if own else os.environ["MLFLOW_TRACKING_URI"]
        self._client = MlflowClient(tracking_uri=place)
        known = self.remembered()
        if known is not None:
            self._client.update_run(known, status="RUNNING")
            self._id = known
            return
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "bertft")
        found = self._client.get_experiment_by_name(name)
        experiment = found.experiment_id if found else self._client.create_experiment(name)
        self._id = self._client.create_run(experiment, run_name=self.run.name).info.run_id
        self.remember(self._id)
        for key, value in self.settings.items():
            self._client.log_param(self._id, key, value[:_LONGEST])

    def write(self, values: Mapping[str, float], step: int) -> None:
        now = int(time.time() * 1000)
        for name, value in values.items():
            self._client.log_metric(self._id, name, value, timestamp=now, step=step)

    def end(self, finished: bool) -> None:
        self._client.set_terminated(self._id, "FINISHED" if finished else "KILLED")
