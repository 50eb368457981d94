"""``bertft predict``: every way in, one JSON object a line out, in the rows' order."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import threading

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from small_runs import answers, read_lines, run_bertft, write_csv

TEXTS = [
    "the film was good, song 1", "bad", "the meal was awful, awful, awful and dull " * 4,
    "a great, great plot", "the room", "horrid 好 é",
]  # fmt: skip


@pytest.fixture
def run(trained):
    return trained("classification", "method=lora")


def lines(texts, key="text"):
    return "".join(json.dumps({key: text, "id": n}) + "\n" for n, text in enumerate(texts))


def stderr_without_speed(result):
    """What a command printed to stderr, without its speed."""
    return re.sub(r" \([0-9,]+ rows/s\)", "", result.err)


def scored(actual):
    return [answer["scores"]["pos"] for answer in actual]


def test_a_row_has_the_same_answer_however_it_is_read(run, work_dir):
    from_stdin = answers(run_bertft("predict", f"run={run}", stdin=lines(TEXTS)))
    assert [set(answer) for answer in from_stdin] == [{"label", "score", "scores"}] * len(TEXTS)
    for answer in from_stdin:
        assert answer["label"] == max(answer["scores"], key=answer["scores"].get)
        assert answer["score"] == answer["scores"][answer["label"]]
        assert sum(answer["scores"].values()) == pytest.approx(1)

    (work_dir / "a.jsonl").write_text(lines(TEXTS), encoding="utf-8")
    write_csv(work_dir / "a.csv", ("id", "text"), list(enumerate(TEXTS)))
    (work_dir / "a.tsv").write_text("text\n" + "".join(f"{text}\n" for text in TEXTS), "utf-8")
    (work_dir / "a.txt").write_text("".join(f"{text}\n" for text in TEXTS), encoding="utf-8")
    pa.parquet.write_table(pa.table({"text": TEXTS}), work_dir / "a.parquet")
    for name in ("a.jsonl", "a.csv", "a.tsv", "a.txt", "a.parquet"):
        result = run_bertft("predict", f"run={run}", f"input={name}")
        assert answers(result) == from_stdin, name
        assert stderr_without_speed(result) == f"6 predictions; {name}: 6 rows read = 6 used\n"
        assert "rows/s" in result.err


def test_the_order_is_that_of_the_rows(run):
    forward = answers(run_bertft("predict", f"run={run}", stdin=lines(TEXTS)))
    backward = answers(run_bertft("predict", f"run={run}", stdin=lines(TEXTS[::-1])))
    np.testing.assert_allclose(scored(forward), scored(backward)[::-1], atol=1e-6)
    assert len({round(score, 6) for score in scored(forward)}) == len(TEXTS)


def test_it_answers_what_the_run_answered_in_training(run):
    """The run's accuracy, counted from its answers."""
    from small_runs import read

    rows = run.parent / "validation.csv"
    actual = answers(run_bertft("predict", f"run={run}", f"input={rows}"))
    labels = [line.rpartition(",")[2] for line in rows.read_text().splitlines()[1:]]
    right = sum(answer["label"] == label for answer, label in zip(actual, labels, strict=True))
    assert right / len(labels) == read(run / "metrics.json")["validation"]["accuracy"]


def test_another_column(run, trained):
    usual = answers(run_bertft("predict", f"run={run}", stdin=lines(TEXTS)))
    for setting in ("columns=review", "data.text=review", "text=review"):
        result = run_bertft("predict", f"run={run}", setting, stdin=lines(TEXTS, "review"))
        assert answers(result) == usual
        assert ("Write columns=review" in result.err) == (setting == "text=review")
    pair = trained("pair", "method=lora")
    row = '{"a": "good film", "b": "great film", "one": "x", "two": "y"}\n'
    (named,) = answers(run_bertft("predict", f"run={pair}", "columns=[a,b]", stdin=row))
    (default,) = answers(run_bertft("predict", f"run={pair}", stdin=row))
    assert named != default and set(default["scores"]) == {"same", "other"}


