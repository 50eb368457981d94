"""Question answering from the command line: train, eval, merge, predict, scoring from elsewhere."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch
from small_runs import QUICK, answers, read, read_lines, say
from transformers import AutoModelForQuestionAnswering, AutoTokenizer

from bertft.samples import load_sample
from bertft.tasks.task import detect_task

OFFICIAL = (
    "exact", "f1", "HasAns_exact", "HasAns_f1", "NoAns_exact", "NoAns_f1", "best_exact",
    "best_exact_thresh", "best_f1", "best_f1_thresh",
)  # fmt: skip


@pytest.fixture(scope="session")
def run(trained):
    return trained("question_answering", "method=svd_lora", "trainer.learning_rate=3e-2")


@pytest.fixture(scope="session")
def merged(run):
    out = run.parent / "merged"
    said = say("merge", f"run={run}", f"out={out}")
    assert said.status == 0 and "max |Δlogit|" in said.out, said
    return out


def questions(count=24):
    """Rows of the sample's validation split, as objects."""
    content = load_sample("qa", "validation")
    rows = [dict(zip(content, row, strict=True)) for row in zip(*content.values(), strict=True)]
    return rows[:count]


def lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def nested(rows):
    """The rows in SQuAD's own form, a paragraph for each run of one context."""
    paragraphs = []
    for row in rows:
        if not paragraphs or paragraphs[-1]["context"] != row["context"]:
            paragraphs.append({"context": row["context"], "qas": []})
        texts = [{"text": row["answer"], "answer_start": row["answer_start"]}]
        paragraphs[-1]["qas"].append(
            {"id": row["id"], "question": row["question"], "answers": texts * bool(row["answer"])}
        )
    return {"version": "v2.0", "data": [{"title": "sample", "paragraphs": paragraphs}]}


def test_the_run_and_its_evaluation(run, merged, place):
    metrics = read(run / "metrics.json")
    assert set(metrics["validation"]) == {*OFFICIAL, "loss"}
    assert metrics["best"]["metric"] == "f1"
    assert metrics["best"]["value"] == metrics["validation"]["f1"]
    assert set(metrics["test"]) == set(metrics["validation"])
    manifest = read(run / "manifest.json")
    assert (manifest["task"], manifest["labels"], manifest["max_length"]) == (
        "question_answering", None, 384,
    )  # fmt: skip
    assert manifest["data"]["splits"]["train"]["labels"].keys() == {"answerable"}
    assert say("eval", f"run={run}", "hydra.run.dir=again").status == 0
    assert read(place / "again" / "metrics.json")["validation"] == metrics["validation"]
    words = ("data=sample_qa", "data.max_validation_rows=30", "hydra.run.dir=merged")
    assert say("eval", f"run={merged}", *words, "precision=fp32").status == 0
    again = read(place / "merged" / "metrics.json")["validation"]
    assert again == pytest.approx(metrics["validation"], abs=0.05)


def test_a_row_is_answered_alike_however_it_comes(run, merged, place):
    ask = ("predict", f"run={run}", "threshold=0.9999999")
    rows = questions()
    asked = [{name: row[name] for name in ("id", "question", "context")} for row in rows]
    found = answers(say(*ask, stdin=lines(asked)))
    assert [set(each) for each in found] == [{"id", "answer", "score", "start", "end"}] * len(rows)
    assert [each["id"] for each in found] == [row["id"] for row in rows]
    for row, each in zip(rows, found, strict=True):
        assert row["context"][each["start"] : each["end"]] == each["answer"]
        assert 0 < each["score"] <= 1
    assert len({each["answer"] for each in found}) > 1
    (place / "a.jsonl").write_text(lines(asked), encoding="utf-8")
    (place / "a.json").write_text(json.dumps(nested(rows)), encoding="utf-8")
    pa.parquet.write_table(pa.Table.from_pylist(rows), place / "a.parquet")
    for name in ("a.jsonl", "a.json", "a.parquet"):
        assert answers(say(*ask, f"input={name}")) == found, name
    bare = [{name: row[name] for name in ("question", "context")} for row in rows]
    for each in found:
        del each["id"]
    assert answers(say(*ask, stdin=lines(bare))) == found
    of_merged = answers(say("predict", f"run={merged}", ask[2], stdin=lines(bare)))
    assert [each["answer"] for each in of_merged] == [each["answer"] for each in found]


