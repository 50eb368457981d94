"""What trackers receive from a real run's events; TensorBoard's files are read back."""

from __future__ import annotations

import importlib.util
import json
import os
import socket

import pytest

from bertft.config.choices import TRACKERS
from bertft.config.command_configs import TrainConfig
from bertft.config.trainer import TrainerConfig
from bertft.errors import UsageError
from bertft.training.callbacks import suppress_errors, trackers
from bertft.training.callbacks.trackers import (
    TRACKER_CLASSES,
    build_trackers,
    check_tracker_packages,
)
from bertft.training.events import Finished, Interrupted, Retried, Started, StepCompleted

SETTINGS = {"method.name": "lora", "data.train": "数据/训练.csv", "model.path": "x" * 900}


class Noted(trackers.Tracker):
    """Keeps what it receives."""

    name, package = "noted", "json"

    def start(self, step):
        self.received = []
        self.received.append(("open", step))

    def log_metrics(self, values, step):
        self.received.append((step, values))

    def finish(self, finished):
        self.received.append(("end", finished))


def noted(tmp_path, every=5):
    return Noted(tmp_path, tmp_path / "tracking" / "noted", SETTINGS, every)


def test_every_tracker_of_the_setting_has_a_class():
    assert tuple(TRACKER_CLASSES) == TRACKERS
    assert [tracker.name for tracker in TRACKER_CLASSES.values()] == list(TRACKER_CLASSES)


def test_a_run_builds_the_trackers_of_its_setting(tmp_path):
    config = TrainConfig(trainer=TrainerConfig(log_every=3))
    built = build_trackers(list(TRACKERS), tmp_path, config)
    assert [type(tracker) for tracker in built] == [TRACKER_CLASSES[name] for name in TRACKERS]
    assert [tracker.name for tracker in built] == list(TRACKERS)
    assert built[0].folder == tmp_path / "tracking" / "mlflow" and built[0].log_every == 3


def test_steps_come_every_so_many_and_evaluations_all(events, tmp_path):
    tracker = noted(tmp_path)
    for event in events():
        tracker(event)
    tracker.close()
    tracker.close()
    (start, *content, end) = tracker.received
    assert start == ("open", 0) and end == ("end", True)
    steps = [step for step, values in content if "train/loss" in values]
    assert steps == [5, 10, 15, 20, 25]
    scored = {step: values for step, values in content if "validation/accuracy" in values}
    assert list(scored) == [8, 16, 25]
    assert scored[8] == {
        "validation/accuracy": 0.58, "validation/f1_macro": pytest.approx(0.57),
        "validation/loss": pytest.approx(0.42),
    }  # fmt: skip
    first = next(values for step, values in content if step == 5)
    assert first["train/loss"] == 0.2 and first["train/budget"] == 288.0
    assert first["train/learning_rate/head"] == 1e-3
    assert first["train/rows_per_second"] == 64.0


def test_what_is_not_finite_is_left_out(a_step, tmp_path):
    tracker = noted(tmp_path, every=1)
    tracker(Started(0, 25, 10, 320))
    tracker(a_step(1, gradient_norm=float("inf"), loss=float("nan")))
    values = tracker.received[-1][1]
    assert "train/penalty" in values and not {"train/loss", "train/gradient_norm"} & set(values)


def test_an_interrupted_run_is_not_finished(a_step, tmp_path):
    tracker = noted(tmp_path)
    tracker(Started(0, 25, 10, 320))
    tracker(Interrupted(3, 2))
    tracker.close()
    assert tracker.received[-1] == ("end", False)


def test_one_that_fails_in_the_middle_is_switched_off(events, tmp_path):
    class Broken(Noted):
        def log_metrics(self, values, step):
            if step > 8:
                raise ConnectionError("gone")
            super().log_metrics(values, step)

    content = []
    tracker = Broken(tmp_path, tmp_path / "t", SETTINGS, 5)
    hear = suppress_errors(tracker, tracker.name, content.append)
    for event in events():
        hear(event)
    tracker.close()
    (warning,) = content
    assert "failed at step 10 and is disabled; training continues" in warning
    assert tracker.received[-1] == ("end", False)


def test_a_folder_that_cannot_be_made_is_the_tracker_s_own_trouble(events, tmp_path):
    (tmp_path / "tracking").touch()
    content = []
    hear = suppress_errors(noted(tmp_path), "noted", content.append)
    for event in events():
        hear(event)
    assert len(content) == 1


def test_a_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"wandb needs the package wandb.*bertft\[tracking\]"):
        check_tracker_packages(["wandb"])
    check_tracker_packages([])