def test_a_column_that_is_not_there_is_called_by_the_setting_that_names_it(run):
    result = run_bertft("predict", f"run={run}", stdin='{"txt": "good"}\n')
    assert result.refused
    assert result.err == (
        "error: stdin: columns: column 'text' not found (columns: 'txt')."
        " If 'txt' has the text, set columns=txt\n"
    )


def test_another_column_of_a_file_is_proposed(run, work_dir):
    """The proposed command is complete; eval proposes the columns of its file, too."""
    write_csv("new.csv", ["number", "message"], [(n, text) for n, text in enumerate(TEXTS)])
    result = run_bertft("predict", str(run), "new.csv", "output=out.csv")
    assert result.refused
    proposed = result.err.splitlines()[-1].strip()
    assert proposed == f"bertft predict {run} new.csv output=out.csv columns=message"
    assert run_bertft(*shlex.split(proposed)[1:]).status == 0

    labels = ["positive", "negative"] * len(TEXTS)
    write_csv("scored.csv", ["message", "team"], list(zip(TEXTS * 10, labels, strict=False)))
    result = run_bertft("eval", f"run={run}", "data.validation=scored.csv")
    assert result.refused
    proposed = result.err.splitlines()[-1].strip()
    assert proposed.endswith(" data.text=message data.label=team")


def test_a_file_is_written_whole(run, work_dir):
    result = run_bertft("predict", f"run={run}", "output=out.jsonl", stdin=lines(TEXTS))
    assert (result.status, result.out) == (0, "")
    count = len(TEXTS)
    assert (
        stderr_without_speed(result)
        == f"out.jsonl: {count} predictions; stdin: {count} rows read = {count} used\n"
    )
    assert read_lines(work_dir / "out.jsonl") == answers(
        run_bertft("predict", f"run={run}", stdin=lines(TEXTS))
    )
    (work_dir / "link.jsonl").symlink_to("out.jsonl")
    assert (
        run_bertft("predict", f"run={run}", "output=link.jsonl", stdin=lines(TEXTS[:1])).status == 0
    )
    assert (work_dir / "link.jsonl").is_symlink() and len(read_lines(work_dir / "out.jsonl")) == 1


def test_or_not_at_all(run, work_dir, monkeypatch):
    (work_dir / "out.jsonl").write_text("old")
    from bertft.tasks.classification import ClassificationTask

    whole = ClassificationTask.decode_predictions

    def full(self, logits, rows):
        yield next(whole(self, logits, rows))
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ClassificationTask, "decode_predictions", full)
    result = run_bertft("predict", f"run={run}", "output=out.jsonl", stdin=lines(TEXTS))
    assert result.status == 4 and "out.jsonl" in result.err and "Make room" in result.err, result
    assert (work_dir / "out.jsonl").read_text() == "old"
    assert [path.name for path in work_dir.iterdir()] == ["out.jsonl"]


def test_the_input_is_not_written_over(run, work_dir):
    file = work_dir / "rows.jsonl"
    file.write_text('{"text": "good"}\n')
    result = run_bertft("predict", f"run={run}", f"input={file}", f"output={work_dir}/./rows.jsonl")
    assert result.refused and "is also the input" in result.err
    assert file.read_text() == '{"text": "good"}\n'


def test_a_pipe_is_written_to_not_replaced(run, work_dir):
    os.mkfifo(work_dir / "pipe")
    actual = []
    reader = threading.Thread(target=lambda: actual.append((work_dir / "pipe").read_text()))
    reader.start()
    assert run_bertft("predict", f"run={run}", "output=pipe", stdin=lines(TEXTS[:2])).status == 0
    reader.join(timeout=900)
    assert actual[0].count("\n") == 2
    assert (work_dir / "pipe").is_fifo()


@pytest.mark.parametrize("output", [".", "no/where.jsonl"])
def test_a_place_that_cannot_be_written_is_reported_before_anything_is_computed(
    run, monkeypatch, output
):
    monkeypatch.setattr("bertft.cli.commands.predict.open_from_settings", None)
    result = run_bertft("predict", f"run={run}", f"output={output}", stdin=lines(TEXTS))
    assert result.refused and "output=" in result.err


