from __future__ import annotations

import sys
import types

import pytest

from bertft.training.callbacks.notebook import NotebookView
from bertft.training.events import Evaluated, Finished, Started, StepCompleted, StepSkipped
from bertft.utils.notebook import is_notebook


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


class Display:
    """A notebook with one output; ``texts`` are its contents over time."""

    def __init__(self):
        self.texts = []

    def __call__(self, text):
        self.texts.append(text)
        return self.texts.append


def step(number):
    return StepCompleted(number, number / 10, 0.5, 0.0, {"head": 1e-3}, 1.0, 8, 80, 0.01)


def evaluated(number, value, best):
    metrics = {"loss": 0.4, "accuracy": value, "f1_micro": value, "matthews": 0.1, "PER/f1": 0.5}
    return Evaluated(number, number / 10, "validation", metrics, "accuracy", best, True, 0.1)


@pytest.fixture
def shown():
    display, clock = Display(), Clock()
    with NotebookView(display=display, clock=clock) as view:
        view(Started(0, 1000, 10, 80))
        for number in range(1, 1001):
            clock.now += 0.01
            view(step(number))
            if number in (500, 1000):
                view(evaluated(number, 0.75 if number == 500 else 0.5, number == 500))
        view(StepSkipped(1000, "loss <was> not finite", (1, 2), ("a:2", "a:3")))
        view(Finished(1000, "done"))
    return display.texts


def test_one_output_is_updated_twice_a_second(shown):
    assert 20 <= len(shown) <= 30, "10 s of training, and the events"
    assert 'value="0"' in shown[0] and 'value="1000" max="1000"' in shown[-1]


def test_the_time_left_and_the_status(shown):
    middle = next(text for text in shown if 'value="500"' in text)
    assert "500/1,000 steps, 0:05 left" in middle and "loss 0.5000" in middle
    assert "0:10 total" in shown[-1]


def test_evaluations_are_a_table_with_the_best_in_bold(shown):
    head = "<tr><th>step</th><th>epoch</th><th>accuracy</th><th>loss</th><th>matthews</th></tr>"
    assert head in shown[-1]
    bold = '<tr style="font-weight: bold"><td>500</td><td>50.00</td><td>0.7500</td>'
    assert shown[-1].count("<tr") == 3 and bold in shown[-1]


def test_notes_are_escaped(shown):
    assert "loss &lt;was&gt; not finite" in shown[-1] and "<was>" not in shown[-1]


def test_only_a_kernel_is_a_notebook(monkeypatch):
    assert not is_notebook()
    for name, expected in (("ZMQInteractiveShell", True), ("TerminalInteractiveShell", False)):
        shell = type(name, (), {})()
        module = types.SimpleNamespace(get_ipython=lambda shell=shell: shell)
        monkeypatch.setitem(sys.modules, "IPython", module)
        assert is_notebook() is expected


def test_a_display_that_fails_at_the_end_does_not_end_the_run():
    def replace(text):
        raise ConnectionError("the kernel is gone")

    with NotebookView(display=lambda text: replace):
        pass
