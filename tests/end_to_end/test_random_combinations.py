"""Architecture × method × task × layout × precision × kill point, drawn at random.

Of each combination: a run that is killed and resumed ends as one that was not, bit for bit; eval
gives the metrics of its best checkpoint; merge, export, predict, verify and report succeed. Twelve
combinations in the normal run, 150 with ``-m long``. A combination is a function of its number.
"""

from __future__ import annotations

import json
import random
import signal

import pytest
from small_runs import answers, crash, outcome, read, run_bertft, write_task

ARCHITECTURES = {
    "bert": (),
    "roberta": ("model.architecture.model_type=roberta",),
    "xlm-roberta": ("model.architecture.model_type=xlm-roberta",),
    "electra": ("model.architecture.model_type=electra", "+model.architecture.embedding_size=32"),
    "distilbert": (
        "model.architecture.model_type=distilbert",
        "++model.architecture.hidden_dim=128",
    ),
    "modernbert": ("model.architecture.model_type=modernbert",),
    "deberta-v2": ("model.architecture.model_type=deberta-v2",),
}
METHODS = {
    "head": (),
    "last_k": ("method.base.last_k=1",),
    "bitfit": (),
    "full": (),
    "lora": ("method.low_rank.dropout=0.2",),
    "svd_lora": ("method.low_rank.interval=1", "method.low_rank.dropout=0.2"),
    "prefix": ("method.prefix.length=3", "method.prefix.dropout=0.2"),
    "lora_prefix": ("method.prefix.length=3", "method.low_rank.start=zero_b"),
    "svd_lora_prefix": (
        "method.prefix.length=3",
        "method.low_rank.interval=1",
        "method.low_rank.start=gaussian",
    ),
    "distill": ("method.distill.cache=memory",),
    "ia3": (),
    "vera": ("method.rank=16", "method.low_rank.dropout=0.2"),
}
TASKS = (
    "classification", "multi_label", "regression", "pair", "token_classification",
    "question_answering", "masked_lm",
)  # fmt: skip
NORMAL = range(12)  # the numbers of the combinations in the normal run
SEED = 38  # with it, they and the cases of test_every_choice.py have each task in both precisions
LAYOUTS = ("unpadded", "packed", "padded")
PRECISIONS = ("bf16", "fp32")
# Two passes a step, six steps, an evaluation every other step: before the first checkpoint, between
# two, in the middle of a step; or before a write.
KILLS = ("forward:2", "forward:4", "forward:7", "forward:10", "SIGKILL:9", "SIGKILL:25")
LOOP = (
    "train", "model=tiny", "trainer.threads=1", "trainer.batch_size=8", "trainer.micro_batch=4",
    "trainer.max_steps=6", "trainer.evaluate_every=2", "trainer.log_every=1", "quiet=true",
    "report=false", "resume=auto",
)  # fmt: skip


def combination(number: int) -> tuple[str, ...]:
    """The ``number``-th: each dimension goes through shuffled rounds of all of its choices.

    The precision alternates from method to method and from round to round, so that a method's case
    in test_every_choice.py can have the other one.
    """
    chosen: list[str] = []
    for folder, choices in enumerate((list(ARCHITECTURES), list(METHODS), TASKS, LAYOUTS, KILLS)):
        drawn, position = divmod(number, len(choices))
        order = list(choices)
        random.Random(f"{SEED} {folder} {drawn}").shuffle(order)
        chosen.append(order[position])
    architecture, method, task, layout, kill = chosen
    turn = list(METHODS).index(method) + number // len(METHODS)
    if method == "bitfit" and architecture == "modernbert":  # refused: it has no biases
        architecture = "bert"
    if method == "distill":  # its teacher is a classifier of whole sequences
        task = "classification"
    return (architecture, method, task, layout, PRECISIONS[turn % len(PRECISIONS)], kill)


def data_of(folder, task: str) -> list[str]:
    if task == "masked_lm":
        lines = (f"{n} the film was good , the book dull and long" for n in range(40))
        (folder / "notes.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        return ["data=text", "data.train=notes.txt"]
    short = ["data.max_length=72", "data.stride=16"] if task == "question_answering" else []
    return [*write_task(folder, task), *short]


def check(number: int, work_folder, trained) -> None:
    architecture, method, task, layout, precision, kill = combination(number)
    words = [
        *LOOP, *ARCHITECTURES[architecture], f"method={method}", *METHODS[method],
        *data_of(work_folder, task), f"trainer.layout={layout}", f"trainer.precision={precision}",
    ]  # fmt: skip
    if method == "distill":
        words.append(f"method.distill.teacher={trained('classification', 'method=full')}")
    whole, killed, resumed = crash([
        ([*words, "hydra.run.dir=whole"], None),
        ([*words, "hydra.run.dir=run"], kill),
        ([*words, "hydra.run.dir=run"], None),
    ])  # fmt: skip
    assert whole["status"] == resumed["status"] == 0, (whole, resumed)
    assert killed["status"] == -signal.SIGKILL, killed
    assert outcome(work_folder / "run") == outcome(work_folder / "whole")

    def done(*line, stdin=""):
        result = run_bertft(*line, stdin=stdin)
        assert result.status == 0, (line, result)
        return result

    done("eval", "run=run", "hydra.run.dir=scores")
    assert (
        read(work_folder / "scores/metrics.json")["validation"]
        == (read(work_folder / "run/metrics.json")["validation"])
    )
    done("verify", "run=run")
    done("report", "run=run")
    prefix = "prefix" in method
    done("merge", "run=run", "out=merged", *(["prefix=separate"] if prefix else []))
    row = {"text": "a good film", "one": "a good film", "two": "a bad one"}
    row |= {"question": "who came?", "context": "Anna came at noon."}
    for folder in ("run", "merged"):
        pair = ["text=[one,two]"] if task == "pair" else []
        assert len(answers(done("predict", f"run={folder}", *pair, stdin=json.dumps(row)))) == 1
    if ("lora" in method or method in ("ia3", "vera")) and not prefix:
        done("export", "run=run", "out=adapter")


def identity(number: int) -> str:
    return f"{number} {' '.join(combination(number))}"


@pytest.mark.parametrize("number", NORMAL, ids=identity)
def test_a_combination(number, work_dir, trained):
    check(number, work_dir, trained)


@pytest.mark.long
@pytest.mark.parametrize("number", range(12, 150), ids=identity)
def test_more_combinations(number, work_dir, trained):
    check(number, work_dir, trained)


def test_twelve_have_each_choice():
    drawn = [combination(number) for number in NORMAL]
    for folder, choices in enumerate((ARCHITECTURES, METHODS, TASKS, LAYOUTS, PRECISIONS, KILLS)):
        assert {chosen[folder] for chosen in drawn} >= set(choices), folder