def scalars(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    actual = EventAccumulator(str(folder))
    actual.Reload()
    names = actual.Tags()["scalars"]
    return {
        name: [(scalar.step, scalar.value) for scalar in actual.Scalars(name)] for name in names
    }


def test_tensorboard_continues_in_the_same_folder(events, tmp_path):
    pytest.importorskip("tensorboard")
    from bertft.training.callbacks.trackers import TensorBoardTracker

    folder = tmp_path / "tracking" / "tensorboard"
    first = TensorBoardTracker(tmp_path, folder, SETTINGS, 1)
    for event in events():
        if isinstance(event, StepCompleted) and event.step > 20:
            break
        first(event)
    first.close()
    assert [step for step, _ in scalars(folder)["train/loss"]][-1] == 20
    second = TensorBoardTracker(tmp_path, folder, SETTINGS, 1)  # from the checkpoint of step 16
    for event in events(after=16):
        second(event)
    second.close()
    loss = scalars(folder)["train/loss"]
    assert [step for step, _ in loss] == [n for n in range(1, 26) if n != 17]
    assert dict(loss)[20] == pytest.approx(0.05)
    assert dict(scalars(folder)["validation/accuracy"])[25] == pytest.approx(0.75)


def test_tensorboard_hides_the_steps_that_a_retry_replaced(a_step, tmp_path):
    pytest.importorskip("tensorboard")
    from bertft.training.callbacks.trackers import TensorBoardTracker

    folder = tmp_path / "tracking" / "tensorboard"
    tracker = TensorBoardTracker(tmp_path, folder, SETTINGS, 1)
    losses = [*((n, 0.5) for n in range(1, 8)), *((n, 0.25) for n in range(4, 6))]
    for event in [Started(0, 9, 3, 9), *(a_step(n, loss=loss) for n, loss in losses[:7])]:
        tracker(event)
    tracker(Retried(3, 7, 0.5, None))
    for number, loss in losses[7:]:
        tracker(a_step(number, loss=loss))
    tracker.close()
    assert scalars(folder)["train/loss"] == [(1, 0.5), (2, 0.5), (3, 0.5), (4, 0.25), (5, 0.25)]


@pytest.mark.trackers
def test_mlflow_in_files(events, tmp_path, monkeypatch):
    pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    from mlflow.tracking import MlflowClient

    from bertft.training.callbacks.trackers import MLflowTracker

    folder = tmp_path / "tracking" / "mlflow"
    all_events = events()
    first = MLflowTracker(tmp_path, folder, SETTINGS, 5)
    for event in all_events[:19]:
        first(event)
    first.close()
    client = MlflowClient(tracking_uri=folder.as_uri())
    name = first.load_run_id()
    assert client.get_run(name).info.status == "KILLED"
    second = MLflowTracker(tmp_path, folder, SETTINGS, 5)
    for event in events(after=16):
        second(event)
    second.close()
    assert second.load_run_id() == name
    actual = client.get_run(name)
    assert actual.info.status == "FINISHED"
    assert actual.data.params["data.train"] == "数据/训练.csv"
    assert actual.data.metrics["validation/accuracy"] == pytest.approx(0.75)
    assert [point.step for point in client.get_metric_history(name, "train/loss")] == [
        5, 10, 15, 20, 25
    ]  # fmt: skip


@pytest.fixture
def stranger(monkeypatch, tmp_path):
    """Somebody without an account at Weights & Biases, nor settings for it."""
    wandb = pytest.importorskip("wandb")
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_SILENT", "true")
    yield tmp_path / "netrc"
    wandb.teardown()  # it keeps settings for the process


def offline_runs(events, tmp_path, times=(0,)):
    """The folders that a run leaves, begun after each of these steps, and its id."""
    from bertft.training.callbacks.trackers import WandbTracker

    folder = tmp_path / "tracking" / "wandb"
    for after in times:
        tracker = WandbTracker(tmp_path, folder, SETTINGS, 5)
        for event in events(after=after):
            tracker(event)
        tracker.close()
    return sorted((folder / "wandb").glob("offline-run-*")), tracker.load_run_id()


@pytest.mark.trackers
def test_wandb_offline(stranger, events, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    remaining, name = offline_runs(events, tmp_path, (0, 16))
    assert len(remaining) == 2
    assert {folder.name.rpartition("-")[2] for folder in remaining} == {name}
    summary = remaining[-1] / "files" / "wandb-summary.json"
    if summary.is_file():
        assert json.loads(summary.read_text())["validation/accuracy"] == pytest.approx(0.75)
    assert Finished(25, "done") in events()


@pytest.mark.trackers
def test_wandb_without_an_account_needs_none(stranger, events, tmp_path):
    remaining, _ = offline_runs(events, tmp_path)
    assert len(remaining) == 1 and list(remaining[0].glob("*.wandb"))


@pytest.mark.trackers
@pytest.mark.parametrize("where", ["variable", "netrc"])
def test_wandb_with_an_account_and_without_a_network(
    stranger, events, tmp_path, monkeypatch, where
):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("WANDB_INIT_TIMEOUT", "1")
    if where == "variable":
        monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    else:
        stranger.write_text(f"machine 127.0.0.1:{port}\n login user\n password {'0' * 40}\n")
        stranger.chmod(0o600)
    tried = []
    from bertft.training.callbacks.trackers import WandbTracker

    begun = WandbTracker._start_run
    monkeypatch.setattr(
        WandbTracker, "_start_run", lambda s, mode: tried.append(mode) or begun(s, mode)
    )
    remaining, _ = offline_runs(events, tmp_path)
    assert tried == ["online", "offline"] and len(remaining) == 1
