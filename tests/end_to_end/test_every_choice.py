"""Every choice of every setting is trained with, and what the run records is read by all commands.

A run of two steps for each case, in bf16 or fp32 as the case says: train, resume to a third step,
eval, merge, export, predict, verify, report. A choice that no case names fails the test, so that a
new one needs a case here. Precision is forced: every method and task runs in bf16 on every CPU.
"""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small_runs import answers, read, say, write_task

from bertft.config.choices import SCHEMES, SCORERS
from bertft.config.schema import leaves, tree
from bertft.config.tasks import task_names
from bertft.data.tagging.schemes import PREFIXES
from bertft.tasks.qa import scores

FEW = (
    "trainer.threads=1", "trainer.batch_size=8", "trainer.steps=2", "quiet=true", "seed=3",
    "report=false",
)  # fmt: skip
TAGS = {
    "io": ("person", "person", "O", "place"),
    "iob1": ("I-person", "I-person", "O", "I-place"),
    "bio": ("B-person", "I-person", "O", "B-place"),
    "bios": ("B-person", "I-person", "O", "S-place"),
    "bioes": ("B-person", "E-person", "O", "S-place"),
    "biluo": ("B-person", "L-person", "O", "U-place"),
    "bmes": ("B-person", "E-person", "O", "S-place"),
}
CASES: dict[str, tuple[str, ...]] = {
    "lora, texts": (
        "classification", "method=lora", "method.low_rank.start=zero_b", "trainer.precision=bf16",
        "trainer.layout=rows", "trainer.schedule=linear", "calibrate=temperature",
        "tune_threshold=true", "data.on_bad_row=error",
    ),
    "lora, pairs": (
        "pair", "method=lora", "method.low_rank.start=principal", "trainer.precision=fp32",
        "method.low_rank.rank_stabilised=true", "trainer.layout=rows", "trainer.schedule=cosine",
    ),
    "lora, tokens": (
        "masked_lm", "method=lora", "method.low_rank.magnitude=true", "trainer.precision=bf16",
        "trainer.layout=padded", "data.whole_words=true",
    ),
    "svd_lora": (
        "multi_label", "method=svd_lora", "method.low_rank.start=orthonormal",
        "trainer.precision=bf16", "trainer.layout=stream", "trainer.schedule=constant",
    ),
    "svd_lora, gaussian": (
        "regression", "method=svd_lora", "method.low_rank.start=gaussian",
        "trainer.precision=auto", "trainer.layout=auto", "data.on_bad_row=skip",
    ),
    "prefix": (
        "token_classification", "data.scheme=bio", "method=prefix",
        "method.prefix.kind=key_value", "method.prefix.mlp=true", "trainer.precision=bf16",
    ),
    "prompt": (
        "question_answering", "data.scorer=squad", "method=prefix", "method.prefix.kind=prompt",
        "trainer.precision=bf16", "trainer.layout=rows", "method.base.train=biases",
    ),
    "svd_lora_prefix": (
        "question_answering", "data.scorer=cmrc2018", "method=svd_lora_prefix",
        "trainer.precision=bf16", "trainer.layout=padded",
    ),
    "lora_prefix": (
        "token_classification", "data.scheme=iob1", "method=lora_prefix",
        "method.prefix.shift_positions=true", "trainer.precision=bf16",
    ),
    "full": (
        "classification", "method=full", "method.base.train=everything", "pretrained",
        "trainer.precision=bf16", "trainer.gradient_checkpointing=true",
    ),
    "last_k": (
        "regression", "method=last_k", "method.base.train=last_k", "trainer.precision=bf16",
        "trainer.layout=rows",
    ),
    "bitfit": (
        "token_classification", "data.scheme=io", "method=bitfit", "method.base.train=biases",
        "trainer.precision=bf16", "trainer.layout=rows",
    ),
    "head": (
        "token_classification", "data.scheme=bioes", "method=head", "method.base.train=nothing",
        "trainer.precision=bf16",
    ),
    "head, hub": (
        "hub", "method=head", "data.source=hub", "trainer.precision=fp32", "trainer.layout=padded",
    ),
    "distill, disk": (
        "classification", "method=distill", "method.distill.cache=disk",
        "trainer.precision=bf16",
    ),
    "distill, memory": (
        "classification", "method=distill", "method.distill.cache=memory",
        "trainer.precision=fp32", "trainer.layout=rows",
    ),
    "distill, off": (
        "classification", "method=distill", "method.distill.cache=off",
        "method.distill.hidden_weight=0.5", "method.distill.layer_map=last",
        "trainer.precision=bf16",
    ),
    "schemes": (
        "token_classification", "data.scheme=bmes", "method=full", "trainer.precision=fp32",
        "trainer.layout=rows",
    ),
    "bios": (
        "token_classification", "data.scheme=bios", "method=head", "trainer.precision=bf16",
    ),
    "biluo": (
        "token_classification", "data.scheme=biluo", "method=head", "trainer.precision=bf16",
    ),
    "auto": (
        "token_classification", "data.scheme=auto", "data.source=sample", "method=lora",
        "trainer.precision=bf16",
    ),
}  # fmt: skip
# Said by the task and the data of a case rather than in its words.
SAID = {
    "data.task": {*task_names()},
    "data.source": {"files"},
    "method.low_rank.kind": {"lora", "svd_lora"},
    "model.weights": {"random", "pretrained"},
}
CUDA = {("trainer.precision", "fp16")}


