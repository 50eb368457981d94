"""``bertft init`` writes a file that trains as without it, or with the columns of a data file."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from bertft.cli.app import main
from bertft.config.compose import ComposeRequest, compose_config, to_dataclass
from bertft.config.config_file import expand_config_file
from bertft.config.data import DataConfig
from bertft.config.overrides import rewrite_overrides
from bertft.config.presets import find_presets
from bertft.data.propose_columns import propose_task
from bertft.data.splits import load_splits
from bertft.errors import DataError

ROWS = [(f"a {'good' if n % 2 else 'bad'} film, number {n}", n) for n in range(40)]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def composed(*words):
    arguments = expand_config_file("train", words)
    request = ComposeRequest("train", tuple(rewrite_overrides("train", arguments)))
    return to_dataclass("train", compose_config(request))


def write_rows(name, header, rows):
    lines = [",".join(header), *(f'"{text}",{label}' for text, label in rows)]
    Path(name).write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_the_file_changes_nothing_until_it_is_edited(capsys):
    assert main(["init"]) == 0
    assert "bertft train config=bertft.yaml" in capsys.readouterr().out
    assert composed("config=bertft.yaml") == composed()


def test_the_file_describes_the_choices():
    main(["init", "my.yaml"])
    text = Path("my.yaml").read_text(encoding="utf-8")
    for group in ("method", "model"):
        for name in find_presets(group):
            assert re.search(rf"^#   {name} ", text, re.MULTILINE), name
    assert "config=my.yaml" in text.splitlines()[0]
    assert max(map(len, text.splitlines())) <= 98


def test_the_optional_lines_are_settings():
    main(["init"])
    text = Path("bertft.yaml").read_text(encoding="utf-8")
    text, count = re.subn(r"^# (\w+\.[\w.]+: )", r"\1", text, flags=re.MULTILINE)
    assert count == 3
    Path("bertft.yaml").write_text(text, encoding="utf-8")
    config = composed("config=bertft.yaml")
    assert (config.method.rank, config.model.path) == (16, "FacebookAI/roberta-large")


@pytest.mark.parametrize(
    ("header", "rows", "task", "text", "label"),
    [
        (["text", "label"], [(t, n % 2) for t, n in ROWS], "classification", "text", "label"),
        (["review", "stars"], [(t, n % 2) for t, n in ROWS], "classification", "review", "stars"),
        (["yes", "grade"], [(t, n / 8) for t, n in ROWS], "regression", "yes", "grade"),
        (["评论", "标签"], [(t, n % 2) for t, n in ROWS], "classification", "评论", "标签"),
    ],
)
def test_the_columns_of_a_file_are_detected(header, rows, task, text, label, capsys):
    write_rows("rows.csv", header, rows)
    assert main(["init", "rows.csv", "my.yaml"]) == 0
    assert f"text={text}, label={label}" in capsys.readouterr().out
    config = composed("config=my.yaml")
    assert (config.data.name, config.data.train) == ("files", "rows.csv")
    assert (config.data.task, config.data.text, config.data.label) == (task, text, label)
    splits = load_splits(config.data)
    assert len(splits.train) + len(splits.validation) == len(rows)


def test_a_written_file_trains(capsys):
    write_rows("rows.csv", ["body", "team"], [(t, n % 2) for t, n in ROWS])
    assert main(["init", "rows.csv"]) == 0
    words = ["model=tiny", "trainer.max_steps=1", "report=false", "hydra.run.dir=run"]
    assert main(["train", "config=bertft.yaml", *words]) == 0


CONLL = "EU B-ORG\nrejects O\nGerman B-MISC\ncall O\n\nPeter B-PER\nBlackburn I-PER\n\n" * 20
POS = "Peter NNP\nsleeps VBZ\n\n" * 20
CONLLU = "# text = A cat\n1\tA\ta\tDET\tDT\t_\n2\tcat\tcat\tNOUN\tNN\t_\n\n" * 20
SQUAD = json.dumps({"data": [{"paragraphs": [
    {"context": f"It was Ada who wrote it in {n}.", "qas": [
        {"id": str(n), "question": "Who?", "answers": [{"text": "Ada", "answer_start": 7}]},
    ]} for n in range(40)
]}]})  # fmt: skip


@pytest.mark.parametrize(
    ("name", "content", "settings"),
    [
        ("a.conll", CONLL, {"task": "token_classification"}),
        ("a.txt", CONLL, {"task": "token_classification"}),
        ("a.conll", POS, {"task": "token_classification"}),
        ("a.conllu", CONLLU, {"task": "token_classification", "text": 1, "label": 3}),
        ("a.json", SQUAD, {"task": "question_answering"}),
    ],
)
def test_the_task_of_a_format_is_detected_and_proposed(name, content, settings, capsys):
    Path(name).write_text(content, encoding="utf-8")
    assert main(["init", name]) == 0
    data = composed("config=bertft.yaml").data
    assert {key: getattr(data, key) for key in settings} == settings
    assert len(load_splits(data).train)
    with pytest.raises(DataError) as raised:
        load_splits(composed("data=files", f"data.train={name}").data)
    proposed = composed("data=files", f"data.train={name}", *raised.value.proposed_settings).data
    assert {key: getattr(proposed, key) for key in settings} == settings


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", POS),  # two words per line are no evidence
        ("a.txt", "a text per line\nand another one\n" * 20),
        ("a.conll", "one\ntwo\n" * 20),
        ("a.json", json.dumps({"data": [1, 2]})),
    ],
)
def test_other_content_is_not_taken_for_such_a_format(name, content, capsys):
    Path(name).write_text(content, encoding="utf-8")
    assert propose_task(Path(name), DataConfig(name="files")) == []
    with pytest.raises(DataError) as raised:
        load_splits(composed("data=files", f"data.train={name}").data)
    assert not raised.value.proposed_settings


def test_a_table_with_tabs_is_no_conll():
    Path("a.tsv").write_text("text\tlabel\n" + "good\tO\nbad\tx\n" * 20, encoding="utf-8")
    assert propose_task(Path("a.tsv"), DataConfig(name="files")) == []


@pytest.mark.parametrize(("name", "content"), [("a.conll", CONLL), ("a.json", SQUAD)])
def test_the_file_of_a_format_trains_as_printed(name, content, capsys):
    Path(name).write_text(content, encoding="utf-8")
    assert main(["init", name, "my.yaml"]) == 0
    command = shlex.split(capsys.readouterr().out.splitlines()[-1].removeprefix("next: "))
    words = ["model=tiny", "trainer.max_steps=1", "report=false", "hydra.run.dir=run"]
    assert main([*command[1:], *words]) == 0


def test_the_task_can_be_set(capsys):
    write_rows("rows.csv", ["text", "label"], [(t, n % 2) for t, n in ROWS])
    assert main(["init", "rows.csv", "task=regression"]) == 0
    assert composed("config=bertft.yaml").data.task == "regression"
    Path("qa.csv").write_text("query,passage,answer\n" + "Who?,Ada,Ada\n" * 20)
    assert main(["init", "qa.csv", "qa.yaml", "task=question_answering"]) == 0
    data = composed("config=qa.yaml").data
    assert (data.task, data.text) == ("question_answering", ["query", "passage"])
    Path("a.txt").write_text(POS)
    assert main(["init", "a.txt", "pos.yaml", "task=token_classification"]) == 0
    assert len(load_splits(composed("config=pos.yaml").data).train)


def test_columns_that_are_unclear_are_left_to_the_user(capsys):
    write_rows("rows.csv", ["id", "n"], [(n, n) for _, n in ROWS])
    assert main(["init", "rows.csv"]) == 0
    assert "Set data.text and data.label in bertft.yaml" in capsys.readouterr().err
    assert composed("config=bertft.yaml").data.text is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "the file exists. Set another output, or add force=true"),
        (["missing.csv", "other.yaml"], "there is no such file"),
        (["output=nowhere/a.yaml"], "there is no folder nowhere. Create it first"),
        (["output=."], "is a folder"),
        (["outpt=a.yaml"], "Did you mean 'output'"),
        (["other.yaml", "task=regression"], "is only supported with a training file"),
        (["missing.csv", "other.yaml", "task=regresion"], "regression"),
    ],
)
def test_what_cannot_be_written_or_read(words, message, capsys):
    Path("bertft.yaml").write_text("mine")
    assert main(["init", *words]) == 2
    assert message in capsys.readouterr().err
    assert Path("bertft.yaml").read_text() == "mine"


def test_force_overwrites():
    Path("bertft.yaml").write_text("mine")
    assert main(["init", "force=true"]) == 0
    assert "method: lora" in Path("bertft.yaml").read_text(encoding="utf-8")


def test_no_slow_import():
    code = (
        "import sys; from bertft.cli.app import main; main(['init']);"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=900)
