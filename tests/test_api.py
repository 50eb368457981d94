"""The Python API gives what the commands give: the same runs, numbers and errors."""

from __future__ import annotations

import errno
import json
import logging
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

import bertft
from bertft.cli import main
from bertft.config.former_names import report_former
from bertft.errors import DataError, SystemResourceError, UsageError
from bertft.pipeline import prediction

ROOT = Path(bertft.__file__).parents[1]
ROWS = [
    {"text": f"{word} {number} thing", "label": label}
    for number in range(30)
    for word, label in (("good", "pos"), ("dull", "neg"))
]
TINY = (
    "trainer.max_steps=4",
    "trainer.batch_size=8",
    "trainer.threads=1",
    "trainer.precision=fp32",
    "report=false",
)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> bertft.Run:
    folder = tmp_path_factory.mktemp("api")
    return bertft.train(
        ROWS, ROWS[:20], model="tiny", output_dir=folder / "run", overrides=TINY, quiet=True
    )


def test_the_run_is_that_of_the_command(run, tmp_path):
    """The same rows from a file and the same settings: the same metrics to the last digit."""
    for name, rows in (("train", ROWS), ("validation", ROWS[:20])):
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    words = [
        "train",
        "model=tiny",
        "method=lora",
        "data=files",
        f"data.train={tmp_path / 'train.jsonl'}",
        f"data.validation={tmp_path / 'validation.jsonl'}",
        *TINY,
        "quiet=true",
        f"hydra.run.dir={tmp_path / 'run'}",
    ]
    assert main(words) == 0
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text(encoding="utf-8"))
    assert run.metrics["validation"] == metrics["validation"]
    assert run.metrics["best"] == metrics["best"]


def test_it_is_resumable_and_whole(run):
    assert main(["verify", f"run={run.path}"]) == 0


def test_rows_of_every_kind_give_the_same_run(run, tmp_path):
    import datasets
    import pandas as pd

    path = tmp_path / "rows.csv"
    pd.DataFrame(ROWS).to_csv(path, index=False)
    selected = datasets.Dataset.from_list([*ROWS, {"text": "not chosen", "label": "pos"}])
    for number, rows in enumerate((pd.DataFrame(ROWS), selected.select(range(len(ROWS))), path)):
        other = bertft.train(
            rows, ROWS[:20], model="tiny", output_dir=tmp_path / str(number), overrides=TINY,
            quiet=True,
        )  # fmt: skip
        assert other.metrics["validation"] == run.metrics["validation"]


