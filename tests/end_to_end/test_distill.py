"""Distillation through the command line: a teacher asked once, and what cannot be meant."""

from __future__ import annotations

import dataclasses
import json
import shutil

import pytest
from safetensors.torch import load_file
from small_runs import QUICK, answers, read, read_lines, say, write_classes, write_csv, write_task

TEACHER = ("method=full", "model.architecture.hidden_size=32")


@pytest.fixture
def cold(place, monkeypatch):
    """A cache in which no teacher has answered yet."""
    monkeypatch.setenv("BERTFT_CACHE", str(place / "cold"))
    return place


def distil(run, teacher, *words):
    """Train a student of ``teacher`` on the files that it was trained on."""
    data = [f"data.{name}={teacher.parent / f'{name}.csv'}" for name in ("train", "validation")]
    return say(
        "train", *QUICK, "method=distill", "data=files", *data, f"method.distill.teacher={teacher}",
        f"hydra.run.dir={run}", *words,
    )  # fmt: skip


def forwards(run):
    return read(run / "manifest.json")["teacher"]["forwards"]


def test_from_the_bundled_sample_to_answers(cold):
    """Train a teacher, distil it into half its layers, evaluate, merge, predict."""
    rows = ("data.max_train_rows=120", "data.max_validation_rows=40", *QUICK[1:], "quiet=true")
    said = say("train", *rows, "model=tiny", "method=full", "hydra.run.dir=teacher")
    assert said.status == 0, said
    said = say(
        "train", *rows, "method=distill", "method.distill.teacher=teacher",
        "method.distill.student_layers=1", "hydra.run.dir=student",
    )  # fmt: skip
    assert said.status == 0, said
    student = cold / "student"
    told = read(student / "metrics.json")
    both = told["distillation"]
    teacher = read(cold / "teacher" / "metrics.json")
    assert both["metric"] == "accuracy" and both["teacher"]["value"] == teacher["best"]["value"]
    assert both["student"]["value"] == told["best"]["value"]
    assert both["student"]["parameters"] == told["parameters"]["total"]
    assert both["student"]["bytes"] < both["teacher"]["bytes"]
    assert both["teacher"]["rows_per_second"] > 0 and 0 <= both["agreement"] <= 1
    assert "agree on" in said.out and "student: accuracy" in said.out
    assert forwards(student)["rows"] == 160
    steps = [line for line in read_lines(student / "metrics.jsonl") if line["event"] == "step"]
    assert {"loss_hard", "loss_soft"} <= set(steps[-1]["measures"])

    shutil.rmtree(cold / "teacher")  # the student needs it no more
    assert say("eval", "run=student", "hydra.run.dir=scored").status == 0
    assert read(cold / "scored" / "metrics.json")["validation"] == told["validation"]
    assert say("merge", "run=student", "out=merged").status == 0
    assert read(cold / "merged" / "config.json")["num_hidden_layers"] == 1
    lines = '{"text": "the film was good"}\n{"text": "a bad plot"}\n'
    found = [
        answers(say("predict", f"run={each}", "precision=fp32", stdin=lines))
        for each in ("student", "merged")
    ]
    for one, other in zip(*found, strict=True):
        assert one["label"] == other["label"]
        assert one["score"] == pytest.approx(other["score"], abs=1e-5)


def test_a_second_epoch_and_a_second_student_ask_nothing(cold, trained):
    teacher = trained("classification", *TEACHER)
    said = distil(cold / "one", teacher)
    assert said.status == 0, said
    assert "the teacher's outputs for 64 training rows: 0.00 MB under" in said.out
    assert read(cold / "one" / "metrics.json")["train"]["steps"] == 16  # two epochs
    assert forwards(cold / "one") == {"rows": 64 + 24, "batches": 2}
    said = distil(cold / "two", teacher, "seed=1", "method.distill.temperature=4", "method=lora")
    assert said.status == 0 and "the teacher's outputs for" not in said.out, said
    assert forwards(cold / "two") == {"rows": 0, "batches": 0}
    assert read(cold / "two" / "metrics.json")["distillation"]["teacher"]["rows_per_second"] > 0
    said = say("train", f"resume={cold / 'two'}", "trainer.epochs=3")
    assert said.status == 0 and forwards(cold / "two") == {"rows": 0, "batches": 0}, said
    # Other rows, or another maximum length, are other questions.
    assert distil(cold / "three", teacher, "data.max_length=8").status == 0
    assert forwards(cold / "three")["rows"] == 64 + 24


@pytest.mark.parametrize(
    ("words", "rows"),
    [
        (["method.distill.cache=memory"], 64 + 24),
        (["method.distill.cache=off"], 2 * 64 + 24),
        (["method.distill.relation_weight=1"], 2 * 64 + 24),
    ],
)
def test_how_often_it_is_asked(cold, trained, words, rows):
    said = distil(cold / "run", trained("classification", *TEACHER), *words)
    assert said.status == 0, said
    assert forwards(cold / "run")["rows"] == rows
    kept = (
        list((cold / "cold" / "teacher").glob("*")) if (cold / "cold" / "teacher").exists() else []
    )
    assert len(kept) == (1 if "relation" in words[0] else 0)


