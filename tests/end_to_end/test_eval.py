"""``bertft eval``: the training's own numbers again, and those of other rows and other folders."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from small_runs import read, read_lines, run_bertft, write_classes, write_csv, write_task

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
    result = run_bertft("eval", *words, "hydra.run.dir=scored")
    assert result.status == 0, result
    assert result.out.endswith("scored/metrics.json\n") and result.err == "", result
    actual = read(Path("scored/metrics.json"))
    shutil.rmtree("scored")
    assert list(actual) == [split]
    return actual[split]


@pytest.mark.parametrize("method", METHODS)
def test_eval_gives_the_training_s_numbers_to_the_last_digit(trained, method):
    run = trained("classification", f"method={method}")
    content = read(run / "metrics.json")
    assert scores(f"run={run}") == content["validation"]
    assert scores(f"run={run}", "split=test", split="test") == content["test"]
    assert content["best"]["value"] == content["validation"]["accuracy"]


@pytest.mark.parametrize("task", ["pair", "multi_label", "regression"])
@pytest.mark.parametrize("method", ["lora", "svd_lora_prefix"])
def test_so_it_does_for_every_task(trained, task, method):
    run = trained(task, f"method={method}")
    content = read(run / "metrics.json")
    assert scores(f"run={run}") == content["validation"]
    assert scores(f"run={run}", "split=test", split="test") == content["test"]


def test_the_last_checkpoint_and_one_by_its_step(trained):
    run = trained("classification", "method=lora")
    best, last = read(run / "metrics.json")["best"]["step"], 16
    lines = read_lines(run / "metrics.jsonl")
    content = {line["step"]: line["metrics"] for line in lines if line["event"] == "evaluated"}
    assert scores(f"run={run}", "checkpoint=last") == content[last]
    assert scores(f"run={run}", f"checkpoint={best}") == content[best]
    result = run_bertft("eval", f"run={run}", "checkpoint=9")
    assert result.refused and "there is no checkpoint of step 9" in result.err


def test_a_validation_split_that_was_cut_off_is_cut_off_again(work_dir):
    write_classes(work_dir / "all.csv", 60, seed=3)
    words = ("data=files", "data.train=all.csv", "model=tiny", "trainer.max_steps=4")
    assert run_bertft("train", *words, "hydra.run.dir=run").status == 0
    content = read(work_dir / "run" / "metrics.json")
    assert scores("run=run") == content["validation"]
    result = run_bertft("eval", "run=run", "split=train", "hydra.run.dir=on_train")
    assert result.status == 0 and "train, 54 rows" in result.out


def test_other_rows_are_read_as_the_run_read_its_own(trained, work_dir):
    run = trained("classification", "method=lora")
    write_classes(work_dir / "new.csv", 30, seed=99)
    first = scores(f"run={run}", "data.validation=new.csv")
    assert set(first) == set(read(run / "metrics.json")["validation"])
    assert first != read(run / "metrics.json")["validation"]
    write_csv(work_dir / "turned.csv", ("label", "text"), [("pos", "good"), ("neg", "bad")])
    assert scores(f"run={run}", "data.validation=turned.csv")["loss"] > 0


def test_classes_are_the_model_s_in_its_order(trained, work_dir):
    run = trained("classification", "method=lora")
    write_csv(work_dir / "numbers.csv", ("text", "label"), [("good film", 1), ("bad film", 0)])
    write_csv(
        work_dir / "names.csv", ("text", "label"), [("good film", "pos"), ("bad film", "neg")]
    )
    result = run_bertft("eval", f"run={run}", "data.validation=numbers.csv")
    assert result.refused and "the class of each number is unknown" in result.err
    by_name = scores(f"run={run}", "data.validation=names.csv")
    words = (f"run={run}", "data.validation=numbers.csv")
    assert scores(*words, "data.labels=[neg,pos]") == by_name
    assert scores(*words, "data.labels=[pos,neg]")["loss"] != by_name["loss"]
    assert scores(*words, "data.labels={1: pos, 0: neg}") == by_name
    write_csv(work_dir / "one.csv", ("text", "label"), [("good film", "pos")])
    assert scores(f"run={run}", "data.validation=one.csv")["loss"] > 0


def test_a_merged_folder_is_scored_like_the_run(trained, work_dir):
    run = trained("classification", "method=lora")
    assert run_bertft("merge", f"run={run}", "out=merged").status == 0
    files = ("data=files", f"data.validation={run.parent / 'validation.csv'}")
    merged, scored = scores("run=merged", *files), scores(f"run={run}", "precision=fp32")
    assert merged["accuracy"] == scored["accuracy"]
    assert merged["loss"] == pytest.approx(scored["loss"], abs=1e-5)
    result = run_bertft("eval", "run=merged")
    assert result.refused and "records no data" in result.err and "data=files" in result.err


@pytest.mark.parametrize("task", ["multi_label", "regression", "pair"])
def test_a_merged_folder_reports_its_task(trained, work_dir, task):
    run = trained(task, "method=lora")
    assert run_bertft("merge", f"run={run}", "out=merged").status == 0
    words = ["data=files", f"data.validation={run.parent / 'validation.csv'}"]
    if task == "pair":
        words.append("data.text=[one,two]")
    else:
        result = run_bertft("eval", "run=merged", *words)
        assert result.refused and f"Set data.task={task}" in result.err
        words.append(f"data.task={task}")
    run_scores = scores(f"run={run}", "precision=fp32")
    # After so few steps all scores are about one: a correlation of them shows every rounding.
    assert scores("run=merged", *words) == pytest.approx(run_scores, abs=1e-4)


def test_a_run_knows_its_files_from_anywhere(work_dir, monkeypatch):
    write_classes(work_dir / "a.csv", 40, seed=1)
    write_classes(work_dir / "b.csv", 20, seed=2)
    data = ("data=files", "data.train=a.csv", "data.validation=b.csv")
    assert (
        run_bertft("train", *data, "model=tiny", "trainer.max_steps=2", "hydra.run.dir=run").status
        == 0
    )
    (work_dir / "elsewhere").mkdir()
    monkeypatch.chdir(work_dir / "elsewhere")
    write_classes(Path("b.csv"), 20, seed=77)  # another file of that name
    assert scores("run=../run") == read(work_dir / "run" / "metrics.json")["validation"]


def test_recorded_rows_that_changed_are_refused(work_dir):
    write_classes(work_dir / "a.csv", 40, seed=1)
    write_classes(work_dir / "b.csv", 20, seed=2)
    data = ("data=files", "data.train=a.csv", "data.validation=b.csv")
    assert (
        run_bertft("train", *data, "model=tiny", "trainer.max_steps=2", "hydra.run.dir=run").status
        == 0
    )
    same = run_bertft("eval", "run=run", "hydra.run.dir=same", "data.max_length=20")
    assert same.status == 0 and f"validation ({work_dir / 'b.csv'}): 20 rows read" in same.out
    write_classes(work_dir / "b.csv", 20, seed=3)
    content = "the validation rows are not those that the run was trained with"
    for words in ((), ("data.max_length=20",), ("split=train",), ("data.train=a.csv",)):
        result = run_bertft("eval", "run=run", "hydra.run.dir=scored", *words)
        assert result.status == 2 and not (work_dir / "scored" / "metrics.json").exists(), result
        assert content in result.err.replace("\n", " "), result
        assert f"data.validation={work_dir / 'b.csv'} to bertft eval" in result.err, result
    named = run_bertft(
        "eval", "run=run", "hydra.run.dir=scored", f"data.validation={work_dir / 'b.csv'}"
    )
    assert named.status == 0, "the user's word decides"
    for words in (("report", "run=run"), ("train", "resume=run", "trainer.max_steps=3")):
        assert run_bertft(*words).refused, words


def test_a_sample_run_keeps_its_rows_where_another_setting_changes(work_dir):
    words = ("data=sample", "data.max_train_rows=40", "data.max_validation_rows=20")
    assert (
        run_bertft("train", *words, "model=tiny", "trainer.max_steps=1", "hydra.run.dir=run").status
        == 0
    )
    result = run_bertft("eval", "run=run", "hydra.run.dir=scored", "data.max_length=20")
    assert result.status == 0 and "sample sentiment/validation" in result.out, result


def test_left_out_rows_are_reported(work_dir):
    write_classes(work_dir / "a.csv", 40, seed=1)
    rows = [("good film", "pos"), ("", "neg"), ("odd", "what"), ("bad film", "neg")]
    write_csv(work_dir / "b.csv", ("text", "label"), rows)
    data = (
        "data=files",
        "data.train=a.csv",
        "data.validation=b.csv",
        "data.on_bad_row=skip",
        "data.max_skipped=1",
    )
    assert (
        run_bertft("train", *data, "model=tiny", "trainer.max_steps=2", "hydra.run.dir=run").status
        == 0
    )
    result = run_bertft("eval", "run=run", "hydra.run.dir=scored")
    content = (
        f"validation ({work_dir / 'b.csv'}): 4 rows read = 2 used + 2 skipped (1 × empty text, "
    )
    assert content + "1 × unknown label)\n" in result.out
    assert read(work_dir / "scored" / "rows.json")["validation"] == {
        "source": str(work_dir / "b.csv"), "read": 4, "used": 2, "unused": {}, "dropped": {},
        "skipped": {"empty text": 1, "unknown label": 1}, "blank_lines": 0,
        "other_lines": {"header": 1},
    }  # fmt: skip
    result = run_bertft("eval", "run=run", "data.max_skipped=0.4", "hydra.run.dir=again")
    assert result.refused and "2 of 4 rows cannot be used (1 × empty text, 1 × unkn" in result.err
    assert "more than data.max_skipped=0.4" in result.err and "b.csv:3: empty text" in result.err
    assert "data.max_skipped=0.5" in result.err and not (work_dir / "again/metrics.json").exists()
    assert read(work_dir / "scored" / "metrics.json") == {
        "validation": read(work_dir / "run" / "metrics.json")["validation"]
    }


@pytest.mark.parametrize(
    ("words", "fragments"),
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
def test_what_cannot_be_scored(trained, work_dir, words, fragments):
    write_csv(work_dir / "new.csv", ("text", "label"), [("good", "what")])
    write_csv(work_dir / "bare.csv", ("text",), [("good",)])
    (work_dir / "empty.csv").write_text("")
    result = run_bertft("eval", f"run={trained('classification', 'method=lora')}", *words)
    assert result.refused, result
    assert all(fragment in result.err for fragment in fragments), result.err
    assert not list(work_dir.glob("outputs/*/*"))


def test_a_split_that_the_run_has_not(work_dir):
    write_classes(work_dir / "a.csv", 40, seed=1)
    data = ("data=files", "data.train=a.csv")
    assert (
        run_bertft("train", *data, "model=tiny", "trainer.max_steps=2", "hydra.run.dir=run").status
        == 0
    )
    result = run_bertft("eval", "run=run", "split=test")
    assert result.refused and "there is no test split" in result.err


def test_what_is_no_run(trained, work_dir):
    run = trained("classification", "method=lora")
    result = run_bertft("eval", f"run={run.parent / 'rum'}")
    assert (
        result.refused
        and "there is no folder" in result.err
        and "Did you mean 'run'?" in result.err
    )
    result = run_bertft("eval", f"run={run.parent}")
    assert result.refused and f"Runs in it: {run}" in result.err
    result = run_bertft("eval", f"run={run / 'checkpoints' / 'best'}")
    assert result.refused and f"Did you mean {run}?" in result.err
    result = run_bertft("eval", f"run={run / 'config.yaml'}")
    assert (
        result.refused and "is not a folder" in result.err and f"Did you mean {run}?" in result.err
    )


def test_eval_never_writes_into_a_run(copied):
    run = copied("classification", "method=lora")
    before = (run / "metrics.json").read_bytes()
    result = run_bertft("eval", f"run={run}", f"hydra.run.dir={run}")
    assert result.refused and "contains a finished run" in result.err
    assert (run / "metrics.json").read_bytes() == before


def test_a_head_without_weights_answers_nothing(copied, work_dir):
    from safetensors.torch import load_file, save_file

    run = copied("classification", "method=lora")
    assert run_bertft("merge", f"run={run}", "out=merged").status == 0
    file = work_dir / "merged" / "model.safetensors"
    remaining = {
        name: tensor for name, tensor in load_file(file).items() if "classifier" not in name
    }
    save_file(remaining, file, metadata={"format": "pt"})
    result = run_bertft("predict", "run=merged", stdin='{"text": "good"}\n')
    assert result.refused and "there are no weights for classifier.bias" in result.err


def test_eval_shows_what_the_report_of_training_shows(trained, work_dir):
    run = trained("classification")
    result = run_bertft("eval", f"run={run}", "hydra.run.dir=scored")
    assert result.status == 0, result
    for title in ("validation, 24 rows", "95% interval", "Confusion matrix", "Scores per class"):
        assert title in result.out, result.out
    page = (work_dir / "scored" / "report.html").read_text(encoding="utf-8")
    for section in ('id="results"', 'id="predictions"', 'id="data"'):
        assert section in page
    assert "24 rows" in page and 'id="training"' not in page and "default-src 'none'" in page
    assert (work_dir / "scored" / "plots" / "confusion.png").stat().st_size > 1_000
    assert f"report: {work_dir / 'scored' / 'report.html'}\n" in result.out.replace(
        "report: scored", f"report: {work_dir / 'scored'}"
    )


def test_eval_without_a_report(trained, work_dir):
    result = run_bertft(
        "eval", f"run={trained('classification')}", "hydra.run.dir=scored", "report=false"
    )
    assert result.status == 0 and "report:" not in result.out
    names = {path.name for path in (work_dir / "scored").iterdir()}
    assert names == {"metrics.json", "rows.json"}


@pytest.mark.parametrize("task", ["token_classification", "multi_label", "regression"])
def test_the_report_of_other_tasks(trained, work_dir, task):
    result = run_bertft("eval", f"run={trained(task)}", "hydra.run.dir=scored")
    assert result.status == 0 and result.err == "", result
    page = (work_dir / "scored" / "report.html").read_text(encoding="utf-8")
    assert "could not be rendered" not in page and 'id="predictions"' in page


def test_a_base_is_evaluated_before_training(work_dir, trained):
    data = write_task(work_dir, "classification")
    words = ("model=tiny", *data, "trainer.max_steps=0", "trainer.threads=1")
    result = run_bertft("train", *words, "hydra.run.dir=base")
    assert result.status == 0 and "without training, its scores are at chance level" in result.out
    content = read(work_dir / "base" / "metrics.json")
    assert content["best"]["step"] == 0 and content["train"]["steps"] == 0
    assert "findings" not in content and "raise the learning rate" not in result.out.lower()
    page = (work_dir / "base" / "report.html").read_text(encoding="utf-8")
    assert 'id="predictions"' in page and 'id="training"' not in page and "could not be" not in page
    assert scores("run=base") == content["validation"]
    again = run_bertft("train", "resume=base")
    assert again.status == 0 and "is finished after 0 steps" in again.out

    # A base with a head of its own keeps it, if the head has the classes of the data.
    assert run_bertft("merge", f"run={trained('classification')}", "out=merged").status == 0
    files = ("data=files", f"data.validation={work_dir / 'validation.csv'}")
    merged = scores("model.path=merged", *files)
    assert merged == scores("run=merged", *files)
    wrong = run_bertft("eval", "model.path=merged", "run=merged", *files)
    assert wrong.refused