def test_predictions_are_those_of_the_command(run, tmp_path):
    texts = [row["text"] for row in ROWS[:7]]
    answers = run.predict(texts)
    lines = "".join(json.dumps({"text": text}) + "\n" for text in texts)
    (tmp_path / "new.jsonl").write_text(lines, encoding="utf-8")
    out = tmp_path / "answers.jsonl"
    words = ["predict", f"run={run.path}", f"input={tmp_path / 'new.jsonl'}", f"output={out}"]
    assert main(words) == 0
    assert answers == [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert run.predict([{"text": text} for text in texts]) == answers
    assert run.predict(tmp_path / "new.jsonl") == answers
    model = bertft.load(run.path)
    assert (model.task, model.labels) == ("classification", ["neg", "pos"])


def test_evaluation_is_that_of_training(run):
    assert run.evaluate(ROWS[:20]) == run.metrics["validation"]


def test_merge_export_and_load(run, tmp_path):
    merged, adapter = run.merge(tmp_path / "merged"), run.export(tmp_path / "adapter")
    texts = [row["text"] for row in ROWS[:4]]
    expected = [answer["label"] for answer in run.predict(texts)]
    for folder, kind in ((merged, "merged model"), (adapter, "adapter")):
        model = bertft.load(folder)
        assert [answer["label"] for answer in model.predict(texts)] == expected
        assert f"kind='{kind}'" in repr(model)
        assert ("base=" in repr(model)) == (folder == adapter)


def test_compare(run, tmp_path):
    other = bertft.train(
        ROWS, ROWS[:20], method="bitfit", model="tiny", output_dir=tmp_path / "bitfit",
        overrides=TINY, quiet=True,
    )  # fmt: skip
    comparison = bertft.compare([run, other.path], out=tmp_path / "compare.html")
    assert len(comparison.rows) == 2
    assert "bitfit" in (tmp_path / "compare.html").read_text(encoding="utf-8")


def test_errors_are_raised(tmp_path, capsys):
    with pytest.raises(UsageError, match="max_stepz") as raised:
        bertft.train(ROWS, output_dir=tmp_path / "a", overrides=["trainer.max_stepz=3"])
    assert "trainer.max_steps" in str(raised.value)
    with pytest.raises(DataError, match="columns"):
        bertft.train([{"text": 1}, {"text": "a"}], output_dir=tmp_path / "b")
    with pytest.raises(UsageError, match="dicts"):
        bertft.train(["a", "b"], output_dir=tmp_path / "c")
    with pytest.raises(UsageError, match="no such file"):
        bertft.train([tmp_path / "a.csv", "b"], output_dir=tmp_path / "c")
    with pytest.raises(UsageError):
        bertft.load(tmp_path / "nothing")
    assert not capsys.readouterr().err


def test_warnings_are_logged(run, caplog, capsys):
    report_former.cache_clear()
    with caplog.at_level(logging.WARNING, logger="bertft"):
        bertft.train(
            ROWS, ROWS, model="tiny", output_dir=run.path.parent / "warned", quiet=True,
            overrides=[*TINY, "trainer.steps=3"],
        )  # fmt: skip
    assert "trainer.max_steps" in caplog.text
    assert "warning" not in capsys.readouterr().err


def test_what_jupyter_shows(run):
    displayed = run._repr_html_()
    assert "accuracy" in displayed and f"{run.metrics['validation']['accuracy']:.4f}" in displayed
    model = bertft.load(run.path, device="cpu")
    assert repr(model) == (
        f"Predictor('{run.path}', kind='run', task='classification', labels=['neg', 'pos'],"
        " base='tiny', precision='fp32', device='cpu')"
    )
    displayed = model._repr_html_()
    assert f"{run.path}</caption>" in displayed and "<td>neg, pos</td>" in displayed
    report = run.report()
    assert report.path == run.path / "report.html"
    assert "<iframe" in report._repr_html_()


def test_a_dataset_keeps_the_names_of_its_classes(tmp_path):
    import datasets

    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["bad", "fine"])}
    )
    rows = {"text": [row["text"] for row in ROWS], "label": [0, 1] * 30}
    data = datasets.Dataset.from_dict(rows, features=features)
    run = bertft.train(data, model="tiny", output_dir=tmp_path / "r", overrides=TINY, quiet=True)
    assert bertft.load(run.path).labels == ["bad", "fine"]


def test_importing_bertft_imports_nothing_slow():
    code = "import sys, bertft; print(sorted({'torch', 'hydra', 'pyarrow'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert isinstance(pa.__version__, str)


def test_the_rows_of_a_run_are_not_replaced(run):
    file = run.path / "rows" / "train.parquet"
    before = file.read_bytes()
    with pytest.raises(DataError, match="train rows differ"):
        bertft.train(ROWS[:10], model="tiny", output_dir=run.path, overrides=TINY)
    with pytest.raises(UsageError, match="run"):  # the same rows: the folder has a finished run
        bertft.train(ROWS, ROWS[:20], model="tiny", output_dir=run.path, overrides=TINY)
    assert file.read_bytes() == before


def test_every_row_has_a_prediction_whatever_the_run_skipped(tmp_path):
    skipping = (*TINY, "data.on_bad_row=skip", "data.max_skipped=0.5")
    run = bertft.train(
        [*ROWS, {"text": "", "label": "pos"}],
        ROWS[:20],
        model="tiny",
        output_dir=tmp_path / "run",
        overrides=skipping,
        quiet=True,
    )
    assert len(run.predict(["good", "dull"])) == 2
    with pytest.raises(DataError):
        run.predict(["good", ""])


def test_the_loaded_checkpoint_is_evaluated(run):
    with pytest.raises(UsageError, match="999"):
        bertft.load(run.path, checkpoint="999")
    last = bertft.load(run.path, checkpoint="last", precision="bf16", device="cpu")
    assert set(last.evaluate(ROWS[:20])) == set(run.metrics["validation"])