def test_the_same_student_without_a_teacher(cold, trained):
    """Weight 0: cut alike, and nobody is asked."""
    teacher = trained("classification", *TEACHER)
    said = distil(
        cold / "run", teacher, "method.distill.weight=0", "method.distill.student_layers=1"
    )
    assert said.status == 0, said
    assert "teacher" not in read(cold / "run" / "manifest.json")
    assert "distillation" not in read(cold / "run" / "metrics.json")
    assert not (cold / "cold" / "teacher").exists()


def test_a_cut_student_begins_as_its_teachers_layers_and_head(place, trained):
    """The teacher's own low-rank updates are folded in."""
    teacher = trained("classification", "method=lora", "model.architecture.num_hidden_layers=3")
    said = distil(place / "run", teacher, "method.distill.student_layers=[0,2]")
    assert said.status == 0, said
    assert say("merge", f"run={teacher}", "out=merged").status == 0
    whole = load_file(place / "merged" / "model.safetensors")
    student = load_file(place / "run" / "base" / "model.safetensors")
    assert {"classifier.weight", "bert.pooler.dense.weight"} < set(student)
    for name, tensor in student.items():
        assert tensor.equal(whole[name.replace("layer.1.", "layer.2.")]), name
    layers = {name.split(".")[3] for name in student if ".layer." in name}
    assert layers == {"0", "1"} and read(place / "run" / "manifest.json")["base"]["kind"] == "run"


def test_rows_without_labels(cold, trained):
    teacher = trained("classification", *TEACHER)
    write_csv(cold / "more.csv", ["text"], [[f"the meal was good, song {n}"] for n in range(20)])
    said = distil(cold / "run", teacher, f"data.unlabelled={cold / 'more.csv'}", "trainer.epochs=1")
    assert said.status == 0, said
    assert forwards(cold / "run")["rows"] == 64 + 20 + 24
    told = read(cold / "run" / "manifest.json")["data"]["splits"]["unlabelled"]
    assert (told["rows"], told["labels"]) == (20, {})
    assert read(cold / "run" / "metrics.json")["train"]["steps"] == 11
    said = say("train", f"resume={cold / 'run'}", "trainer.epochs=2")
    assert said.status == 0 and read(cold / "run" / "metrics.json")["train"]["steps"] == 22, said


@pytest.mark.parametrize(
    "task",
    ["multi_label", "regression", "token_classification", "question_answering", "masked_lm"],
)
def test_every_task(place, trained, task):
    teacher = trained(task, "method=full")
    data = write_task(place, task)
    said = say(
        "train", *QUICK, *data, "method=prefix", f"method.distill.teacher={teacher}",
        "method.distill.hidden_weight=0.1", "method.distill.attention_weight=0.1",
        "hydra.run.dir=run",
    )  # fmt: skip
    assert said.status == 0, said
    told = read(place / "run" / "metrics.json")["distillation"]
    assert told["teacher"]["value"] == read(teacher / "metrics.json")["best"]["value"]
    assert -1 <= told["agreement"] <= 1 and f"agree on {told['agreement']:.1%}" in said.out
    lines = read_lines(place / "run" / "metrics.jsonl")
    names = next(line["measures"] for line in lines if line["event"] == "step")
    assert {"loss_hard", "loss_soft", "loss_hidden", "loss_attention"} <= set(names)