def test_the_threshold_decides(run):
    stdin = lines(questions())
    never = answers(say("predict", f"run={run}", "threshold=0.9999999", stdin=stdin))
    always = answers(say("predict", f"run={run}", "threshold=1e-9", stdin=stdin))
    assert all(each["answer"] for each in never)
    assert not any(each["answer"] for each in always)
    assert all(each["start"] == each["end"] == 0 for each in always)


def test_answers_scored_from_elsewhere_get_what_the_run_got(run, place):
    """Validation rows → predict → a JSON object → the metrics of eval itself."""
    rows = questions(60)
    (place / "dev.json").write_text(json.dumps(nested(rows)), encoding="utf-8")
    (place / "dev.jsonl").write_text(lines(rows), encoding="utf-8")
    found = answers(say("predict", f"run={run}", "input=dev.jsonl"))
    given = {each["id"]: each["answer"] for each in found}
    (place / "given.json").write_text(json.dumps(given), encoding="utf-8")
    words = ("data=squad_v2", "data.validation=dev.json")
    said = say("eval", "predictions=given.json", *words, "hydra.run.dir=scored")
    assert said.status == 0 and "60 rows" in said.out, said
    scored = read(place / "scored" / "metrics.json")["validation"]
    assert set(scored) == set(OFFICIAL[:6])
    said = say("eval", f"run={run}", *words, "data.max_length=384", "hydra.run.dir=own")
    assert said.status == 0, said
    own = read(place / "own" / "metrics.json")["validation"]
    assert {name: own[name] for name in scored} == scored


