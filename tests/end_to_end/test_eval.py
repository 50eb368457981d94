"""``bertft eval``: the training's own numbers again, and those of other rows and other folders."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from small_runs import read, read_lines, say, write_classes, write_csv

METHODS = (
    "lora",
    "svd_lora",
    "vera",
    "prefix",
    "svd_lora_prefix",
    "ia3",
    "full",
    "bitfit",
    "last_k",
    "head",
)


def scores(*words, split="validation"):
    """The metrics that eval leaves in metrics.json."""
    said = say("eval", *words, "hydra.run.dir=scored")
    assert said.status == 0, said
    assert said.out.endswith("scored/metrics.json\n") and said.err == "", said
    found = read(Path("scored/metrics.json"))
    shutil.rmtree("scored")
    assert list(found) == [split]
    return found[split]


@pytest.mark.parametrize("method", METHODS)
def test_eval_gives_the_training_s_numbers_to_the_last_digit(trained, method):
    run = trained("classification", f"method={method}")
    told = read(run / "metrics.json")
    assert scores(f"run={run}") == told["validation"]
    assert scores(f"run={run}", "split=test", split="test") == told["test"]
    assert told["best"]["value"] == told["validation"]["accuracy"]


@pytest.mark.parametrize("task", ["pair", "multi_label", "regression"])
@pytest.mark.parametrize("method", ["lora", "svd_lora_prefix"])
def test_so_it_does_for_every_task(trained, task, method):
    run = trained(task, f"method={method}")
    told = read(run / "metrics.json")
    assert scores(f"run={run}") == told["validation"]
    assert scores(f"run={run}", "split=test", split="test") == told["test"]


def test_the_last_checkpoint_and_one_by_its_step(trained):
    run = trained("classification", "method=lora")
    best, last = read(run / "metrics.json")["best"]["step"], 16
    lines = read_lines(run / "metrics.jsonl")
    told = {line["step"]: line["metrics"] for line in lines if line["event"] == "evaluated"}
    assert scores(f"run={run}", "checkpoint=last") == told[last]
    assert scores(f"run={run}", f"checkpoint={best}") == told[best]
    said = say("eval", f"run={run}", "checkpoint=9")
    assert said.refused and "there is no checkpoint of step 9" in said.err


def test_a_validation_split_that_was_cut_off_is_cut_off_again(place):
    write_classes(place / "all.csv", 60, seed=3)
    words = ("data=files", "data.train=all.csv", "model=tiny", "trainer.max_steps=4")
    assert say("train", *words, "hydra.run.dir=run").status == 0
    told = read(place / "run" / "metrics.json")
    assert scores("run=run") == told["validation"]
    said = say("eval", "run=run", "split=train", "hydra.run.dir=on_train")
    assert said.status == 0 and "train, 54 rows" in said.out


def test_other_rows_are_read_as_the_run_read_its_own(trained, place):
    run = trained("classification", "method=lora")
    write_classes(place / "new.csv", 30, seed=99)
    first = scores(f"run={run}", "data.validation=new.csv")
    assert set(first) == set(read(run / "metrics.json")["validation"])
    assert first != read(run / "metrics.json")["validation"]
    write_csv(place / "turned.csv", ("label", "text"), [("pos", "good"), ("neg", "bad")])
    assert scores(f"run={run}", "data.validation=turned.csv")["loss"] > 0


def test_classes_are_the_model_s_in_its_order(trained, place):
    run = trained("classification", "method=lora")
    write_csv(place / "numbers.csv", ("text", "label"), [("good film", 1), ("bad film", 0)])
    write_csv(place / "names.csv", ("text", "label"), [("good film", "pos"), ("bad film", "neg")])
    said = say("eval", f"run={run}", "data.validation=numbers.csv")
    assert said.refused and "the class of each number is unknown" in said.err
    by_name = scores(f"run={run}", "data.validation=names.csv")
    words = (f"run={run}", "data.validation=numbers.csv")
    assert scores(*words, "data.labels=[neg,pos]") == by_name
    assert scores(*words, "data.labels=[pos,neg]")["loss"] != by_name["loss"]
    assert scores(*words, "data.labels={1: pos, 0: neg}") == by_name
    write_csv(place / "one.csv", ("text", "label"), [("good film", "pos")])
    assert scores(f"run={run}", "data.validation=one.csv")["loss"] > 0


def test_a_merged_folder_is_scored_like_the_run(trained, place):
    run = trained("classification", "method=lora")
    assert say("merge", f"run={run}", "out=merged").status == 0
    files = ("data=files", f"data.validation={run.parent / 'validation.csv'}")
    merged, own = scores("run=merged", *files), read(run / "metrics.json")["validation"]
    assert merged["accuracy"] == own["accuracy"]
    assert merged["loss"] == pytest.approx(own["loss"], abs=1e-5)
    said = say("eval", "run=merged")
    assert said.refused and "has no rows" in said.err and "data=files" in said.err


@pytest.mark.parametrize("task", ["multi_label", "regression", "pair"])
def test_a_merged_folder_tells_its_task(trained, place, task):
    run = trained(task, "method=lora")
    assert say("merge", f"run={run}", "out=merged").status == 0
    words = ["data=files", f"data.validation={run.parent / 'validation.csv'}"]
    if task == "pair":
        words.append("data.text=[one,two]")
    else:
        said = say("eval", "run=merged", *words)
        assert said.refused and f"Set data.task={task}" in said.err
        words.append(f"data.task={task}")
    own = scores(f"run={run}", "precision=fp32")
    # After so few steps all scores are about one: a correlation of them shows every rounding.
    assert scores("run=merged", *words) == pytest.approx(own, abs=1e-4)


def test_a_run_knows_its_files_from_anywhere(place, monkeypatch):
    write_classes(place / "a.csv", 40, seed=1)
    write_classes(place / "b.csv", 20, seed=2)
    data = ("data=files", "data.train=a.csv", "data.validation=b.csv")
    assert say("train", *data, "model=tiny", "trainer.max_steps=2", "hydra.run.dir=run").status == 0
    (place / "elsewhere").mkdir()
    monkeypatch.chdir(place / "elsewhere")
    write_classes(Path("b.csv"), 20, seed=77)  # another file of that name
    assert scores("run=../run") == read(place / "run" / "metrics.json")["validation"]


def test_recorded_rows_that_changed_are_refused(place):
    write_classes(place / "a.csv", 40, seed=1)
    write_classes(place / "b.csv", 20, seed=2)
    data = ("data=files", "data.train=a.csv", "data.validation=b.csv")
    assert say("train", *data, "model=tiny", "trainer.max_steps=2", "hydra.run.dir=run").status == 0
    same = say("eval", "run=run", "hydra.run.dir=same", "data.max_length=20")
    assert same.status == 0 and f"validation ({place / 'b.csv'}): 20 rows read" in same.out
    write_classes(place / "b.csv", 20, seed=3)
    told = "the validation rows are not those that the run was trained with"
    for words in ((), ("data.max_length=20",), ("split=train",), ("data.train=a.csv",)):
        said = say("eval", "run=run", "hydra.run.dir=scored", *words)
        assert said.status == 2 and not (place / "scored" / "metrics.json").exists(), said
        assert told in said.err.replace("\n", " "), said
        assert f"data.validation={place / 'b.csv'} to bertft eval" in said.err, said
    named = say("eval", "run=run", "hydra.run.dir=scored", f"data.validation={place / 'b.csv'}")
    assert named.status == 0, "the user's word decides"
    for words in (("report", "run=run"), ("train", "resume=run", "trainer.max_steps=3")):
        assert say(*words).refused, words


def test_a_sample_run_keeps_its_rows_where_another_setting_changes(place):
    words = ("data=sample", "data.max_train_rows=40", "data.max_validation_rows=20")
    assert (
        say("train", *words, "model=tiny", "trainer.max_steps=1", "hydra.run.dir=run").status == 0
    )
    said = say("eval", "run=run", "hydra.run.dir=scored", "data.max_length=20")
    assert said.status == 0 and "sample sentiment/validation" in said.out, said


def test_left_out_rows_are_told(place):
    write_classes(place / "a.csv", 40, seed=1)
    rows = [("good film", "pos"), ("", "neg"), ("odd", "what"), ("bad film", "neg")]
    write_csv(place / "b.csv", ("text", "label"), rows)
    data = (
        "data=files",
        "data.train=a.csv",
        "data.validation=b.csv",
        "data.on_bad_row=skip",
        "data.max_skipped=1",
    )
    assert say("train", *data, "model=tiny", "trainer.max_steps=2", "hydra.run.dir=run").status == 0
    said = say("eval", "run=run", "hydra.run.dir=scored")
    told = f"validation ({place / 'b.csv'}): 4 rows read = 2 used + 2 skipped (1 × empty text, "
    assert told + "1 × unknown label)\n" in said.out
    assert read(place / "scored" / "rows.json")["validation"] == {
        "source": str(place / "b.csv"), "read": 4, "used": 2, "unused": {}, "dropped": {},
        "skipped": {"empty text": 1, "unknown label": 1}, "blank_lines": 0,
        "other_lines": {"header": 1},
    }  # fmt: skip
    said = say("eval", "run=run", "data.max_skipped=0.4", "hydra.run.dir=again")
    assert said.refused and "2 of 4 rows cannot be used (1 × empty text, 1 × unkn" in said.err
    assert "more than data.max_skipped=0.4" in said.err and "b.csv:3: empty text" in said.err
    assert "data.max_skipped=0.5" in said.err and not (place / "again/metrics.json").exists()
    assert read(place / "scored" / "metrics.json") == {
        "validation": read(place / "run" / "metrics.json")["validation"]
    }


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["split=test", "data.test=new.csv"], ["is not one of", "'what'", "new.csv:2"]),
        (["split=test", "data.test=bare.csv"], ["column 'label' not found"]),
        (["data.validation=no.csv"], ["data.validation=no.csv", "Did you mean 'new.csv'"]),
        (["data.validation=new.csv", "data.task=regression"], ["was trained for classification"]),
        (["data=sample_pair", "data.task=multi_label"], ["was trained for classification"]),
        (["data.validation=empty.csv"], ["empty.csv"]),
        (["precision=fp16", "device=cpu"], ["fp16 is not supported on the CPU"]),
        (["checkpoint=first"], ["best, last or a step number"]),
    ],
)
def test_what_cannot_be_scored(trained, place, words, parts):
    write_csv(place / "new.csv", ("text", "label"), [("good", "what")])
    write_csv(place / "bare.csv", ("text",), [("good",)])
    (place / "empty.csv").write_text("")
    said = say("eval", f"run={trained('classification', 'method=lora')}", *words)
    assert said.refused, said
    assert all(part in said.err for part in parts), said.err
    assert not list(place.glob("outputs/*/*"))


def test_a_split_that_the_run_has_not(place):
    write_classes(place / "a.csv", 40, seed=1)
    data = ("data=files", "data.train=a.csv")
    assert say("train", *data, "model=tiny", "trainer.max_steps=2", "hydra.run.dir=run").status == 0
    said = say("eval", "run=run", "split=test")
    assert said.refused and "there is no test split" in said.err


def test_what_is_no_run(trained, place):
    run = trained("classification", "method=lora")
    said = say("eval", f"run={run.parent / 'rum'}")
    assert said.refused and "there is no folder" in said.err and "Did you mean 'run'?" in said.err
    said = say("eval", f"run={run.parent}")
    assert said.refused and f"Runs in it: {run}" in said.err
    said = say("eval", f"run={run / 'checkpoints' / 'best'}")
    assert said.refused and f"Did you mean {run}?" in said.err
    said = say("eval", f"run={run / 'config.yaml'}")
    assert said.refused and "is not a folder" in said.err and f"Did you mean {run}?" in said.err


def test_eval_never_writes_into_a_run(copied):
    run = copied("classification", "method=lora")
    before = (run / "metrics.json").read_bytes()
    said = say("eval", f"run={run}", f"hydra.run.dir={run}")
    assert said.refused and "contains a finished run" in said.err
    assert (run / "metrics.json").read_bytes() == before


def test_a_head_without_weights_answers_nothing(copied, place):
    from safetensors.torch import load_file, save_file

    run = copied("classification", "method=lora")
    assert say("merge", f"run={run}", "out=merged").status == 0
    file = place / "merged" / "model.safetensors"
    kept = {name: each for name, each in load_file(file).items() if "classifier" not in name}
    save_file(kept, file, metadata={"format": "pt"})
    said = say("predict", "run=merged", stdin='{"text": "good"}\n')
    assert said.refused and "there are no weights for classifier.bias" in said.err
