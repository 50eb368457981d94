"""Distillation through the command line: a teacher that runs once, and invalid settings."""

from __future__ import annotations

import dataclasses
import json
import shutil

import pytest
from safetensors.torch import load_file
from small_runs import (
    QUICK,
    answers,
    read,
    read_lines,
    run_bertft,
    write_classes,
    write_csv,
    write_task,
)

TEACHER = ("method=full", "model.architecture.hidden_size=32")


@pytest.fixture
def cold(work_dir, monkeypatch):
    """A cache in which no teacher has answered yet."""
    monkeypatch.setenv("BERTFT_CACHE", str(work_dir / "cold"))
    return work_dir


def distil(run, teacher, *words):
    """Train a student of ``teacher`` on the files that it was trained on."""
    data = [f"data.{name}={teacher.parent / f'{name}.csv'}" for name in ("train", "validation")]
    return run_bertft(
        "train", *QUICK, "method=distill", "data=files", *data, f"method.distill.teacher={teacher}",
        f"hydra.run.dir={run}", *words,
    )  # fmt: skip


def forwards(run):
    return read(run / "manifest.json")["teacher"]["forwards"]


def test_from_the_bundled_sample_to_answers(cold):
    """Train a teacher, distil it into half its layers, evaluate, merge, predict."""
    rows = ("data.max_train_rows=120", "data.max_validation_rows=40", *QUICK[1:], "quiet=true")
    result = run_bertft("train", *rows, "model=tiny", "method=full", "hydra.run.dir=teacher")
    assert result.status == 0, result
    result = run_bertft(
        "train", *rows, "method=distill", "method.distill.teacher=teacher",
        "method.distill.student_layers=1", "hydra.run.dir=student",
    )  # fmt: skip
    assert result.status == 0, result
    student = cold / "student"
    content = read(student / "metrics.json")
    both = content["distillation"]
    teacher = read(cold / "teacher" / "metrics.json")
    assert both["metric"] == "accuracy" and both["teacher"]["value"] == teacher["best"]["value"]
    assert both["student"]["value"] == content["best"]["value"]
    assert both["student"]["parameters"] == content["parameters"]["total"]
    assert both["student"]["bytes"] < both["teacher"]["bytes"]
    assert both["teacher"]["rows_per_second"] > 0 and 0 <= both["agreement"] <= 1
    assert "agree on" in result.out and "student: accuracy" in result.out
    assert forwards(student)["rows"] == 160
    steps = [line for line in read_lines(student / "metrics.jsonl") if line["event"] == "step"]
    assert {"loss_hard", "loss_soft"} <= set(steps[-1]["measures"])

    shutil.rmtree(cold / "teacher")  # the student needs it no more
    assert run_bertft("eval", "run=student", "hydra.run.dir=scored").status == 0
    assert read(cold / "scored" / "metrics.json")["validation"] == content["validation"]
    assert run_bertft("merge", "run=student", "out=merged").status == 0
    assert read(cold / "merged" / "config.json")["num_hidden_layers"] == 1
    lines = '{"text": "the film was good"}\n{"text": "a bad plot"}\n'
    actual = [
        answers(run_bertft("predict", f"run={folder}", "precision=fp32", stdin=lines))
        for folder in ("student", "merged")
    ]
    for one, other in zip(*actual, strict=True):
        assert one["label"] == other["label"]
        assert one["score"] == pytest.approx(other["score"], abs=1e-5)


def test_a_second_epoch_and_a_second_student_need_nothing(cold, trained):
    teacher = trained("classification", *TEACHER)
    result = distil(cold / "one", teacher)
    assert result.status == 0, result
    assert "the teacher's outputs for 64 training rows: 0.00 MB under" in result.out
    assert read(cold / "one" / "metrics.json")["train"]["steps"] == 16  # two epochs
    assert forwards(cold / "one") == {"rows": 64 + 24, "batches": 2}
    result = distil(cold / "two", teacher, "seed=1", "method.distill.temperature=4", "method=lora")
    assert result.status == 0 and "the teacher's outputs for" not in result.out, result
    assert forwards(cold / "two") == {"rows": 0, "batches": 0}
    assert read(cold / "two" / "metrics.json")["distillation"]["teacher"]["rows_per_second"] > 0
    result = run_bertft("train", f"resume={cold / 'two'}", "trainer.epochs=3")
    assert result.status == 0 and forwards(cold / "two") == {"rows": 0, "batches": 0}, result
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
def test_how_often_the_teacher_runs(cold, trained, words, rows):
    result = distil(cold / "run", trained("classification", *TEACHER), *words)
    assert result.status == 0, result
    assert forwards(cold / "run")["rows"] == rows
    remaining = (
        list((cold / "cold" / "teacher").glob("*")) if (cold / "cold" / "teacher").exists() else []
    )
    assert len(remaining) == (1 if "relation" in words[0] else 0)


