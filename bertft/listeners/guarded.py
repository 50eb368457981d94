"""A listener for the eyes must not end a run: its first error is told, and it hears no more."""

from __future__ import annotations

from collections.abc import Callable

from bertft.training.events import Event, Listener

__all__ = ["guarded"]


def guarded(listener: Listener, warn: Callable[[str], object]) -> Listener:
    """``listener`` until it raises; then ``warn`` is told once, and the run goes on without it.

    Files that a resume depends on are not guarded: without them the run is not whole.
    """
    broken = False

    def hear(event: Event) -> None:
        nonlocal broken
        if broken:
            return
        try:
            listener(event)
        except Exception as error:
            broken = True
            name = getattr(listener, "__name__", type(listener).__name__)
            warn(
                f"{name} failed at step {event.step} and is switched off; training goes on "
                f"({type(error).__name__}: {error})"
            )

    return hear