def given(path: str) -> set[str]:
    words = [word for case in CASES.values() for word in case]
    return {word.partition("=")[2] for word in words if word.startswith(f"{path}=")}


def test_every_choice_has_a_case():
    for leaf in leaves(tree("train")):
        for choice in leaf.choices or ():
            told = given(leaf.path) | SAID.get(leaf.path, set())
            assert choice in told or (leaf.path, choice) in CUDA, (
                f"{leaf.path}={choice} is in no case: add it to one"
            )
    tasks = {"classification" if case[0] in ("pair", "hub") else case[0] for case in CASES.values()}
    assert tasks == SAID["data.task"]
    assert set(TAGS) == {"io", *PREFIXES} == set(SCHEMES)
    assert set(scores.SCORERS) == set(SCORERS)


@pytest.fixture(scope="session")
def teacher(trained):
    return trained("classification", "method=full", "model.architecture.hidden_size=32")


def data_of(place: Path, task: str, words: tuple[str, ...]) -> list[str]:
    """The words that name rows of ``task``, and so of what ``words`` says of them."""
    if task == "token_classification" and "data.scheme=auto" not in words:
        scheme = next(w.partition("=")[2] for w in words if w.startswith("data.scheme="))
        for name in ("train", "validation"):
            sentence = zip(("Anna", "Miller", "likes", "Oslo"), TAGS[scheme], strict=True)
            lines = "".join(f"{word} {tag}\n" for word, tag in sentence)
            (place / f"{name}.conll").write_text(f"{lines}\n" * 16, encoding="utf-8")
        return [
            "data=files", f"data.task={task}", "data.train=train.conll",
            "data.validation=validation.conll",
        ]  # fmt: skip
    if task == "masked_lm":
        lines = (f"{n} the film was good , the book dull" for n in range(24))
        (place / "notes.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        return ["data=text", "data.train=notes.txt"]
    if task == "hub":
        (place / "hub").mkdir()
        rows = {"text": [f"{word} film" for word in ("good", "bad")] * 8, "label": ["p", "n"] * 8}
        for name in ("train", "validation"):
            pq.write_table(pa.table(rows), place / "hub" / f"{name}-00000-of-00001.parquet")
        return [
            "data.name=hub", "data.sample=null", "data.hub=hub", "data.train=train",
            "data.validation=validation", "data.text=text", "data.label=label",
        ]  # fmt: skip
    short = ["data.max_length=72", "data.stride=16"] if task == "question_answering" else []
    return [*write_task(place, task), *short]


@pytest.mark.parametrize("case", CASES)
def test_what_a_run_records_is_read_by_every_command(case, place, trained, teacher, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(place / "datasets"))
    task, *words = CASES[case]
    data = data_of(place, task, tuple(words))
    model = "model=tiny"
    if "pretrained" in words:
        words.remove("pretrained")
        said = say("merge", f"run={trained('classification', 'method=lora')}", "out=base")
        assert said.status == 0, said
        model = "model.path=base"
    if "method=distill" in words:
        words.append(f"method.distill.teacher={teacher}")
    run = place / "run"

    def done(*line, stdin=""):
        said = say(*line, stdin=stdin)
        assert said.status == 0, (line, said)
        return said

    done("train", model, *FEW, *data, *words, f"hydra.run.dir={run}")
    done("train", f"resume={run}", "trainer.steps=3")
    done("eval", f"run={run}", "hydra.run.dir=scores")
    metrics = read(run / "metrics.json")
    assert read(place / "scores/metrics.json")["validation"] == metrics["validation"], (
        "eval of a run computes as its training did"
    )
    done("verify", f"run={run}")
    done("report", f"run={run}")
    assert (run / "report.html").is_file()
    prefix = read_method(run).get("prefix")
    done("merge", f"run={run}", "out=merged", *(["prefix=beside"] if prefix else []))
    text = {"text": "a good film", "one": "a good film", "two": "a bad one"}
    text |= {"question": "who came?", "context": "Anna came at noon."}
    stdin = json.dumps(text) + "\n"
    columns = ["text=[one,two]"] if task == "pair" else []
    of_run = answers(done("predict", f"run={run}", "precision=fp32", *columns, stdin=stdin))
    merged = answers(done("predict", "run=merged", *columns, stdin=stdin))
    assert rounded(merged) == rounded(of_run)
    answers(done("predict", "run=merged", "precision=bf16", *columns, stdin=stdin))
    if read_method(run).get("low_rank") and not prefix:
        said = say("export", f"run={run}", "out=adapter")
        assert said.status == 0, said
        named = ("adapter=adapter", f"precision={'bf16' if 'lora' in case else 'fp32'}")
        answers(done("predict", *named, stdin=stdin))


def read_method(run: Path) -> dict:
    import yaml

    return yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))["method"]


def rounded(value):
    if isinstance(value, dict):
        return {name: rounded(each) for name, each in value.items()}
    if isinstance(value, list):
        return [rounded(each) for each in value]
    return pytest.approx(value, abs=1e-4) if isinstance(value, float) else value