def test_the_same_student_without_a_teacher(cold, trained):
    """Weight 0: cut alike, and no teacher is loaded."""
    teacher = trained("classification", *TEACHER)
    result = distil(
        cold / "run", teacher, "method.distill.weight=0", "method.distill.student_layers=1"
    )
    assert result.status == 0, result
    assert "teacher" not in read(cold / "run" / "manifest.json")
    assert "distillation" not in read(cold / "run" / "metrics.json")
    assert not (cold / "cold" / "teacher").exists()


def test_a_cut_student_begins_as_its_teachers_layers_and_head(work_dir, trained):
    """The teacher's own low-rank updates are folded in."""
    teacher = trained("classification", "method=lora", "model.architecture.num_hidden_layers=3")
    result = distil(work_dir / "run", teacher, "method.distill.student_layers=[0,2]")
    assert result.status == 0, result
    assert run_bertft("merge", f"run={teacher}", "out=merged").status == 0
    whole = load_file(work_dir / "merged" / "model.safetensors")
    student = load_file(work_dir / "run" / "base" / "model.safetensors")
    assert {"classifier.weight", "bert.pooler.dense.weight"} < set(student)
    for name, tensor in student.items():
        assert tensor.equal(whole[name.replace("layer.1.", "layer.2.")]), name
    layers = {name.split(".")[3] for name in student if ".layer." in name}
    assert (
        layers == {"0", "1"} and read(work_dir / "run" / "manifest.json")["base"]["kind"] == "run"
    )


def test_rows_without_labels(cold, trained):
    teacher = trained("classification", *TEACHER)
    write_csv(cold / "more.csv", ["text"], [[f"the meal was good, song {n}"] for n in range(20)])
    result = distil(
        cold / "run", teacher, f"data.unlabelled={cold / 'more.csv'}", "trainer.epochs=1"
    )
    assert result.status == 0, result
    assert forwards(cold / "run")["rows"] == 64 + 20 + 24
    content = read(cold / "run" / "manifest.json")["data"]["splits"]["unlabelled"]
    assert (content["rows"], content["labels"]) == (20, {})
    assert read(cold / "run" / "metrics.json")["train"]["steps"] == 11
    result = run_bertft("train", f"resume={cold / 'run'}", "trainer.epochs=2")
    assert result.status == 0 and read(cold / "run" / "metrics.json")["train"]["steps"] == 22, (
        result
    )


def test_augmented_copies(cold, trained):
    """Copies and their answers are computed once for all seeds, and have no hard loss."""
    teacher = trained("classification", *TEACHER)
    words = ("method.distill.augment=2", "trainer.epochs=1", "trainer.threads=1")
    result = distil(cold / "run", teacher, *words)
    assert result.status == 0, result
    assert "64 training rows and 128 augmented copies" in result.out
    assert "augmented: 128 copies of 64 training rows" in result.out
    assert forwards(cold / "run")["rows"] == 64 + 128 + 24
    assert read(cold / "run" / "manifest.json")["data"]["augmented"]["copies"] == 2
    assert read(cold / "run" / "metrics.json")["train"]["steps"] == 24
    result = distil(cold / "again", teacher, *words, "seed=1")
    assert result.status == 0 and forwards(cold / "again")["rows"] == 0, result
    # Without the cache, copies and answers are computed again.
    shutil.rmtree(cold / "cold")
    result = distil(cold / "cold_run", teacher, *words)
    losses = [read(cold / run / "metrics.json")["train"]["loss"] for run in ("run", "cold_run")]
    assert result.status == 0 and losses[0] == losses[1], result


def test_several_teachers(cold, trained):
    """Their logits are averaged; layers and inner states are those of the first."""
    teachers = [
        trained("classification", *TEACHER),
        trained("classification", "method=lora", "model.architecture.hidden_size=32"),
    ]
    setting = f"method.distill.teacher=[{teachers[0]},{teachers[1]}]"
    words = (setting, "method.distill.student_layers=1", "method.distill.hidden_weight=0.1",
             "method.distill.inner_fraction=0.4", "trainer.epochs=1")  # fmt: skip
    result = distil(cold / "run", teachers[0], *words)
    assert result.status == 0, result
    entry = read(cold / "run" / "manifest.json")["teacher"]
    assert [entry["path"], entry["others"][0]["path"]] == list(map(str, teachers))
    # Three of eight steps of 8 rows compare inner states, with those of the first teacher.
    assert entry["forwards"]["rows"] == 2 * (64 + 24) + 3 * 8
    content = read(cold / "run" / "metrics.json")["distillation"]["teacher"]
    assert content["paths"] == list(map(str, teachers))
    result = run_bertft("train", f"resume={cold / 'run'}", "trainer.epochs=2")
    assert result.status == 0, result
    assert read(cold / "run" / "metrics.json")["train"]["steps"] == 16
    assert run_bertft("merge", f"run={cold / 'run'}", "out=merged").status == 0
    card = (cold / "merged" / "README.md").read_text()
    names = " and ".join(f"`{teacher.name}`" for teacher in teachers)
    assert f"Distilled from {names} (the mean of their logits)." in card