def test_a_file_of_settings_keeps_its_columns(tmp_path):
    text = "data: {text: said, label: team}\ntrainer: {max_steps: 2}\nreport: false\n"
    (tmp_path / "my.yaml").write_text(text)
    rows = [{"said": row["text"], "team": row["label"]} for row in ROWS]
    overrides = [f"config={tmp_path / 'my.yaml'}"]
    run = bertft.train(
        rows, model="tiny", output_dir=tmp_path / "run", overrides=overrides, quiet=True
    )
    settings = (run.path / "config.yaml").read_text(encoding="utf-8")
    assert "text: said" in settings and "max_steps: 2" in settings


def test_the_exception_for_other_columns_proposes_settings(tmp_path):
    rows = [{"said": row["text"], "team": row["label"]} for row in ROWS]
    with pytest.raises(DataError) as raised:
        bertft.train(rows, model="tiny", output_dir=tmp_path / "run", overrides=TINY, quiet=True)
    assert raised.value.proposed_settings == ["data.text=said", "data.label=team"]


def test_a_text_in_place_of_a_list_is_explained(run):
    with pytest.raises(UsageError, match=r"pass a list"):
        bertft.load(run.path).predict("The app crashes. Help" * 100)
    with pytest.raises(DataError, match="there is no such file"):
        bertft.load(run.path).predict("missing.csv")


def test_a_loaded_model_is_evaluated_without_loading_it_again(run, tmp_path, monkeypatch):
    model = bertft.load(run.path, checkpoint="last")
    words = ["eval", f"run={run.path}", "checkpoint=last", "report=false"]
    words += [f"hydra.run.dir={tmp_path / 'eval'}"]
    assert main(words) == 0
    expected = json.loads((tmp_path / "eval" / "metrics.json").read_text(encoding="utf-8"))
    monkeypatch.setattr("bertft.pipeline.open_model.open_model", None)
    assert model.evaluate(ROWS[:20]) == expected["validation"]
    with pytest.raises(DataError, match="label"):
        model.evaluate([{"text": "good"}])


def test_predictions_of_rows_of_every_kind(run, tmp_path):
    import pandas as pd

    model = bertft.load(run.path)
    texts = [row["text"] for row in ROWS[:7]]
    rows = [{"text": text, "id": number, "label": "x"} for number, text in enumerate(texts)]
    usual = model.predict(texts)
    assert list(model.predict_iter(iter(texts))) == usual
    assert model.predict(row for row in rows) == usual
    assert model.predict(pd.DataFrame(rows)) == usual
    expected = [{"id": n, "input_label": "x", **answer} for n, answer in enumerate(usual)]
    assert model.predict(rows, keep=["id", "label"]) == expected
    assert model.predict(pd.DataFrame(rows), keep=["id", "label"]) == expected
    assert list(model.predict(rows, keep="all")[0])[:3] == ["text", "id", "input_label"]
    with pytest.raises(DataError, match=r"keep: column .idd. not found.*Did you mean .id."):
        model.predict(rows, keep=["idd"])
    with pytest.raises(UsageError, match="on_bad_row"):
        model.predict(rows, on_bad_row="ignore")


def test_invalid_rows_of_the_api(run):
    model = bertft.load(run.path)
    rows = ["good", "", "dull"]
    answers = model.predict(rows, on_bad_row="skip")
    assert [answer["line"] for answer in answers] == [1, 2, 3]
    assert [answer.get("error") for answer in answers] == [None, "empty text", None]
    with pytest.raises(DataError, match="rows, row 2: empty text") as error:
        next(model.predict_iter(rows))
    assert 'on_bad_row="skip"' in str(error.value) and "data.on_bad_row" not in str(error.value)
    iterator = model.predict_iter(iter(rows))
    assert set(next(iterator)) == {"label", "score", "scores"}
    with pytest.raises(DataError, match=r'row 2: empty text[^$]*on_bad_row="skip"'):
        next(iterator)


