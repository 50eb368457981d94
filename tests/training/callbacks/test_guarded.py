from __future__ import annotations

import pytest

from bertft.training.callbacks import suppress_errors
from bertft.training.events import Finished


def test_the_first_error_is_reported_and_the_callback_is_removed():
    steps, content = [], []

    def drawing(event):
        steps.append(event.step)
        if event.step == 2:
            raise OSError("no terminal")

    hear = suppress_errors(drawing, "the display", content.append)
    for step in (1, 2, 3):
        hear(Finished(step, "done"))
    assert steps == [1, 2]
    assert content == [
        "the display failed at step 2 and is disabled; training continues (OSError: no terminal)"
    ]


def test_a_signal_still_ends_the_run():
    def interrupted(event):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        suppress_errors(interrupted, "the display", print)(Finished(1, "done"))
