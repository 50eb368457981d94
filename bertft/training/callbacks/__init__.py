"""What hears the training loop's events: files, the view in the terminal."""

from __future__ import annotations

from collections.abc import Callable

from bertft.training.events import Callback, Event

__all__ = [
    "suppress_errors",
]


def suppress_errors(callback: Callback, warn: Callable[[str], object]) -> Callback:
    """``callback`` until it raises; then ``warn`` is told once, and the run goes on without it.

    Files that a resume depends on are not guarded: without them the run is not whole.
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
            name = getattr(callback, "__name__", type(callback).__name__)
            warn(
                f"{name} failed at step {event.step} and is switched off; training goes on "
                f"({type(error).__name__}: {error})"
            )

    return call