def test_copies_that_have_no_targets(work_dir, trained, other_tokens):
    result = distil(work_dir / "no", trained("classification", *TEACHER), other_tokens,
                    "method.distill.augment=1")  # fmt: skip
    assert result.refused and "their tokens do not correspond" in result.err, result
    result = run_bertft(
        "train", *QUICK, *write_task(work_dir, "token_classification"), "method=distill",
        f"method.distill.teacher={trained('token_classification', 'method=full')}",
        "method.distill.augment=1", "hydra.run.dir=no",
    )  # fmt: skip
    assert result.refused and "token_classification does not support augmented" in result.err


@pytest.mark.parametrize(
    "task",
    ["multi_label", "regression", "token_classification", "question_answering", "masked_lm"],
)
def test_every_task(work_dir, trained, task):
    teacher = trained(task, "method=full")
    data = write_task(work_dir, task)
    result = run_bertft(
        "train", *QUICK, *data, "method=prefix", f"method.distill.teacher={teacher}",
        "method.distill.hidden_weight=0.1", "method.distill.attention_weight=0.1",
        "hydra.run.dir=run",
    )  # fmt: skip
    assert result.status == 0, result
    content = read(work_dir / "run" / "metrics.json")["distillation"]
    assert content["teacher"]["value"] == read(teacher / "metrics.json")["best"]["value"]
    assert -1 <= content["agreement"] <= 1 and f"agree on {content['agreement']:.1%}" in result.out
    lines = read_lines(work_dir / "run" / "metrics.jsonl")
    names = next(line["measures"] for line in lines if line["event"] == "step")
    assert {"loss_hard", "loss_soft", "loss_hidden", "loss_attention"} <= set(names)