@pytest.mark.parametrize(
    ("words", "stdin", "fragments"),
    [
        ([], "", ["stdin", "empty"]),
        ([], '{"text": "a"\n', ["stdin:1", "not JSON"]),
        ([], '{"text": ""}\n{"text": "a"}\n', ["stdin:1", "empty text"]),
        ([], '{"text": 3}\n', ["stdin:1", "not a string"]),
        (["input=gone.csv"], "", ["input=gone.csv", "no such file"]),
        (["columns=[]"], '{"text": "a"}\n', ["nor a list of at most 16 columns"]),
    ],
)
def test_what_cannot_be_answered(run, work_dir, words, stdin, fragments):
    result = run_bertft("predict", f"run={run}", *words, stdin=stdin)
    assert result.refused, result
    assert all(fragment in result.err for fragment in fragments), result.err
    assert list(work_dir.iterdir()) == []


def test_rows_without_an_answer_are_refused_or_reported(work_dir):
    """Whatever the run did with rows like them."""
    rows = [("good", "a"), ("bad", "b"), ("", "a"), ("fine", "b")]
    write_csv(work_dir / "a.csv", ("text", "label"), rows)
    data = (
        "data=files",
        "data.train=a.csv",
        "data.validation=a.csv",
        "data.on_bad_row=skip",
        "data.max_skipped=1",
    )
    assert (
        run_bertft("train", *data, "model=tiny", "trainer.max_steps=1", "hydra.run.dir=run").status
        == 0
    )
    result = run_bertft("predict", "run=run", stdin='{"text": ""}\n{"text": "a"}\n')
    assert (
        result.refused and "stdin:1: empty text" in result.err and " on_bad_row=skip" in result.err
    )
    words = ("predict", "run=run", "on_bad_row=skip")
    result = run_bertft(
        *words, stdin='{"text": ""}\n{"text": "a"}\n\n{"text": ""}\n{"text": "b"}\n'
    )
    actual = answers(result)
    assert [answer["line"] for answer in actual] == [1, 2, 4, 5], "a blank line is a line"
    assert [answer.get("error") for answer in actual] == ["empty text", None, "empty text", None]
    nothing = dict.fromkeys(("label", "score", "scores"))
    assert actual[0] == {"line": 1, **nothing, "error": "empty text"}
    assert stderr_without_speed(result) == (
        "warning: stdin: invalid rows have an error in place of a prediction (2 × empty text)\n"
        "4 predictions; stdin: 4 rows read = 2 used + 2 skipped (2 × empty text); 1 blank line\n"
    )
    both = answers(run_bertft("predict", "run=run", stdin='{"text": "a"}\n{"text": "b"}\n'))
    assert [answer["label"] for answer in both] == [actual[1]["label"], actual[3]["label"]]
    assert not any("line" in answer for answer in both)
    result = run_bertft(*words, stdin='{"text": ""}\nnonsense\n')
    assert [answer["error"][:8] for answer in answers(result)] == ["empty te", "not JSON"]


def test_the_threshold_of_several_labels(trained):
    run = trained("multi_label", "method=lora")
    actual = answers(run_bertft("predict", f"run={run}", stdin=lines(TEXTS)))
    assert [set(answer) for answer in actual] == [{"labels", "scores"}] * len(TEXTS)
    for answer in actual:
        assert answer["labels"] == [
            name for name, score in answer["scores"].items() if score >= 0.5
        ]
    everything = answers(
        run_bertft("predict", f"run={run}", "threshold=0.000001", stdin=lines(TEXTS))
    )
    assert all(answer["labels"] == ["long", "pos"] for answer in everything)
    nothing = answers(run_bertft("predict", f"run={run}", "threshold=0.999999", stdin=lines(TEXTS)))
    assert all(answer["labels"] == [] for answer in nothing)
    assert [answer["scores"] for answer in nothing] == [answer["scores"] for answer in actual]


