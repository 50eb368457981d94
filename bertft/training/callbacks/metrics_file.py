"""The events of a run as JSON lines: metrics in ``metrics.jsonl``, times in ``timings.jsonl``.

metrics.jsonl    started, step, skipped, evaluated, collapsed, retried, finished. The content
                 depends only on configuration, seed and rows: the same run writes the same bytes,
                 no matter how often it was interrupted and resumed. The file has no times and no
                 paths, and that of an interrupted run is a prefix of the complete one.
timings.jsonl    one line per line of metrics.jsonl, with the time of day, seconds and throughput;
                 and the events resumed, memory_short, checkpointed, interrupted and stopped.

A "step" line is written every ``log_every`` steps, before a skipped step, and for the last step. It
covers the ``steps`` since the previous line: ``loss`` and ``penalty`` are means, ``rows`` and
``tokens`` are sums. Gradient norm, learning rates and ``measures`` (the metrics of the components)
are those of the last step. NaN and infinity are written as null. After a "retried" line, the steps
after its ``step`` are taken again, and the earlier lines of these steps are out of date.
"""

from __future__ import annotations

import json
import math
import os
import signal
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from numbers import Integral, Real
from pathlib import Path
from typing import Any, BinaryIO

from bertft.errors import DataError
from bertft.training.events import (
    Checkpointed,
    Collapsed,
    Evaluated,
    Event,
    Finished,
    Interrupted,
    MicroBatchReduced,
    Retried,
    Started,
    StepCompleted,
    StepSkipped,
    Stopped,
)

__all__ = ["MetricsFile"]


@dataclass
class _StepSummary:
    """Sums over the steps since the last step line, and the values of the last step (``line``).

    The names of the fields are keys in checkpoints.
    """

    after: int = 0
    steps: int = 0
    loss: float = 0.0
    penalty: float = 0.0
    rows: int = 0
    tokens: int = 0
    seconds: float = 0.0
    line: dict[str, Any] = field(default_factory=dict)

    def add(self, event: StepCompleted) -> None:
        self.steps += 1
        self.loss += event.loss
        self.penalty += event.penalty
        self.rows += event.rows
        self.tokens += event.tokens
        self.seconds += event.seconds
        self.line = {
            "step": event.step,
            "epoch": event.epoch,
            "gradient_norm": event.gradient_norm,
            # Sorted as in a restored state, so that a resumed run writes the same bytes.
            "learning_rates": dict(sorted(event.learning_rates.items())),
            "measures": dict(sorted(event.metrics.items())),
        }


