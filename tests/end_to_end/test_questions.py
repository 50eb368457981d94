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
from small_runs import QUICK, answers, read, read_lines, run_bertft
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
    result = run_bertft("merge", f"run={run}", f"out={out}")
    assert result.status == 0 and "max |Δlogit|" in result.out, result
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


def test_the_run_and_its_evaluation(run, merged, work_dir):
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
    assert run_bertft("eval", f"run={run}", "hydra.run.dir=again").status == 0
    assert read(work_dir / "again" / "metrics.json")["validation"] == metrics["validation"]
    words = ("data=sample_qa", "data.max_validation_rows=30", "hydra.run.dir=merged")
    assert run_bertft("eval", f"run={merged}", *words, "precision=fp32").status == 0
    again = read(work_dir / "merged" / "metrics.json")["validation"]
    assert again == pytest.approx(metrics["validation"], abs=0.05)


def test_a_row_has_the_same_answer_however_it_is_read(run, merged, work_dir):
    ask = ("predict", f"run={run}", "threshold=0.9999999")
    rows = questions()
    requested = [{name: row[name] for name in ("id", "question", "context")} for row in rows]
    actual = answers(run_bertft(*ask, stdin=lines(requested)))
    assert [set(answer) for answer in actual] == [{"id", "answer", "score", "start", "end"}] * len(
        rows
    )
    assert [answer["id"] for answer in actual] == [row["id"] for row in rows]
    for row, answer in zip(rows, actual, strict=True):
        assert row["context"][answer["start"] : answer["end"]] == answer["answer"]
        assert 0 < answer["score"] <= 1
    assert len({answer["answer"] for answer in actual}) > 1
    (work_dir / "a.jsonl").write_text(lines(requested), encoding="utf-8")
    (work_dir / "a.json").write_text(json.dumps(nested(rows)), encoding="utf-8")
    pa.parquet.write_table(pa.Table.from_pylist(rows), work_dir / "a.parquet")
    for name in ("a.jsonl", "a.json", "a.parquet"):
        assert answers(run_bertft(*ask, f"input={name}")) == actual, name
    without_ids = [{name: row[name] for name in ("question", "context")} for row in rows]
    for answer in actual:
        del answer["id"]
    assert answers(run_bertft(*ask, stdin=lines(without_ids))) == actual
    of_merged = answers(run_bertft("predict", f"run={merged}", ask[2], stdin=lines(without_ids)))
    assert [answer["answer"] for answer in of_merged] == [answer["answer"] for answer in actual]


def test_the_threshold_decides(run):
    stdin = lines(questions())
    never = answers(run_bertft("predict", f"run={run}", "threshold=0.9999999", stdin=stdin))
    always = answers(run_bertft("predict", f"run={run}", "threshold=1e-9", stdin=stdin))
    assert all(answer["answer"] for answer in never)
    assert not any(answer["answer"] for answer in always)
    assert all(answer["start"] == answer["end"] == 0 for answer in always)


def test_answers_scored_from_elsewhere_get_what_the_run_got(run, work_dir):
    """Validation rows → predict → a JSON object → the metrics of eval itself."""
    rows = questions(60)
    (work_dir / "dev.json").write_text(json.dumps(nested(rows)), encoding="utf-8")
    (work_dir / "dev.jsonl").write_text(lines(rows), encoding="utf-8")
    actual = answers(run_bertft("predict", f"run={run}", "input=dev.jsonl"))
    given = {answer["id"]: answer["answer"] for answer in actual}
    (work_dir / "given.json").write_text(json.dumps(given), encoding="utf-8")
    words = ("data=squad_v2", "data.validation=dev.json")
    result = run_bertft("eval", "predictions=given.json", *words, "hydra.run.dir=scored")
    assert result.status == 0 and "60 rows" in result.out, result
    scored = read(work_dir / "scored" / "metrics.json")["validation"]
    assert set(scored) == set(OFFICIAL[:6])
    result = run_bertft("eval", f"run={run}", *words, "data.max_length=384", "hydra.run.dir=own")
    assert result.status == 0, result
    eval_metrics = read(work_dir / "own" / "metrics.json")["validation"]
    assert {name: eval_metrics[name] for name in scored} == scored