def test_the_threshold_of_two_classes(run):
    usual = answers(run_bertft("predict", f"run={run}", stdin=lines(TEXTS)))
    middle = sorted(scored(usual))[len(TEXTS) // 2]
    actual = answers(
        run_bertft("predict", f"run={run}", f"threshold={middle!r}", stdin=lines(TEXTS))
    )
    assert [answer["label"] == "pos" for answer in actual] == [
        score >= middle for score in scored(usual)
    ]
    assert all(answer["score"] == answer["scores"][answer["label"]] for answer in actual)
    assert scored(actual) == scored(usual)


def test_numbers(trained):
    run = trained("regression", "method=lora")
    result = run_bertft("predict", f"run={run}", "threshold=0.4", stdin=lines(TEXTS))
    assert result.refused and "threshold: regression does not support a threshold" in result.err
    actual = answers(run_bertft("predict", f"run={run}", stdin=lines(TEXTS)))
    assert [set(answer) for answer in actual] == [{"score"}] * len(TEXTS)
    assert all(isinstance(answer["score"], float) for answer in actual)


def test_another_checkpoint(run):
    best = answers(run_bertft("predict", f"run={run}", stdin=lines(TEXTS)))
    steps = sorted(int(p.name[5:]) for p in (run / "checkpoints").glob("step-*"))
    by_checkpoint = [
        answers(run_bertft("predict", f"run={run}", f"checkpoint={step}", stdin=lines(TEXTS)))
        for step in steps
    ]
    assert (
        best in by_checkpoint and len({json.dumps(one) for one in by_checkpoint}) == len(steps) > 1
    )


def test_a_file_of_another_separator_and_encoding(run, work_dir):
    (work_dir / "rows.csv").write_bytes("text;n\ncafé good;1\n".encode("latin-1"))
    result = run_bertft("predict", f"run={run}", "input=rows.csv", "separator=;")
    assert result.refused and "rows.csv:2" in result.err and " encoding" in result.err
    words = ("predict", f"run={run}", "input=rows.csv", "separator=;", "encoding=latin-1")
    (actual,) = answers(run_bertft(*words))
    (same,) = answers(run_bertft("predict", f"run={run}", stdin='{"text": "café good"}\n'))
    assert actual == same


@pytest.fixture
def small_blocks(monkeypatch):
    from bertft.pipeline import prediction

    monkeypatch.setitem(prediction._BLOCK_SIZES, "cpu", prediction._BlockSize(2, 1_000))


def test_every_format_carries_the_columns_that_are_kept(run, work_dir, small_blocks):
    rows = [{"id": n, "label": "x", "text": text, "day": None} for n, text in enumerate(TEXTS)]
    content = "".join(json.dumps(row) + "\n" for row in rows)
    (work_dir / "a.jsonl").write_text(content, encoding="utf-8")
    usual = answers(run_bertft("predict", f"run={run}", "input=a.jsonl"))
    for name in ("b.jsonl", "b.csv", "b.parquet"):
        result = run_bertft("predict", run, "a.jsonl", f"output={name}", "data.keep=all")
        assert (result.status, result.out) == (0, ""), result
    # The label of the input has another name, because a prediction has one too.
    assert read_lines(work_dir / "b.jsonl") == [
        {"id": row["id"], "input_label": "x", "text": row["text"], "day": None, **answer}
        for row, answer in zip(rows, usual, strict=True)
    ]
    flat = [
        {"id": row["id"], "input_label": "x", "text": row["text"], "day": None,
         "label": answer["label"], "score": answer["score"],
         **{f"scores.{name}": value for name, value in answer["scores"].items()}}
        for row, answer in zip(rows, usual, strict=True)
    ]  # fmt: skip
    assert pa.parquet.read_table(work_dir / "b.parquet").to_pylist() == flat
    with open(work_dir / "b.csv", encoding="utf-8", newline="") as file:
        fields = list(csv.DictReader(file))
    as_text = [{k: "" if v is None else str(v) for k, v in row.items()} for row in flat]
    assert fields == as_text
    result = run_bertft("predict", run, "a.jsonl", "keep=[id,dya]")
    assert result.refused and "keep: column 'dya' not found" in result.err
    result = run_bertft("predict", run, "a.jsonl", "output=b.xlsx")
    assert result.refused and ".jsonl (JSON Lines), .csv or .parquet" in result.err


def test_nested_predictions_are_json_text_in_a_table(trained, work_dir):
    run = trained("token_classification", "method=lora")
    rows = "".join(json.dumps({"text": text}) + "\n" for text in ("Ada went to London", "No"))
    expected = answers(run_bertft("predict", run, stdin=rows))
    assert run_bertft("predict", run, "output=a.csv", "keep=text", stdin=rows).status == 0
    with open(work_dir / "a.csv", encoding="utf-8", newline="") as file:
        fields = list(csv.DictReader(file))
    assert [list(row) for row in fields] == 2 * [["input_text", "text", "spans"]]
    assert [json.loads(row["spans"]) for row in fields] == [row["spans"] for row in expected]


def test_an_invalid_row_of_standard_input_ends_it_after_the_rows_before(
    run, work_dir, small_blocks
):
    rows = lines(["good", "bad", "fine", "", "dull"])
    result = run_bertft("predict", run, "output=a.jsonl", stdin=rows)
    assert result.status == 2 and "stdin:4: empty text" in result.err, result
    assert "the predictions of 3 rows are in a.jsonl. To continue" in result.err
    assert len(read_lines(work_dir / "a.jsonl")) == 3
    (work_dir / "rows.jsonl").write_text(rows, encoding="utf-8")
    result = run_bertft("predict", run, "rows.jsonl", "output=b.jsonl")
    assert result.refused and "rows.jsonl:4: empty text" in result.err
    assert not (work_dir / "b.jsonl").exists(), "a file is checked first"


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.parquet"])
def test_an_interruption_keeps_the_rows_that_are_done(
    run, work_dir, monkeypatch, small_blocks, name
):
    from bertft.tasks.classification import ClassificationTask

    (work_dir / "rows.jsonl").write_text(lines(TEXTS), encoding="utf-8")
    whole, calls = ClassificationTask.decode_predictions, []

    def interrupted(self, logits, rows):
        calls.append(rows)
        if len(calls) == 3:
            signal.raise_signal(signal.SIGINT)
        return whole(self, logits, rows)

    def read(path):
        if path.suffix == ".parquet":
            return pa.parquet.read_table(path).column("label").to_pylist()
        if path.suffix == ".csv":
            return [row["label"] for row in csv.DictReader(path.read_text().splitlines())]
        return [row["label"] for row in read_lines(path)]

    words = ("predict", run, "rows.jsonl")
    with monkeypatch.context() as patch:
        patch.setattr(ClassificationTask, "decode_predictions", interrupted)
        result = run_bertft(*words, f"output={name}")
    assert result.status == 130, result
    assert f"the predictions of 4 rows are in {name}" in result.err
    assert "skip_rows=4 and another output" in result.err and "SIGINT" in result.err
    assert run_bertft(*words, "skip_rows=4", f"output=rest.{name}").status == 0
    complete = [answer["label"] for answer in answers(run_bertft(*words))]
    assert read(work_dir / name) + read(work_dir / f"rest.{name}") == complete
    assert not list(work_dir.glob("*.partial"))


@pytest.mark.parametrize(
    ("stage", "output"),
    [
        ("open_from_settings", "-"),
        ("check_rows", "a.jsonl"),
        ("RowPredictor.iter_blocks", "old.csv"),
    ],
)
def test_an_interruption_before_the_first_block_states_that_nothing_is_kept(
    run, work_dir, monkeypatch, stage, output
):
    def interrupted(*_, **__):
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(f"bertft.cli.commands.predict.{stage}", interrupted)
    (work_dir / "rows.jsonl").write_text(lines(TEXTS), encoding="utf-8")
    (work_dir / "old.csv").write_text("old", encoding="utf-8")
    result = run_bertft("predict", run, "rows.jsonl", f"output={output}")
    assert result.status == 130 and result.out == ""
    assert result.err.count("no predictions are written") == 1
    assert "skip_rows" not in result.err
    assert ("old.csv is as it was before" in result.err) == (output == "old.csv")
    assert (work_dir / "old.csv").read_text() == "old"
    assert {path.name for path in work_dir.iterdir()} == {"rows.jsonl", "old.csv"}


def test_the_status_has_the_rows_that_are_done(run, work_dir, monkeypatch, small_blocks):
    calls = []

    class Line:
        def show(self, text, brief, total, waits):
            calls.append((text, total, waits))

        def __getattr__(self, name):
            return lambda *arguments: calls.append((name, *arguments)) or contextlib.nullcontext()

    monkeypatch.setattr("bertft.utils.status._line", Line())
    (work_dir / "rows.jsonl").write_text(lines(TEXTS), encoding="utf-8")
    assert run_bertft("predict", run, "rows.jsonl", "skip_rows=1").status == 0
    assert ("reading rows", 0, False) in calls
    predicting = calls[calls.index(("predicting", 5, False)) :]
    rows = [call[1] for call in predicting if call[0] == "set_rows"]
    assert rows == sorted(rows) and len(rows) > 1 and rows[-1] == 5
    assert sum(call[1] for call in predicting if call[0] == "advance") == pytest.approx(5)
    calls.clear()
    assert run_bertft("predict", run, stdin=lines(TEXTS)).status == 0
    assert ("reading rows", 0, True) in calls


def test_rows_of_a_pipe_are_answered_as_they_come_until_a_signal(run):
    code = "import sys; from bertft.cli import main; sys.exit(main())"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "predict", f"run={run}"], stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1,
        env={**os.environ, "PYTHONUNBUFFERED": ""},  # a block is counted before it is flushed
    )  # fmt: skip
    received = []
    for text in ("good", "bad"):
        process.stdin.write(f"a {text} film\n")
        process.stdin.flush()
        received.append(json.loads(process.stdout.readline()))
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=900)
    assert process.returncode == 143 and out == "", err
    assert [set(answer) for answer in received] == 2 * [{"label", "score", "scores"}]
    assert "plain text, one text per line" in err and "skip_rows=2" in err
    assert "Traceback" not in err


