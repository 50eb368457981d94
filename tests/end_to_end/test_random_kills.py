"""SIGKILL before every write, at moments that nobody chose, between two passes: the same end.

Asked for with -m long; test_resume.py has the short form.
"""

from __future__ import annotations

import random
import signal

import pytest
from small_runs import crash, outcome, write_task

# Dropout in the encoder and in the adapters; four passes a step; an evaluation every fourth step.
LOOP = (
    "train", "model=tiny", "trainer.threads=1", "trainer.batch_size=8", "trainer.micro_batch=2",
    "trainer.max_steps=24", "trainer.evaluate_every=4", "trainer.log_every=3", "quiet=true",
    "resume=auto",
)  # fmt: skip
METHODS = {
    "lora": ("method=lora", "method.low_rank.dropout=0.2"),
    "svd_lora": ("method=svd_lora", "method.low_rank.interval=1", "method.low_rank.dropout=0.2"),
    "prefix": ("method=prefix", "method.prefix.mlp=true", "method.prefix.dropout=0.2"),
    "full": ("method=full",),
    # Projections to the teacher's other width, a teacher that runs at each step.
    "distill": ("method=distill", "method.distill.hidden_weight=0.5"),
    # Masks that are drawn anew each epoch: 24 steps are six epochs of these rows.
    "masked_lm": ("method=lora", "method.low_rank.dropout=0.2", "data.whole_words=true"),
}
# Before pass 3 of step 7 (the budget of svd_lora is on its way), and just after an evaluation.
CHOSEN = ("forward:27", "forward:51", "forward:33")


def words_of(folder, method, trained):
    """The command that is killed."""
    words = [*LOOP, *METHODS[method]]
    if method == "distill":
        teacher = trained("classification", "method=full", "model.architecture.hidden_size=32")
        words.append(f"method.distill.teacher={teacher}")
    if method != "masked_lm":
        return [*words, *write_task(folder, "classification")]
    lines = (f"{n} the film was good , the book dull and unbelievably long" for n in range(40))
    (folder / "notes.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return [*words, "data=text", "data.train=notes.txt"]


def killed_runs(folder, words, faults, twice=()):
    """``(ended by the kill, of)``: each fault in a run of its own that then ends as if not hit."""
    jobs = [([*words, "hydra.run.dir=whole"], None)]
    for number, fault in enumerate(faults):
        here = [*words, f"hydra.run.dir={number}"]
        jobs += [(here, fault), *((here, again) for again in twice), (here, None)]
    whole, *content = crash(jobs)
    assert whole["status"] == 0, whole
    expected, struck = outcome(folder / "whole"), 0
    jobs_per_fault = 2 + len(twice)
    for number, fault in enumerate(faults):
        *cut, last = content[number * jobs_per_fault : (number + 1) * jobs_per_fault]
        assert {killed_job["status"] for killed_job in cut} <= {-signal.SIGKILL, 0}, (fault, cut)
        struck += sum(killed_job["status"] == -signal.SIGKILL for killed_job in cut)
        assert last["status"] == 0, (fault, last)
        assert "damaged" not in last["output"], last["output"]
        assert outcome(folder / str(number)) == expected, fault
    return struck, len(faults) * (1 + len(twice))


def moments(seed, count, last=88):
    draw = random.Random(seed)
    # Of 96 passes; so long after one that an evaluation or a checkpoint may come between.
    return [f"moment:{draw.randint(1, last)}:{draw.uniform(0, 0.15):.4f}" for _ in range(count)]


@pytest.mark.long
@pytest.mark.parametrize("method", METHODS)
def test_many_moments(work_dir, method, trained, capsys):
    words = words_of(work_dir, method, trained)
    struck, tried = killed_runs(work_dir, words, [*CHOSEN, *moments(method, 10)])
    with capsys.disabled():
        print(f"\n{method}: {struck} of {tried} kills struck; all ended the same")
    assert struck >= 11


@pytest.mark.long
def test_before_every_write(work_dir, trained, capsys):
    """From the first file of the run to its last; it is resumed as after any crash."""
    words = [
        *words_of(work_dir, "lora", trained), "trainer.max_steps=8", "trainer.micro_batch=8",
        "report=false",
    ]  # fmt: skip
    (once,) = crash([([*words, "hydra.run.dir=once"], None)])
    faults = [f"SIGKILL:{number}" for number in range(1, len(once["points"]) + 1)]
    struck, tried = killed_runs(work_dir, words, faults)
    with capsys.disabled():
        print(f"\n{struck} of {tried} points struck; all ended the same")
    assert struck == tried > 60


@pytest.mark.long
def test_killed_and_killed_again(work_dir, trained):
    words = words_of(work_dir, "lora", trained)
    struck, _ = killed_runs(work_dir, words, moments(5, 4, last=60), twice=moments(6, 2, last=8))
    assert struck >= 6