def test_scoring_takes_no_torch(work_dir):
    rows = questions(6)
    (work_dir / "dev.json").write_text(json.dumps(nested(rows)), encoding="utf-8")
    (work_dir / "given.json").write_text(json.dumps({row["id"]: row["answer"] for row in rows}))
    code = (
        "import sys; from bertft.cli.app import main; status = main(sys.argv[1:]);"
        "assert not {'torch', 'transformers'} & set(sys.modules); sys.exit(status)"
    )
    words = ["eval", "predictions=given.json", "data=squad_v2", "data.validation=dev.json"]
    done = subprocess.run(
        [sys.executable, "-c", code, *words, "hydra.run.dir=out"], cwd=work_dir,
        env={"PYTHONPATH": ":".join(sys.path)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    scored = read(work_dir / "out" / "metrics.json")["validation"]
    assert set(scored.values()) == {100.0}


def test_plain_transformers_answers(run, merged, work_dir):
    """The merged folder's raw logits give predict's answers, without bertft's own code."""
    config = read(merged / "config.json")
    assert config["architectures"] == ["BertForQuestionAnswering"]
    assert detect_task(config) == ("question_answering", None)
    model = AutoModelForQuestionAnswering.from_pretrained(merged).eval()
    tokenizer = AutoTokenizer.from_pretrained(merged)
    rows = questions(8)
    actual = answers(
        run_bertft("predict", f"run={merged}", "threshold=0.9999999", stdin=lines(rows))
    )
    for row, answer in zip(rows, actual, strict=True):
        inputs = tokenizer(
            row["question"], row["context"], return_tensors="pt", return_offsets_mapping=True
        )
        offsets = inputs.pop("offset_mapping")[0].numpy()
        inside = np.array([sequence_id == 1 for sequence_id in inputs.sequence_ids()])
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
    remaining = read(merged / "bertft.json")
    assert remaining["max_length"] == 384
    assert remaining["answering"] == {
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


def test_every_question_has_an_answer(work_dir):
    """SQuAD 1.1: fewer metrics, no empty answers, and a question without one is a bad row."""
    rows = [row for row in questions(36) if row["answer"]]
    (work_dir / "train.jsonl").write_text(lines(rows), encoding="utf-8")
    words = ("data=files", "data.task=question_answering", "data.train=train.jsonl")
    result = run_bertft(
        "train", *QUICK, *words, "data.unanswerable=false", "trainer.max_steps=2",
        "trainer.epochs=null", "hydra.run.dir=run",
    )  # fmt: skip
    assert result.status == 0, result
    assert set(read(work_dir / "run" / "metrics.json")["validation"]) == {"exact", "f1", "loss"}
    splits = read(work_dir / "run" / "manifest.json")["data"]
    assert splits["cut"] and splits["overlap"] == 0
    assert splits["splits"]["train"]["rows"] + splits["splits"]["validation"]["rows"] == len(rows)
    assert all(
        answer["answer"] for answer in answers(run_bertft("predict", "run=run", stdin=lines(rows)))
    )
    refused = run_bertft("predict", "run=run", "threshold=0.3", stdin=lines(rows))
    assert refused.refused and "does not support a threshold" in refused.err
    (work_dir / "train.jsonl").write_text(lines(questions(36)), encoding="utf-8")
    result = run_bertft("train", *QUICK, *words, "data.unanswerable=false")
    assert result.refused and "Set data.unanswerable=true" in result.err


LONG = {"question": "who " * 300, "context": "It was Ada. " * 100, "answer": "", "id": "long"}


def test_a_question_longer_than_the_window(run, work_dir):
    rows = [*questions(6), LONG]
    (work_dir / "train.jsonl").write_text(lines(rows), encoding="utf-8")
    words = ("data=files", "data.task=question_answering", "data.train=train.jsonl")
    words = (*words, "data.validation=train.jsonl", *QUICK)
    result = run_bertft("train", *words)
    assert result.refused, result
    assert "train.jsonl:7: the question is too long" in result.err
    assert "smaller data.stride" in result.err.replace("\n", " ")
    result = run_bertft("train", *words, "data.on_bad_row=skip")
    assert result.refused and "1 of 7 rows cannot be used (1 × question longer" in result.err, (
        result
    )
    assert "train.jsonl:7: the question" in result.err and "data.max_skipped=0.15" in result.err
    result = run_bertft(
        "train", *words, "data.on_bad_row=skip", "data.max_skipped=1", "hydra.run.dir=run"
    )
    assert result.status == 0, result
    content = read(work_dir / "run" / "manifest.json")["data"]["splits"]["train"]
    assert (content["rows"], content["skipped"]) == (6, {"question longer than the window": 1})
    words = ("predict", f"run={run}", "on_bad_row=skip")
    actual = answers(run_bertft(*words, "input=train.jsonl"))
    assert len(actual) == 7 and [answer["line"] for answer in actual] == list(range(1, 8))
    assert actual[6]["answer"] is None and "the question is too long" in actual[6]["error"]
    (only,) = answers(run_bertft(*words, stdin=lines([LONG])))
    assert only["line"] == 1 and "the question is too long" in only["error"]
    actual = run_bertft("predict", f"run={run}", "input=train.jsonl")
    assert actual.status == 2 and "train.jsonl:7" in actual.err and actual.out == ""
    alone = run_bertft("predict", f"run={run}", stdin=lines([LONG]))
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
def test_bad_rows_are_named(work_dir, case):
    change, fragments = BAD[case]
    row = {"id": "x", "question": "Who?", "context": "It was Ada.", "answer": ""} | change
    (work_dir / "a.jsonl").write_text(lines([questions(1)[0], row, *questions(5)[1:]]))
    words = ("data=files", "data.task=question_answering", "data.train=a.jsonl", *QUICK)
    result = run_bertft("train", *words)
    assert result.refused, result
    for fragment in fragments:
        assert fragment in result.err
    result = run_bertft(
        "train",
        *words,
        "data.on_bad_row=skip",
        "data.max_skipped=1",
        "trainer.max_steps=1",
        "trainer.epochs=null",
    )
    assert result.status == 0 and "1 × " in result.out, result


def test_predictions_that_do_not_fit(work_dir):
    rows = questions(6)
    (work_dir / "dev.json").write_text(json.dumps(nested(rows)), encoding="utf-8")
    words = ("data=squad_v2", "data.validation=dev.json", "hydra.run.dir=out")
    cases = {
        "[]": "expected a JSON object (question id: answer), got []",
        "{": "is not valid JSON",
        json.dumps({rows[0]["id"]: 3}): "the answer to validation-1 is 3",
        json.dumps({"x": "x"}): "has no answer to any of the 6 questions",
    }
    for content, expected_text in cases.items():
        (work_dir / "given.json").write_text(content)
        result = run_bertft("eval", "predictions=given.json", *words)
        assert result.refused and expected_text in result.err, result
    assert [bool(row["answer"]) for row in rows].count(False) == 2 and not rows[0]["answer"]
    (work_dir / "given.json").write_text(json.dumps({rows[0]["id"]: rows[0]["answer"]}))
    result = run_bertft("eval", "predictions=given.json", *words)
    assert result.status == 0 and "has no answer to 5 of 6 questions" in result.err
    scored = read(work_dir / "out/metrics.json")["validation"]
    assert scored["exact"] == scored["f1"] == pytest.approx(100 / 6)
    # A missing prediction is not the prediction of no answer.
    assert (scored["NoAns_exact"], scored["HasAns_exact"]) == (50.0, 0.0)
    recorded = read(work_dir / "out/rows.json")["validation"]
    assert (recorded["read"], recorded["used"], recorded["missing_predictions"]) == (6, 6, 5)
    (work_dir / "dev.jsonl").write_text(lines([{**row, "id": "same"} for row in rows]))
    (work_dir / "given.json").write_text('{"same": ""}')
    result = run_bertft(
        "eval", "predictions=given.json", "data=squad_v2", "data.validation=dev.jsonl"
    )
    assert result.status == 0, result
    assert "5 questions have the id of an earlier one" in result.err
    assert "5 questions with the id of an earlier question; the one answer" in result.err
    result = run_bertft("eval", "predictions=given.json", "run=r", "data=sst2")
    assert result.refused and "cannot be combined with predictions" in result.err
    assert "are not supported by data.task=classification" in result.err


def test_the_answers_are_written_line_by_line(run, work_dir):
    (work_dir / "a.jsonl").write_text(lines(questions(5)), encoding="utf-8")
    assert run_bertft("predict", f"run={run}", "input=a.jsonl", "output=b.jsonl").status == 0
    assert len(read_lines(work_dir / "b.jsonl")) == 5