def test_scoring_takes_no_torch(place):
    rows = questions(6)
    (place / "dev.json").write_text(json.dumps(nested(rows)), encoding="utf-8")
    (place / "given.json").write_text(json.dumps({row["id"]: row["answer"] for row in rows}))
    code = (
        "import sys; from bertft.cli.app import main; status = main(sys.argv[1:]);"
        "assert not {'torch', 'transformers'} & set(sys.modules); sys.exit(status)"
    )
    words = ["eval", "predictions=given.json", "data=squad_v2", "data.validation=dev.json"]
    done = subprocess.run(
        [sys.executable, "-c", code, *words, "hydra.run.dir=out"], cwd=place,
        env={"PYTHONPATH": ":".join(sys.path)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    scored = read(place / "out" / "metrics.json")["validation"]
    assert set(scored.values()) == {100.0}


def test_plain_transformers_answers(run, merged, place):
    """The merged folder's raw logits give predict's answers, without bertft's own code."""
    config = read(merged / "config.json")
    assert config["architectures"] == ["BertForQuestionAnswering"]
    assert detect_task(config) == ("question_answering", None)
    model = AutoModelForQuestionAnswering.from_pretrained(merged).eval()
    tokenizer = AutoTokenizer.from_pretrained(merged)
    rows = questions(8)
    found = answers(say("predict", f"run={merged}", "threshold=0.9999999", stdin=lines(rows)))
    for row, answer in zip(rows, found, strict=True):
        inputs = tokenizer(
            row["question"], row["context"], return_tensors="pt", return_offsets_mapping=True
        )
        offsets = inputs.pop("offset_mapping")[0].numpy()
        inside = np.array([each == 1 for each in inputs.sequence_ids()])
        with torch.inference_mode():
            output = model(**inputs)
        start, end = output.start_logits[0].numpy(), output.end_logits[0].numpy()
        scores = start[:, None] + end[None, :]
        allowed = inside[:, None] & inside[None, :]
        length = np.arange(len(end))[None, :] - np.arange(len(start))[:, None]
        scores[~allowed | (length < 0) | (length >= 30)] = -np.inf
        first, last = np.unravel_index(scores.argmax(), scores.shape)
        assert answer["answer"] == row["context"][offsets[first, 0] : offsets[last, 1]]


def test_settings_that_answers_depend_on_are_kept_by_a_merge(run, merged):
    kept = read(merged / "bertft.json")
    assert kept["max_length"] == 384
    assert kept["answering"] == {
        "stride": 128, "unanswerable": True, "max_answer_length": 30, "no_answer_threshold": 0.5,
        "scorer": "squad",
    }  # fmt: skip
    card = (merged / "README.md").read_text(encoding="utf-8")
    assert "pipeline_tag: question-answering" in card
    code = card.partition("```python\n")[2].partition("```")[0]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=merged.parent, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_every_question_has_an_answer(place):
    """SQuAD 1.1: fewer metrics, no empty answers, and a question without one is a bad row."""
    rows = [row for row in questions(36) if row["answer"]]
    (place / "train.jsonl").write_text(lines(rows), encoding="utf-8")
    words = ("data=files", "data.task=question_answering", "data.train=train.jsonl")
    said = say(
        "train", *QUICK, *words, "data.unanswerable=false", "trainer.max_steps=2",
        "trainer.epochs=null", "hydra.run.dir=run",
    )  # fmt: skip
    assert said.status == 0, said
    assert set(read(place / "run" / "metrics.json")["validation"]) == {"exact", "f1", "loss"}
    splits = read(place / "run" / "manifest.json")["data"]
    assert splits["cut"] and splits["overlap"] == 0
    assert splits["splits"]["train"]["rows"] + splits["splits"]["validation"]["rows"] == len(rows)
    assert all(each["answer"] for each in answers(say("predict", "run=run", stdin=lines(rows))))
    refused = say("predict", "run=run", "threshold=0.3", stdin=lines(rows))
    assert refused.refused and "does not support a threshold" in refused.err
    (place / "train.jsonl").write_text(lines(questions(36)), encoding="utf-8")
    said = say("train", *QUICK, *words, "data.unanswerable=false")
    assert said.refused and "Set data.unanswerable=true" in said.err


LONG = {"question": "who " * 300, "context": "It was Ada. " * 100, "answer": "", "id": "long"}


def test_a_question_longer_than_the_window(run, place):
    rows = [*questions(6), LONG]
    (place / "train.jsonl").write_text(lines(rows), encoding="utf-8")
    words = ("data=files", "data.task=question_answering", "data.train=train.jsonl")
    words = (*words, "data.validation=train.jsonl", *QUICK)
    said = say("train", *words)
    assert said.refused, said
    assert "train.jsonl:7: the question is too long" in said.err
    said = say("train", *words, "data.on_bad_row=skip")
    assert said.refused and "1 of 7 rows cannot be used (1 × question longer" in said.err, said
    assert "train.jsonl:7: the question" in said.err and "data.max_skipped=0.15" in said.err
    said = say("train", *words, "data.on_bad_row=skip", "data.max_skipped=1", "hydra.run.dir=run")
    assert said.status == 0, said
    told = read(place / "run" / "manifest.json")["data"]["splits"]["train"]
    assert (told["rows"], told["skipped"]) == (6, {"question longer than the window": 1})
    words = ("predict", f"run={run}", "on_bad_row=skip")
    found = answers(say(*words, "input=train.jsonl"))
    assert len(found) == 7 and [each["line"] for each in found] == list(range(1, 8))
    assert found[6]["answer"] is None and "the question is too long" in found[6]["error"]
    (only,) = answers(say(*words, stdin=lines([LONG])))
    assert only["line"] == 1 and "the question is too long" in only["error"]
    found = say("predict", f"run={run}", "input=train.jsonl")
    assert found.status == 2 and "train.jsonl:7" in found.err and found.out == ""
    alone = say("predict", f"run={run}", stdin=lines([LONG]))
    assert alone.status == 2 and "the question is too long" in alone.err


BAD = {
    "an answer elsewhere": (
        {"answer": "Ada", "answer_start": 3},
        [
            "a.jsonl:2: question 'x': the answer 'Ada' is not at offset 3",
            "the closest occurrence is at 7",
        ],
    ),
    "an answer nowhere": ({"answer": "Bob", "answer_start": 7}, ["it does not occur"]),
    "no offset": (
        {"answer": "Ada", "context": "It was Ada, not Adam."},
        ["the answer 'Ada' occurs 2 times", "Add its offset as answer_start"],
    ),
    "an empty context": ({"context": " "}, ["a.jsonl:2: empty context"]),
    "an empty question": ({"question": ""}, ["a.jsonl:2: empty question"]),
    "a list": ({"question": ["who"]}, ["the question is a list, not a string"]),
    "no label": ({"answer": None}, ["a.jsonl:2: no label"]),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_rows_are_named(place, case):
    change, parts = BAD[case]
    row = {"id": "x", "question": "Who?", "context": "It was Ada.", "answer": ""} | change
    (place / "a.jsonl").write_text(lines([questions(1)[0], row, *questions(5)[1:]]))
    words = ("data=files", "data.task=question_answering", "data.train=a.jsonl", *QUICK)
    said = say("train", *words)
    assert said.refused, said
    for part in parts:
        assert part in said.err
    said = say(
        "train",
        *words,
        "data.on_bad_row=skip",
        "data.max_skipped=1",
        "trainer.max_steps=1",
        "trainer.epochs=null",
    )
    assert said.status == 0 and "1 × " in said.out, said


def test_predictions_that_do_not_fit(place):
    rows = questions(6)
    (place / "dev.json").write_text(json.dumps(nested(rows)), encoding="utf-8")
    words = ("data=squad_v2", "data.validation=dev.json", "hydra.run.dir=out")
    cases = {
        "[]": "expected a JSON object from question id to text",
        "{": "is not valid JSON",
        json.dumps({rows[0]["id"]: 3}): "the answer to validation-1 is 3",
        json.dumps({"x": "x"}): "has no answer to any of the 6 questions",
    }
    for content, part in cases.items():
        (place / "given.json").write_text(content)
        said = say("eval", "predictions=given.json", *words)
        assert said.refused and part in said.err, said
    assert [bool(row["answer"]) for row in rows].count(False) == 2 and not rows[0]["answer"]
    (place / "given.json").write_text(json.dumps({rows[0]["id"]: rows[0]["answer"]}))
    said = say("eval", "predictions=given.json", *words)
    assert said.status == 0 and "5 of 6 questions have no answer in it and score 0" in said.err
    scored = read(place / "out/metrics.json")["validation"]
    assert scored["exact"] == scored["f1"] == pytest.approx(100 / 6)
    # A missing prediction is not the prediction of no answer.
    assert (scored["NoAns_exact"], scored["HasAns_exact"]) == (50.0, 0.0)
    told = read(place / "out/rows.json")["validation"]
    assert (told["read"], told["used"], told["missing_predictions"]) == (6, 6, 5)
    (place / "dev.jsonl").write_text(lines([{**row, "id": "same"} for row in rows]))
    (place / "given.json").write_text('{"same": ""}')
    said = say("eval", "predictions=given.json", "data=squad_v2", "data.validation=dev.jsonl")
    assert said.refused and "the id same occurs 6 times" in said.err
    said = say("eval", "predictions=given.json", "run=r", "data=sst2")
    assert said.refused and "cannot be combined with predictions" in said.err
    assert "are not supported by data.task=classification" in said.err


def test_the_answers_are_written_line_by_line(run, place):
    (place / "a.jsonl").write_text(lines(questions(5)), encoding="utf-8")
    assert say("predict", f"run={run}", "input=a.jsonl", "output=b.jsonl").status == 0
    assert len(read_lines(place / "b.jsonl")) == 5
