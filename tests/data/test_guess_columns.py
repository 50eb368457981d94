"""Files with other column names: the settings that are proposed read them."""

from __future__ import annotations

import json
import shlex

import pyarrow as pa
import pytest
from pyarrow import parquet

from bertft.cli.app import main
from bertft.config.compose import ComposeRequest, compose_config, to_dataclass
from bertft.config.overrides import rewrite_overrides
from bertft.config.positional import expand_positional
from bertft.data.guess_columns import format_column, propose_settings
from bertft.data.splits import load_splits

COUNT = 60
TEXTS = [f"the {'lovely' if n % 2 else 'dull'} film, number {n}" for n in range(COUNT)]
TEAMS = ["good" if n % 2 else "bad" for n in range(COUNT)]
IDS = list(range(100, 100 + COUNT))


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_csv(header, *columns, separator=","):
    lines = [header] if header else []
    lines += [[str(value) for value in row] for row in zip(*columns, strict=True)]
    quoted = [[f'"{field}"' if "," in field else field for field in line] for line in lines]
    with open("rows.csv", "w", encoding="utf-8") as file:
        file.writelines(f"{separator.join(line)}\n" for line in quoted)
    return "rows.csv"


def write_jsonl(**columns):
    with open("rows.jsonl", "w", encoding="utf-8") as file:
        for row in zip(*columns.values(), strict=True):
            print(json.dumps(dict(zip(columns, row, strict=True))), file=file)
    return "rows.jsonl"


def write_parquet(**columns):
    parquet.write_table(pa.table(columns), "rows.parquet")
    return "rows.parquet"


LAYOUTS = {
    "names": (
        lambda: write_csv(["id", "tweet", "category"], IDS, TEXTS, TEAMS),
        ["data.text=tweet", "data.label=category"],
    ),
    "content": (
        lambda: write_csv(["key", "words said", "who", "team"], IDS, TEXTS, TEXTS, TEAMS),
        ["data.text=words said", "data.label=team"],
    ),
    "only the label": (
        lambda: write_csv(["text", "y"], TEXTS, TEAMS),
        ["data.label=y"],
    ),
    "only the text": (
        lambda: write_csv(["label", "remark"], TEAMS, TEXTS),
        ["data.text=remark"],
    ),
    "Chinese": (
        lambda: write_csv(["编号", "评论", "标签"], IDS, TEXTS, TEAMS),
        ["data.text=评论", "data.label=标签"],
    ),
    "semicolons": (
        lambda: write_csv(["id", "Review", "Stars"], IDS, TEXTS, TEAMS, separator=";"),
        ["data.separator=;", "data.text=Review", "data.label=Stars"],
    ),
    "tabs": (
        lambda: write_csv(["Review", "Stars"], TEXTS, TEAMS, separator="\t"),
        ["data.separator=tab", "data.text=Review", "data.label=Stars"],
    ),
    "no header": (
        lambda: write_csv(None, TEAMS, TEXTS),
        ["data.text=1", "data.label=0"],
    ),
    "numbers": (
        lambda: write_csv(["essay", "grade"], TEXTS, [n / 8 for n in range(COUNT)]),
        ["data.task=regression", "data.text=essay", "data.label=grade"],
    ),
    "text, and numbers in label": (
        lambda: write_csv(["text", "label"], TEXTS, [n / 8 for n in range(COUNT)]),
        ["data.task=regression"],
    ),
    "text, and lists in label": (
        lambda: write_jsonl(text=TEXTS, label=[["a", "b"][: 1 + n % 2] for n in range(COUNT)]),
        ["data.task=multi_label"],
    ),
    "a pair": (
        lambda: write_csv(["question1", "question2", "is_duplicate"], TEXTS, TEXTS[::-1], TEAMS),
        ["data.text=[question1,question2]", "data.label=is_duplicate"],
    ),
    "columns of 0 and 1": (
        lambda: write_csv(
            ["comment_text", "toxic", "insult"],
            TEXTS,
            [n % 2 for n in range(COUNT)],
            [int(n % 3 == 0) for n in range(COUNT)],
        ),
        ["data.task=multi_label", "data.text=comment_text", "data.label=[toxic,insult]"],
    ),
    "names that need quotes": (
        lambda: write_csv(["the 'text', long", "2020"], TEXTS, TEAMS),
        ["data.text='the \\'text\\', long'", "data.label='2020'"],
    ),
    "JSON lines": (
        lambda: write_jsonl(sentence=TEXTS, target=TEAMS),
        ["data.text=sentence", "data.label=target"],
    ),
    "lists of labels": (
        lambda: write_jsonl(abstract=TEXTS, tags=[["a", "b"][: 1 + n % 2] for n in range(COUNT)]),
        ["data.task=multi_label", "data.text=abstract", "data.label=tags"],
    ),
    "questions": (
        lambda: write_jsonl(
            question=["which film?"] * COUNT,
            passage=TEXTS,
            answers=[{"text": ["film"], "answer_start": [text.index("film")]} for text in TEXTS],
        ),
        ["data.task=question_answering", "data.text=[question,passage]", "data.label=answers"],
    ),
    "words with tags": (
        lambda: write_jsonl(
            tokens=[text.split() for text in TEXTS],
            ner_tags=[["O", "B-X", *["O"] * (len(text.split()) - 2)] for text in TEXTS],
        ),
        ["data.task=token_classification", "data.text=tokens", "data.label=ner_tags"],
    ),
    "Parquet": (
        lambda: write_parquet(post=TEXTS, sentiment=TEAMS, id=IDS),
        ["data.text=post", "data.label=sentiment"],
    ),
}