FRESH = """
import json, sys
import pandas
import bertft

folder = sys.argv[1]
frame, new = pandas.read_csv(f"{folder}/train.csv"), pandas.read_csv(f"{folder}/new.csv")
run = bertft.train(
    frame, frame[:20], model="tiny", output_dir=f"{folder}/api", overrides=sys.argv[2:], quiet=True
)
predictions = pandas.DataFrame(bertft.load(run.path).predict(new, keep=["id"]))
predictions.to_json(f"{folder}/api.jsonl", orient="records", lines=True, double_precision=15)
"""


def test_a_fresh_process_gives_the_numbers_of_the_command(tmp_path):
    """DataFrame in, predictions out; the metrics are those of the command to the last digit."""
    import pandas as pd

    pd.DataFrame(ROWS).to_csv(tmp_path / "train.csv", index=False)
    pd.DataFrame(ROWS[:20]).to_csv(tmp_path / "validation.csv", index=False)
    pd.DataFrame({"id": [3, 1], "text": ["good thing", "dull thing"]}).to_csv(
        tmp_path / "new.csv", index=False
    )
    bertft_command = [sys.executable, "-m", "bertft"]
    settings = ["model=tiny", f"data.validation={tmp_path / 'validation.csv'}", *TINY, "quiet=true"]
    for command in (
        [sys.executable, "-c", FRESH, tmp_path, *TINY],
        [*bertft_command, "train", tmp_path / "train.csv", *settings,
         f"hydra.run.dir={tmp_path / 'command'}"],
        [*bertft_command, "predict", tmp_path / "command", tmp_path / "new.csv", "keep=[id]",
         f"output={tmp_path / 'command.jsonl'}"],
    ):  # fmt: skip
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        if command[1] == "-c":
            assert done.stderr == "", "warnings and status are logged"
    api, command = (
        json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("api", "command")
    )
    for name in ("best", "validation", "parameters"):
        assert api[name] == command[name]
    api_rows, command_rows = (
        [json.loads(line) for line in (tmp_path / f"{name}.jsonl").read_text().splitlines()]
        for name in ("api", "command")
    )
    assert [row["id"] for row in api_rows] == [3, 1]
    for row, other in zip(api_rows, command_rows, strict=True):
        assert row["label"] == other["label"] and str(row["id"]) == str(other["id"])
        assert row["scores"] == pytest.approx(other["scores"], abs=1e-14)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["--help"], "option of the command line"),
        (["-m", "seed=0,1"], "option of the command line"),
        (["--cfg", "job"], "option of the command line"),
        ("seed=1", r"overrides=\['seed=1'\]"),
        (["hydra.run.dir=x"], "output_dir"),
        (["method=full"], "argument method"),
        (["check=true"], "bertft train check=true"),
        (["report=maybe"], "true or false"),
        (["nonsense"], "nonsense"),
    ],
)
def test_invalid_overrides_are_exceptions(overrides, message, tmp_path, capsys):
    with pytest.raises(UsageError, match=message):
        bertft.train(ROWS, model="tiny", output_dir=tmp_path / "run", overrides=overrides)
    output = capsys.readouterr()
    assert (output.out, output.err) == ("", "")


def test_system_errors_are_exceptions_of_bertft(run, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="file"):
        bertft.train(ROWS, model="tiny", output_dir=tmp_path / "file" / "run", overrides=TINY)
    with pytest.raises(UsageError, match="file"):
        run.merge(tmp_path / "file" / "merged")

    def full_disk(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("bertft.data.rows_in_memory.rows_to_files", full_disk)
    with pytest.raises(SystemResourceError, match="no space left"):
        bertft.train(ROWS, model="tiny", output_dir=tmp_path / "run", overrides=TINY)
    with pytest.raises(SystemResourceError, match="no space left"):
        run.evaluate(ROWS[:20])


def test_status_is_logged(run, caplog, capsys):
    with caplog.at_level(logging.INFO, logger="bertft"):
        run.merge(run.path.parent / "merged-with-status")
    assert "loading" in caplog.text.casefold()
    assert capsys.readouterr().err == ""


def test_each_block_of_predictions_returns_free_memory(run, monkeypatch):
    """Otherwise the heap grows with the number of rows (tests/training/test_memory.py)."""
    calls = []
    monkeypatch.setattr(prediction, "return_free_memory", lambda: calls.append(1))
    list(bertft.load(run.path).predict_iter(["good film", "bad book"]))
    assert len(calls) == 1