@pytest.fixture
def other_tokens(work_dir):
    """A tokenizer of a few words."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "was", "good", "bad", "film"]
    (work_dir / "tokens").mkdir()
    (work_dir / "tokens" / "vocab.txt").write_text("\n".join(words) + "\n")
    (work_dir / "tokens" / "tokenizer_config.json").write_text(
        '{"tokenizer_class": "BertTokenizer"}'
    )
    return f"model.tokenizer={work_dir / 'tokens'}"


def test_across_tokenizers_whole_sequences_alone_can_be_learnt(cold, trained, other_tokens):
    teacher = trained("classification", *TEACHER)
    for cache in ("disk", "off"):
        result = distil(cold / cache, teacher, other_tokens, f"method.distill.cache={cache}")
        assert result.status == 0, result
    content = [read(cold / name / "metrics.json") for name in ("disk", "off")]
    best = read(teacher / "metrics.json")["best"]["value"]
    assert [result["distillation"]["teacher"]["value"] for result in content] == [best, best]
    losses = [result["train"]["loss"] for result in content]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    result = distil(cold / "no", teacher, other_tokens, "method.distill.hidden_weight=1")
    assert result.refused and "10 tokens" in result.err and "30,522 tokens" in result.err, result


def test_a_teacher_with_the_classes_in_another_order_is_matched_by_name(cold, trained):
    teacher = trained("classification", *TEACHER)
    best = read(teacher / "metrics.json")["best"]["value"]
    for name, words in (("whole", ()), ("cut", ("method.distill.student_layers=1",))):
        result = distil(cold / name, teacher, "data.labels=[pos,neg]", "trainer.epochs=1", *words)
        assert result.status == 0, result
        assert "another order (neg, pos): its outputs are reordered" in " ".join(result.out.split())
        content = read(cold / name / "metrics.json")
        assert content["distillation"]["teacher"]["value"] == best


@pytest.mark.parametrize("labels", ["[neg,pos]", "[pos,neg]"])
def test_a_teacher_with_a_threshold_is_scored_with_it(cold, trained, labels):
    skewed = ("tune_threshold=true", "loss.class_weights={neg: 1, pos: 20}")
    teacher = trained("classification", *TEACHER, *skewed)
    content = read(teacher / "metrics.json")
    tuned = content["calibration"]["tuned"]
    assert tuned["before"] < tuned["after"] == content["validation"]["accuracy"]
    words = (f"data.labels={labels}", "trainer.max_steps=1", "trainer.epochs=null")
    result = distil(cold / "student", teacher, *words)
    assert result.status == 0, result
    scored = read(cold / "student" / "metrics.json")["distillation"]["teacher"]["value"]
    assert scored == tuned["after"]


def test_the_outputs_of_a_teacher_without_names_are_named(cold, trained):
    run = trained("classification", *TEACHER)
    assert run_bertft("merge", f"run={run}", "out=merged").status == 0
    for name in ("train.csv", "validation.csv"):
        shutil.copy(run.parent / name, cold / name)
    config = read(cold / "merged" / "config.json")
    config["id2label"] = {str(number): f"LABEL_{number}" for number in range(2)}
    (cold / "merged" / "config.json").write_text(json.dumps({**config, "label2id": None}))
    teacher, best = cold / "merged", read(run / "metrics.json")["best"]["value"]

    result = distil(cold / "no", teacher)
    assert (
        result.refused
        and "(LABEL_0, LABEL_1) are not those of the student (neg, pos)" in result.err
    ), result
    assert "data.labels=[...]" in result.err
    result = distil(cold / "yes", teacher, "data.labels=[neg,pos]", "trainer.epochs=1")
    assert result.status == 0, result
    assert read(cold / "yes" / "metrics.json")["distillation"]["teacher"]["value"] == best

    # Without names an output is the class of its number, however a file writes that.
    for folder in cold.glob("*.csv"):
        text = folder.read_text(encoding="utf-8").replace(",neg\n", ",0.0\n")
        folder.write_text(text.replace(",pos\n", ",1.0\n"), encoding="utf-8")
    for folder in cold.glob("*.csv"):
        assert ",neg" not in folder.read_text(encoding="utf-8")
    result = distil(cold / "numbers", teacher, "trainer.epochs=1")
    assert result.status == 0, result
    assert read(cold / "numbers" / "metrics.json")["distillation"]["teacher"]["value"] == best


def test_other_labels_and_another_task(work_dir, trained):
    teacher = trained("classification", *TEACHER)
    write_classes(work_dir / "other.csv", 40, seed=1, names=("bad", "good"))
    result = distil(
        work_dir / "no", teacher, f"data.train={work_dir / 'other.csv'}", "data.validation=null"
    )
    assert result.refused and "neg, pos" in result.err and "bad, good" in result.err, result
    data = write_task(work_dir, "classification")
    result = run_bertft(
        "train", *QUICK, *data, "method=distill",
        f"method.distill.teacher={trained('regression', 'method=full')}", "hydra.run.dir=no",
    )  # fmt: skip
    assert result.refused and "was trained for regression" in result.err, result
    assert list((work_dir / "no").iterdir()) == []


def test_teachers_that_are_none(work_dir, trained):
    teacher = trained("classification", *TEACHER)
    result = distil(work_dir / "no", teacher.parent / "nothing")
    assert result.refused and "method.distill.teacher: there is no folder" in result.err, result
    result = distil(work_dir / "no", teacher, "method.distill.student_layers=9")
    assert result.refused and "9 layers cannot be selected from the teacher's 2" in result.err, (
        result
    )
    prefix = trained("classification", "method=prefix")
    result = distil(work_dir / "no", prefix, "method.distill.student_layers=1")
    assert result.refused and "has a prefix, which" in result.err, result
    assert distil(work_dir / "yes", prefix).status == 0  # but it can teach


def test_a_run_resumes_with_the_teacher_that_it_was_started_with(work_dir, copied, trained):
    teacher = copied("classification", *TEACHER)
    for name in ("train", "validation"):
        shutil.copy(trained("classification", *TEACHER).parent / f"{name}.csv", teacher.parent)
    assert distil(work_dir / "run", teacher).status == 0
    other = trained("classification", "method=full")
    shutil.rmtree(teacher)
    shutil.copytree(other, teacher, symlinks=True)
    result = run_bertft("train", f"resume={work_dir / 'run'}", "trainer.epochs=3")
    assert result.refused and "not the one that the run was started with" in result.err, result


def test_a_teacher_below_the_students_start_is_reported(trained):

    from bertft.data.splits import load_splits
    from bertft.pipeline.distillation import warn_if_teacher_is_worse
    from bertft.pipeline.open_model import open_model
    from bertft.pipeline.teacher import TeacherContext
    from bertft.tasks.feature_tables import build_features

    saved = open_model(str(trained("classification", *TEACHER)))
    rows = load_splits(saved.data).validation
    adapted = saved.task_model
    [table] = build_features({"v": rows}, adapted.task, adapted.tokenizer, 64, None).values()
    teacher_context = TeacherContext(
        ["t"], [""], None, None, 0, None, {"accuracy": 0.01}, None, 0, 0
    )
    content: list[str] = []
    warn_if_teacher_is_worse(teacher_context, adapted, table, content.append)
    assert len(content) == 1 and "the teacher t has accuracy 0.0100 on validation" in content[0]
    warn_if_teacher_is_worse(
        dataclasses.replace(teacher_context, metrics={"accuracy": 1.0}),
        adapted,
        table,
        content.append,
    )
    assert len(content) == 1
