"""Killed before and after the first checkpoint: each task with each method ends as if it was not.

The whole matrix is asked for with -m long. The normal run has combinations with something of their
own before the first step: a head that starts at the mean of the targets, a base that is another
run, a tokenizer of another family than the model.
"""

from __future__ import annotations

import signal

import pytest
from small_runs import crash, outcome, write_task

LOOP = (
    "train", "trainer.threads=1", "trainer.batch_size=8", "trainer.max_steps=4",
    "trainer.evaluate_every=2", "trainer.log_every=1", "trainer.precision=fp32", "quiet=true",
    "report=false", "resume=auto",
)  # fmt: skip
TASKS = (
    "classification", "multi_label", "regression", "token_classification", "question_answering",
    "masked_lm",
)  # fmt: skip
METHODS = {
    "head": ("method=head",),
    "last_k": ("method=last_k",),
    "bitfit": ("method=bitfit",),
    "full": ("method=full",),
    "lora": ("method=lora", "method.low_rank.dropout=0.2"),
    "svd_lora": ("method=svd_lora", "method.low_rank.interval=1"),
    "vera": ("method=vera", "method.rank=16"),
    "lora_ia3": ("method=lora", "method.low_rank.targets=all_linear", "method.ia3={}"),
    "prefix": ("method=prefix", "method.prefix.mlp=true"),
    "lora_prefix": ("method=lora_prefix",),
    "svd_lora_prefix": ("method=svd_lora_prefix", "method.low_rank.interval=1"),
    # Projections to the teacher's other width, and a teacher that runs in each step.
    "distill": ("method=distill", "method.distill.hidden_weight=0.5"),
    # Stored answers, and a student cut from the teacher.
    "cut": ("method=distill", "method.distill.student_layers=1"),
    "lora_of_teacher": ("method=lora", "method.distill.teacher={teacher}"),
    "on_a_run": ("method=lora", "model.path={teacher}"),
    "modernbert": (
        "method=full", "model.architecture.model_type=modernbert",
        "model.architecture.hidden_size=32", "model.architecture.num_attention_heads=2",
    ),
}  # fmt: skip
# Before and after the first checkpoint; test_random_kills.py has every write of one run.
POINTS = ("create .step-2", "create .step-4")
SHORT = {
    ("regression", "lora"): ("create .step-2",),
    ("regression", "vera"): ("create .step-2",),
    ("regression", "lora_ia3"): ("create .step-4",),
    ("regression", "on_a_run"): ("create .step-2",),
    ("classification", "modernbert"): ("create .step-2", "create .step-4"),
}


def data_of(folder, task):
    if task != "masked_lm":
        return write_task(folder, task)
    lines = (f"{n} the film was good , the book dull and unbelievably long" for n in range(40))
    (folder / "notes.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return ["data=text", f"data.train={folder / 'notes.txt'}"]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """``teacher(task)``: a run of full fine-tuning, made once."""
    made = {}

    def get(task):
        if task not in made:
            folder = tmp_path_factory.mktemp("teacher")
            words = [*LOOP, "model=tiny", *data_of(folder, task), "method=full"]
            words += [
                "trainer.max_steps=2",
                "model.architecture.hidden_size=32",
                f"hydra.run.dir={folder / 'run'}",
            ]
            (content,) = crash([(words, None)])
            assert content["status"] == 0, content
            made[task] = folder / "run"
        return made[task]

    return get


def words_of(folder, task, method, teacher):
    words = list(METHODS[method])
    if "{teacher}" in str(words) or "method=distill" in words:
        run = teacher(task)
        words = [word.format(teacher=run) for word in words]
        if "method=distill" in words:
            words.append(f"method.distill.teacher={run}")
    base = () if method == "on_a_run" else ("model=tiny",)
    return [*LOOP, *base, *data_of(folder, task), *words]


def ends_the_same(folder, words, points):
    """Kill a run before each of ``points``, start the same command again, compare."""
    (whole,) = crash([([*words, f"hydra.run.dir={folder / 'whole'}"], None)])
    assert whole["status"] == 0, whole
    jobs = []
    for number, point in enumerate(points):
        run = f"hydra.run.dir={folder / f'killed-{number}'}"
        turn = next(n for n, line in enumerate(whole["points"], 1) if line.startswith(point))
        jobs += [([*words, run], f"SIGKILL:{turn}"), ([*words, run], None)]
    content = crash(jobs)
    expected = outcome(folder / "whole")
    for number, point in enumerate(points):
        cut, again = content[2 * number : 2 * number + 2]
        assert (cut["status"], again["status"]) == (-signal.SIGKILL, 0), (point, cut, again)
        actual = outcome(folder / f"killed-{number}")
        unlike = [name for name in expected if actual.get(name) != expected[name]]
        assert actual == expected, f"killed before {point}: {unlike}"


@pytest.mark.parametrize(("task", "method"), list(SHORT))
def test_before_and_after_the_first_checkpoint(work_dir, teacher, task, method):
    ends_the_same(work_dir, words_of(work_dir, task, method, teacher), SHORT[task, method])


@pytest.mark.long
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("task", TASKS)
def test_each_task_with_each_method(work_dir, teacher, task, method):
    ends_the_same(work_dir, words_of(work_dir, task, method, teacher), POINTS)