@pytest.fixture
def other_tokens(place):
    """A tokenizer of a few words."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "was", "good", "bad", "film"]
    (place / "tokens").mkdir()
    (place / "tokens" / "vocab.txt").write_text("\n".join(words) + "\n")
    (place / "tokens" / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
    return f"model.tokenizer={place / 'tokens'}"


def test_across_tokenizers_whole_sequences_alone_can_be_learnt(cold, trained, other_tokens):
    teacher = trained("classification", *TEACHER)
    for cache in ("disk", "off"):
        said = distil(cold / cache, teacher, other_tokens, f"method.distill.cache={cache}")
        assert said.status == 0, said
    told = [read(cold / name / "metrics.json") for name in ("disk", "off")]
    best = read(teacher / "metrics.json")["best"]["value"]
    assert [each["distillation"]["teacher"]["value"] for each in told] == [best, best]
    losses = [each["train"]["loss"] for each in told]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    said = distil(cold / "no", teacher, other_tokens, "method.distill.hidden_weight=1")
    assert said.refused and "10 tokens" in said.err and "30,522 tokens" in said.err, said


def test_a_teacher_with_the_classes_in_another_order_is_matched_by_name(cold, trained):
    teacher = trained("classification", *TEACHER)
    best = read(teacher / "metrics.json")["best"]["value"]
    for name, words in (("whole", ()), ("cut", ("method.distill.student_layers=1",))):
        said = distil(cold / name, teacher, "data.labels=[pos,neg]", "trainer.epochs=1", *words)
        assert said.status == 0, said
        assert "another order (neg, pos): its outputs are reordered" in " ".join(said.out.split())
        told = read(cold / name / "metrics.json")
        assert told["distillation"]["teacher"]["value"] == best


def test_the_outputs_of_a_teacher_without_names_are_named(cold, trained):
    run = trained("classification", *TEACHER)
    assert say("merge", f"run={run}", "out=merged").status == 0
    for name in ("train.csv", "validation.csv"):
        shutil.copy(run.parent / name, cold / name)
    config = read(cold / "merged" / "config.json")
    config["id2label"] = {str(number): f"LABEL_{number}" for number in range(2)}
    (cold / "merged" / "config.json").write_text(json.dumps({**config, "label2id": None}))
    teacher, best = cold / "merged", read(run / "metrics.json")["best"]["value"]

    said = distil(cold / "no", teacher)
    assert said.refused and "LABEL_0, LABEL_1, the student's neg, pos" in said.err, said
    assert "data.labels=[...]" in said.err
    said = distil(cold / "yes", teacher, "data.labels=[neg,pos]", "trainer.epochs=1")
    assert said.status == 0, said
    assert read(cold / "yes" / "metrics.json")["distillation"]["teacher"]["value"] == best

    # Without names an output is the class of its number, however a file writes that.
    for place in cold.glob("*.csv"):
        text = place.read_text(encoding="utf-8").replace(",neg\n", ",0.0\n")
        place.write_text(text.replace(",pos\n", ",1.0\n"), encoding="utf-8")
    for place in cold.glob("*.csv"):
        assert ",neg" not in place.read_text(encoding="utf-8")
    said = distil(cold / "numbers", teacher, "trainer.epochs=1")
    assert said.status == 0, said
    assert read(cold / "numbers" / "metrics.json")["distillation"]["teacher"]["value"] == best


def test_other_labels_and_another_task(place, trained):
    teacher = trained("classification", *TEACHER)
    write_classes(place / "other.csv", 40, seed=1, names=("bad", "good"))
    said = distil(
        place / "no", teacher, f"data.train={place / 'other.csv'}", "data.validation=null"
    )
    assert said.refused and "neg, pos" in said.err and "bad, good" in said.err, said
    data = write_task(place, "classification")
    said = say(
        "train", *QUICK, *data, "method=distill",
        f"method.distill.teacher={trained('regression', 'method=full')}", "hydra.run.dir=no",
    )  # fmt: skip
    assert said.refused and "was trained for regression" in said.err, said
    assert list((place / "no").iterdir()) == []


def test_teachers_that_are_none(place, trained):
    teacher = trained("classification", *TEACHER)
    said = distil(place / "no", teacher.parent / "nothing")
    assert said.refused and "method.distill.teacher: there is no folder" in said.err, said
    said = distil(place / "no", teacher, "method.distill.student_layers=9")
    assert said.refused and "9 layers cannot be selected from the teacher's 2" in said.err, said
    prefix = trained("classification", "method=prefix")
    said = distil(place / "no", prefix, "method.distill.student_layers=1")
    assert said.refused and "has a prefix, which" in said.err, said
    assert distil(place / "yes", prefix).status == 0  # but it can teach


def test_a_run_goes_on_with_the_teacher_that_it_was_begun_with(place, copied, trained):
    teacher = copied("classification", *TEACHER)
    for name in ("train", "validation"):
        shutil.copy(trained("classification", *TEACHER).parent / f"{name}.csv", teacher.parent)
    assert distil(place / "run", teacher).status == 0
    other = trained("classification", "method=full")
    shutil.rmtree(teacher)
    shutil.copytree(other, teacher, symlinks=True)
    said = say("train", f"resume={place / 'run'}", "trainer.epochs=3")
    assert said.refused and "not the one that the run was started with" in said.err, said


def test_a_teacher_below_the_students_start_is_told(trained):

    from bertft.data.splits import load_splits
    from bertft.pipeline.distillation import warn_if_teacher_is_worse
    from bertft.pipeline.open_model import open_model
    from bertft.pipeline.teacher import TeacherContext
    from bertft.tasks.task import build_features

    saved = open_model(str(trained("classification", *TEACHER)))
    rows = load_splits(saved.data).validation
    adapted = saved.task_model
    [table] = build_features({"v": rows}, adapted.task, adapted.tokenizer, 64, None).values()
    hired = TeacherContext("t", "", None, None, 0, None, {"accuracy": 0.01}, None, 0, 0)
    told: list[str] = []
    warn_if_teacher_is_worse(hired, adapted, table, told.append)
    assert len(told) == 1 and "the teacher t has accuracy 0.0100 on validation" in told[0]
    warn_if_teacher_is_worse(
        dataclasses.replace(hired, metrics={"accuracy": 1.0}), adapted, table, told.append
    )
    assert len(told) == 1