def proposed_command(error_text):
    lines = error_text.splitlines()
    return shlex.split(lines[lines.index("Try:") + 1])


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_proposed_command_reads_the_file(name, capsys):
    write, settings = LAYOUTS[name]
    file = write()
    assert main(["train", file, "model=tiny", "seed=3"]) == 2
    command = proposed_command(capsys.readouterr().err)
    assert command == ["bertft", "train", file, "model=tiny", "seed=3", *settings]
    words = rewrite_overrides("train", expand_positional("train", command[2:]))
    config = to_dataclass("train", compose_config(ComposeRequest("train", tuple(words))))
    splits = load_splits(config.data)
    assert len(splits.train) + len(splits.validation) == COUNT and config.seed == 3


@pytest.mark.parametrize("name", ["names that need quotes", "numbers"])
def test_the_proposed_command_trains(name, capsys):
    file = LAYOUTS[name][0]()
    words = ["model=tiny", "trainer.max_steps=1", "report=false", "hydra.run.dir=run"]
    assert main(["train", file, "data.text=wrong", *words]) == 2
    command = proposed_command(capsys.readouterr().err)
    assert "data.text=wrong" not in command
    assert main(command[1:]) == 0


@pytest.mark.parametrize(
    ("names", "rows"),
    [
        (["id", "n"], [[n, n] for n in range(40)]),  # no texts
        (["a", "b"], [[text, other] for text, other in zip(TEXTS, TEXTS[::-1], strict=True)]),
        (["a", "a"], [["x", "y"]] * 40),
        (["a", "b"], []),
        (["id", "text"], [[n, text] for n, text in enumerate(TEXTS)]),
    ],
)
def test_no_hint_without_a_likely_cause(names, rows):
    assert propose_settings(names, rows, "classification") == []


def test_proposals_fit_the_task_of_the_command_line():
    rows = [[text, n % 5] for n, text in enumerate(TEXTS)]
    assert propose_settings(["a", "b"], rows, "regression") == ["data.text=a", "data.label=b"]
    assert propose_settings(["a", "b"], rows, "masked_lm") == ["data.text=a"]
    assert propose_settings(["a", "b"], rows, "token_classification") == []


@pytest.mark.parametrize("label", ["content", ["content"], 0, -2])
def test_the_configured_label_is_not_proposed_as_the_text(label):
    rows = [["a good long class name" if n % 2 else "another class", f"t{n}"] for n in range(60)]
    settings = propose_settings(["content", "said"], rows, "classification", label=label)
    assert settings == ["data.text=said"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("a b", "a b"),
        (0, "0"),
        ("0", "'0'"),
        ("null", "'null'"),
        ("True", "'True'"),
        ("truth", "truth"),
        ("[a]", "'[a]'"),
        ("x=1", "'x=1'"),
    ],
)
def test_values_of_names(name, value):
    assert format_column(name) == value