def test_texts_on_the_command_line(run, trained, work_dir):
    usual = answers(run_bertft("predict", run, stdin=lines(TEXTS[:2])))
    words = f"text=[{','.join(json.dumps(text) for text in TEXTS[:2])}]"
    assert answers(run_bertft("predict", run, words)) == usual
    (one,) = answers(run_bertft("predict", run, f"text={TEXTS[0]}"))
    assert one["scores"] == pytest.approx(usual[0]["scores"], abs=1e-6)
    for text in ("007", "{a: 1}", "null and void", "x=y, z"):
        (answer,) = answers(run_bertft("predict", run, f"text={text}"))
        row = json.dumps({"text": text})
        assert answer == answers(run_bertft("predict", run, stdin=row + "\n"))[0]
    # Together with a file, text is the former name of columns.
    (work_dir / "a.jsonl").write_text(lines(TEXTS[:2], "review"), encoding="utf-8")
    assert answers(run_bertft("predict", run, "a.jsonl", "text=review")) == usual
    for settings, fragments in (
        (["text=good", "text_pair=bad"], ["text_pair: this model reads one text per row"]),
        (["question=Who?", "context=Ada"], ["the task of this model is classification"]),
        (["question=Who?"], ["question: is not supported without context. Set context="]),
        (["text=a", "keep=id"], ["keep: is not supported without input"]),
        (["text="], ["text, row 1: empty text"]),
    ):
        result = run_bertft("predict", run, *settings)
        assert result.refused and all(fragment in result.err for fragment in fragments), result


def test_pairs_and_questions_on_the_command_line(trained):
    pair = trained("pair", "method=lora")
    expected = answers(run_bertft("predict", pair, stdin='{"one": "a film", "two": "a book"}\n'))
    assert answers(run_bertft("predict", pair, "text=a film", "text_pair=a book")) == expected
    result = run_bertft("predict", pair, "text=[a film,a book]")
    assert result.refused and "Set text='...' text_pair='...'" in result.err
    result = run_bertft("predict", pair, stdin="a film\n")
    assert result.refused and "neither JSON Lines nor a table" in result.err
    run = trained("question_answering", "method=lora")
    row = {"question": "Who was it?", "context": "It was Ada, in London."}
    expected = answers(run_bertft("predict", run, stdin=json.dumps(row) + "\n"))
    words = [f"{name}={value}" for name, value in row.items()]
    assert answers(run_bertft("predict", run, *words)) == expected
    result = run_bertft("predict", run, "text=Who?")
    assert result.refused and "Set question='...' context='...'" in result.err