class MetricsFile:
    """A callback that appends to the files ``path`` (metrics) and ``timings``.

    A checkpoint stores ``position()`` and ``state_dict()``. To resume, ``truncate`` both files to
    that position, open them and call ``load_state_dict``. Raises OSError if a file cannot be
    written.
    """

    def __init__(self, path: Path, timings: Path, log_every: int) -> None:
        self._metrics, self._timings = open(path, "ab"), open(timings, "ab")  # noqa: SIM115
        self._log_every = log_every
        self._total: int | None = None
        self._pending = _StepSummary()

    def __call__(self, event: Event) -> None:
        match event:
            case Started():
                self._write_started(event)
            case StepCompleted():
                self._pending.add(event)
                crossed = event.step // self._log_every > self._pending.after // self._log_every
                if crossed or event.step == self._total:
                    self._write_pending()
            case StepSkipped(step=step):
                self._write_pending()
                self._write_both("skipped", step, {"reason": event.reason, "rows": event.rows})
            case Evaluated(step=step):
                line = {
                    "epoch": event.epoch,
                    "split": event.split,
                    "metric": event.metric,
                    "metrics": event.metrics,
                    "best": event.best,
                    "counts": event.eligible,
                }
                if event.input_free_loss is not None:
                    line["input_free_loss"] = event.input_free_loss
                self._write_both("evaluated", step, line, split=event.split, seconds=event.seconds)
            case Collapsed(step=step):
                self._write_pending()
                line = {"loss": event.loss, "input_free_loss": event.input_free_loss}
                self._write_both("collapsed", step, {**line, "reason": event.reason})
            case Retried(step=step):
                self._write_pending()
                self._pending = _StepSummary(after=step)
                names = ("collapsed_step", "rate_factor")
                self._write_both("retried", step, {name: getattr(event, name) for name in names})
            case Checkpointed(step=step, path=path):
                self._write_timing("checkpointed", step, checkpoint=path.name)
                self._sync()
            case Finished(step=step, reason=reason):
                self._write_pending()
                self._write_both("finished", step, {"reason": reason})
            case MicroBatchReduced(step=step, micro_batch=rows):
                self._write_timing("memory_short", step, micro_batch=rows)
            case Interrupted(step=step, signum=signum):
                self._write_timing("interrupted", step, signal=signal.Signals(signum).name)
            case Stopped(step=step):
                self._write_timing("stopped", step)

    def position(self) -> tuple[int, int]:
        """The sizes of both files in bytes, after all data is written to disk."""
        self._sync()
        return os.fstat(self._metrics.fileno()).st_size, os.fstat(self._timings.fileno()).st_size

    @staticmethod
    def truncate(path: Path, length: int) -> None:
        """Truncate ``path`` to ``length`` bytes, a value of ``position``.

        Raises:
            DataError: the file is shorter, or no line ends there.
        """
        if length == 0 and not path.exists():
            return
        size = path.stat().st_size if path.exists() else 0
        if size < length:
            raise DataError(
                f"the file has {size} bytes, but it had {length} when the checkpoint was saved",
                where=str(path),
                hint="It was truncated or replaced. Restore it, or start a new run",
            )
        with open(path, "r+b") as file:
            if length:
                file.seek(length - 1)
                if file.read(1) != b"\n":
                    raise DataError(
                        "the file has changed since the checkpoint was saved: its first"
                        f" {length:,} bytes do not end with a line break",
                        where=str(path),
                        hint="The file was edited. Restore it, or start a new run",
                    )
            file.truncate(length)
            os.fsync(file.fileno())

    def state_dict(self) -> dict[str, Any]:
        """The sums since the last step line, as JSON values."""
        return _to_json_value(asdict(self._pending))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned. Raises DataError for any other content."""
        defaults = asdict(_StepSummary())
        for name, value in state.items():
            if name not in defaults or not _is_like(value, defaults[name]):
                raise DataError(
                    f"the training state does not fit the run (invalid value for {name!r})",
                    hint="The checkpoint may be damaged: remove it to resume from an earlier one",
                )
        self._pending = _StepSummary(**state)
        for name in ("loss", "penalty"):
            if getattr(self._pending, name) is None:
                setattr(self._pending, name, math.nan)

    def close(self) -> None:
        self._metrics.close()
        self._timings.close()

    def __enter__(self) -> MetricsFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _write_started(self, event: Started) -> None:
        self._total = event.total_steps
        if self._metrics.tell() == 0:  # not a run that is resumed, possibly at step 0
            keys = ("total_steps", "steps_per_epoch", "rows")
            self._write_both("started", 0, {name: getattr(event, name) for name in keys})
        else:
            self._write_timing("resumed", event.step)

    def _write_pending(self) -> None:
        """Write a step line for the steps since the last one, if there are any."""
        pending = self._pending
        if pending.steps == 0:
            return
        step = pending.line["step"]
        line = {
            "epoch": pending.line["epoch"],
            "steps": pending.steps,
            "loss": pending.loss / pending.steps,
            "penalty": pending.penalty / pending.steps,
            **{name: pending.line[name] for name in ("gradient_norm", "learning_rates")},
            "rows": pending.rows,
            "tokens": pending.tokens,
            "measures": pending.line["measures"],
        }
        seconds = pending.seconds
        throughput = {
            f"{name}_per_second": total / seconds if seconds > 0 else None
            for name, total in (("rows", pending.rows), ("tokens", pending.tokens))
        }
        self._pending = _StepSummary(after=step)
        self._write_both("step", step, line, seconds=seconds, **throughput)

    def _write_both(self, event_kind: str, step: int, line: dict[str, Any], **timing: Any) -> None:
        _write_json_line(self._metrics, {"event": event_kind, "step": step, **line})
        self._write_timing(event_kind, step, **timing)

    def _write_timing(self, event_kind: str, step: int, **timing: Any) -> None:
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        _write_json_line(self._timings, {"event": event_kind, "step": step, "time": now, **timing})

    def _sync(self) -> None:
        for file in (self._metrics, self._timings):
            file.flush()
            os.fsync(file.fileno())


def _is_like(value: Any, default: Any) -> bool:
    """Whether ``value`` has the type of ``default``; a sum may also be None (NaN in JSON)."""
    if isinstance(default, int):
        return type(value) is int and 0 <= value < 1 << 62
    return type(value) in ((dict,) if isinstance(default, dict) else (int, float, type(None)))


def _write_json_line(file: BinaryIO, line: dict[str, Any]) -> None:
    text = json.dumps(_to_json_value(line), ensure_ascii=False, allow_nan=False)
    file.write(text.encode() + b"\n")
    file.flush()


def _to_json_value(value: Any) -> Any:
    """``value`` as JSON types: NumPy numbers become Python's, NaN and infinity None."""
    if isinstance(value, dict):
        return {name: _to_json_value(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_to_json_value(item) for item in value]
    if isinstance(value, (bool, str)) or value is None:
        return value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value) if math.isfinite(value) else None
    raise TypeError(f"a metrics file does not support values of type {type(value).__name__}")
