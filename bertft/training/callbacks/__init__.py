"""Callbacks receive the events of the training loop: files, progress, experiment trackers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

from bertft.config.command_configs import TrainConfig
from bertft.runs.run_folder import RunFolder
from bertft.training.callbacks.log_file import LogFile
from bertft.training.callbacks.metrics_file import MetricsFile
from bertft.training.callbacks.notebook import NotebookView
from bertft.training.callbacks.progress import ProgressView
from bertft.training.callbacks.trackers import Tracker, build_trackers
from bertft.training.events import Callback, Event
from bertft.utils.messages import add_location
from bertft.utils.notebook import is_notebook

__all__ = ["RunCallbacks", "suppress_errors"]


class RunCallbacks:
    """All callbacks of a run, as one callback and context manager.

    The metrics files belong to the run, and an error in them ends it. Errors in ``log.txt``, in
    the progress display and in trackers are reported once, and training continues.

    Args:
        state: what ``state_dict`` returned when the checkpoint was saved, for a resumed run.
        best: value of the best evaluation so far, for the progress display.
        warn: prints a warning.
    """

    def __init__(
        self,
        run_folder: RunFolder,
        config: TrainConfig,
        state: Mapping[str, Any] | None,
        best: float | None,
        warn: Callable[[str], None],
    ) -> None:
        self._run_folder, self._config, self._warn = run_folder, config, warn
        self._state, self._best = state, best
        self._metrics: MetricsFile
        self._callbacks: list[Callback] = []
        self._stack = ExitStack()

    def __enter__(self) -> RunCallbacks:
        run_folder, trainer, warn = self._run_folder, self._config.trainer, self._warn
        paths = (run_folder.metrics_log_path, run_folder.timings_log_path)
        lengths = self._state["position"] if self._state else (0, 0)
        for path, length in zip(paths, lengths, strict=True):
            MetricsFile.truncate(path, length)
        with ExitStack() as stack:
            self._metrics = stack.enter_context(MetricsFile(*paths, trainer.log_every))
            if self._state:
                with add_location(run_folder.checkpoints_dir):
                    self._metrics.load_state_dict(self._state["metrics"])
            log = stack.enter_context(LogFile(run_folder.log_path))
            progress: NotebookView | ProgressView
            if is_notebook() and not self._config.quiet:
                progress = NotebookView(self._best)
            else:
                progress = ProgressView(quiet=self._config.quiet, best=self._best)
            stack.enter_context(progress)
            self._callbacks = [
                self._metrics,
                suppress_errors(log, run_folder.log_path.name, warn),
                suppress_errors(progress, "the progress display", log.write_line),
            ]

            def log_and_warn(text: str) -> None:
                log.write_line(text)
                warn(text)

            for tracker in build_trackers(trainer.trackers, run_folder.path, self._config):
                self._callbacks.append(suppress_errors(tracker, tracker.name, log_and_warn))
                stack.callback(_close_tracker, tracker, warn)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def __call__(self, event: Event) -> None:
        for callback in self._callbacks:
            callback(event)

    def state_dict(self) -> dict[str, Any]:
        """The state of the metrics files, for a checkpoint."""
        return {
            "metrics": self._metrics.state_dict(),
            "position": list(self._metrics.position()),
        }


def _close_tracker(tracker: Tracker, warn: Callable[[str], None]) -> None:
    try:
        tracker.close()
    except Exception as error:
        warn(f"{tracker.name} could not be closed ({type(error).__name__}: {error})")


def suppress_errors(callback: Callback, name: str, warn: Callable[[str], object]) -> Callback:
    """Wrap ``callback`` so that its first error disables it.

    ``warn`` is called with a message about the error, which starts with ``name``.
    """
    failed = False

    def call(event: Event) -> None:
        nonlocal failed
        if failed:
            return
        try:
            callback(event)
        except Exception as error:
            failed = True
            warn(
                f"{name} failed at step {event.step} and is disabled; training continues"
                f" ({type(error).__name__}: {error})"
            )

    return call
