"""Rows of question answering from every file format; errors name the file and the question."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from bertft.config.data import DataConfig
from bertft.data.splits import load_splits, load_unlabelled
from bertft.data.statistics import summarize_splits
from bertft.errors import DataError, UsageError

pytestmark = pytest.mark.usefixtures("read_both_ways")

CONTEXT = "Ada wrote it in London.  Ada was 27."
ROWS = [
    ("a", "Who wrote it?", CONTEXT, ["Ada", "Ada"], [0, 25]),
    ("b", "Who sang it?", CONTEXT, [], []),
    ("c", "Where?", CONTEXT, ["in London", "London"], [13, 16]),
]


def config(path, **settings) -> DataConfig:
    return DataConfig(name="x", task="question_answering", validation=str(path), **settings)


def read(path, **settings):
    return load_splits(config(path, **settings), ("validation",)).validation


def read_train(path, **settings):
    return load_splits(DataConfig(name="x", task="question_answering", train=str(path), **settings),
                ("train",)).train  # fmt: skip


def nested(*rows) -> dict:
    questions = [
        {
            "id": name,
            "question": question,
            "answers": [
                {"text": text, "answer_start": at} for text, at in zip(texts, starts, strict=True)
            ],
        }
        for name, question, _, texts, starts in rows
    ]
    return {"data": [{"title": "t", "paragraphs": [{"context": CONTEXT, "qas": questions}]}]}


def write(path, content) -> Path:
    text = content if isinstance(content, str) else json.dumps(content)
    path.write_text(text, encoding="utf-8")
    return path


def table_of(rows) -> list[tuple]:
    names = ("id", "question", "context", "label", "start")
    return list(zip(*(rows.column(name) for name in names), strict=True))


def test_the_same_rows_from_every_kind_of_file(tmp_path):
    made = [write(tmp_path / "a.json", nested(*ROWS))]
    objects = [
        {"id": i, "question": q, "context": c, "answers": {"text": t, "answer_start": s}}
        for i, q, c, t, s in ROWS
    ]
    made.append(write(tmp_path / "a.jsonl", "\n".join(map(json.dumps, objects))))
    pa.parquet.write_table(pa.Table.from_pylist(objects), tmp_path / "a.parquet")
    made.append(tmp_path / "a.parquet")
    actual = [read(path) for path in made]
    for rows in actual:
        assert table_of(rows) == [tuple(row) for row in ROWS]
    assert len({rows.fingerprint for rows in actual}) == 1
    assert actual[0].location(2) == f"{made[0]}, question 3"
    assert actual[1].location(2) == f"{made[1]}:3"


def test_flat_answers(tmp_path):
    lines = [
        f'1,Who wrote it?,"{CONTEXT}",Ada,25',
        f'2,Who sang it?,"{CONTEXT}",,',
    ]
    path = write(tmp_path / "a.csv", "id,question,context,answer,answer_start\n" + "\n".join(lines))
    rows = read(path)
    assert rows.column("label") == [["Ada"], []] and rows.column("start") == [[25], []]
    renamed = path.read_text().replace("answer,", "gold,").replace("question", "q")
    rows = read(write(tmp_path / "b.csv", renamed), text=["q", "context"], label="gold")
    assert rows.column("label") == [["Ada"], []]
    with pytest.raises(DataError, match=r"no row has a label.*answer and answer_start"):
        read(write(tmp_path / "c.csv", path.read_text().replace(",answer,", ",gold,")))


def test_rows_to_predict_need_no_answers(tmp_path):
    content = nested(*ROWS)
    for question in content["data"][0]["paragraphs"][0]["qas"]:
        del question["answers"]
    rows = load_unlabelled(str(write(tmp_path / "a.json", content)), config("x"))
    assert rows.columns == ["id", "question", "context", "line"] and len(rows) == 3
    unlabelled = write(tmp_path / "a.jsonl", '{"question": "Who?", "context": "Ada."}')
    assert load_unlabelled(str(unlabelled), config("x")).column("id") == [None]
    with pytest.raises(DataError, match=r"column 'context' not found"):
        load_unlabelled(str(write(tmp_path / "b.jsonl", '{"question": "Who?"}')), config("x"))
    with pytest.raises(UsageError, match=r"data\.text.*\[question,context\]"):
        load_unlabelled(str(unlabelled), config("x", text="question"))


def test_a_test_split_without_answers(tmp_path):
    content = nested(*ROWS)
    for question in content["data"][0]["paragraphs"][0]["qas"]:
        del question["answers"]
    data = DataConfig(
        name="x", task="question_answering", test=str(write(tmp_path / "a.json", content))
    )
    rows = load_splits(data, ("test",)).test
    assert not rows.has_labels and "start" not in rows.columns


@pytest.mark.parametrize(
    ("change", "reason", "message"),
    [
        ({"answers": [{"text": "Ada", "answer_start": 22}]}, "answer not at its offset",
         "question 'c': the answer 'Ada' is not at offset 22 (found '.  ' there);"
         " the closest occurrence is at 25"),
        ({"answers": [{"text": "Ada", "answer_start": -3}]}, "answer not at its offset", "at 0"),
        ({"answers": [{"text": "Bob", "answer_start": 0}]}, "answer not at its offset",
         "it does not occur in the context"),
        ({"answers": [{"text": "Ada"}]}, "answer without an offset",
         "the answer 'Ada' occurs 2 times in the context. Add its offset as answer_start"),
        ({"answers": [{"text": "Bob"}]}, "answer without an offset", "does not occur"),
        ({"answers": [{"text": "Ada", "answer_start": "9" * 5000}]}, "answer without an offset",
         "answer_start is '9999"),
        ({"answers": [{"text": "Ada", "answer_start": True}]}, "answer without an offset", "True"),
        ({"answers": [{"answer_start": 3}]}, "empty answer", "empty answer"),
        ({"answers": [{"text": 3, "answer_start": 3}]}, "answer is not a string", "the number 3"),
        ({"answers": "Ada"}, "answer without an offset", "occurs 2 times"),
        ({"answers": {"text": ["Ada"]}}, "unsupported answers", "lists text and answer_start"),
        ({"answers": {"text": ["Ada"], "answer_start": []}}, "unsupported answers", "1 texts"),
        ({"answers": 7}, "unsupported answers", "is the number 7, not a list"),
        ({"answers": ["Ada"]}, "unsupported answers", "list of objects with text"),
        ({"answers": None}, "missing label", "no label"),
        ({"question": " "}, "empty question", "empty question"),
        ({"question": 3}, "question is not a string", "the question is the number 3"),
        ({"question": "a\0b"}, "NUL byte", "the question contains a NUL byte"),
    ],
)  # fmt: skip
def test_an_invalid_question_is_reported_or_counted(tmp_path, change, reason, message):
    content = nested(*ROWS)
    content["data"][0]["paragraphs"][0]["qas"][2] |= change
    path = write(tmp_path / "a.json", content)
    with pytest.raises(DataError) as raised:
        read_train(path)
    assert f"{path}, question 3: " in str(raised.value) and message in str(raised.value)
    assert "data.on_bad_row=skip" in str(raised.value)
    rows = read_train(path, on_bad_row="skip", max_skipped=1.0)
    assert rows.column("id") == ["a", "b"] and rows.bad.counts == {reason: 1}


MISPLACED = {"text": "Ada", "answer_start": 22}
NOWHERE = {"text": "Bob", "answer_start": 0}
PLACED = {"text": "London", "answer_start": 16}
_PLACE = "offset of an answer ignored: answer not at its offset"


@pytest.mark.parametrize(
    ("answers", "learned", "scored", "dropped"),
    [
        ([MISPLACED, PLACED], [("London", 16)], [("London", 16), ("Ada", -1)], {_PLACE: 1}),
        ([NOWHERE, PLACED, MISPLACED], [("London", 16)],
         [("London", 16), ("Bob", -1), ("Ada", -1)], {_PLACE: 2}),
        ([{"text": " ", "answer_start": 3}, PLACED], [("London", 16)], [("London", 16)],
         {"answer ignored: empty answer": 1}),
        ([NOWHERE], None, [("Bob", -1)], {_PLACE: 1}),
    ],
)  # fmt: skip
def test_one_misplaced_answer_does_not_discard_the_question(
    tmp_path, answers, learned, scored, dropped
):
    content = nested(*ROWS)
    content["data"][0]["paragraphs"][0]["qas"][2]["answers"] = answers
    path = write(tmp_path / "a.json", content)
    rows = read(path)
    assert rows.column("id") == ["a", "b", "c"]
    assert list(zip(rows.column("label")[2], rows.column("start")[2], strict=True)) == scored
    assert rows.accounting() == {
        "read": 3, "used": 3, "skipped": {}, "unused": {}, "dropped": dropped, "blank_lines": 0,
        "other_lines": {},
    }  # fmt: skip
    if learned is None:
        with pytest.raises(DataError, match="question 3: question 'c': the answer 'Bob' is not at"):
            read_train(path)
        return
    rows = read_train(path)
    assert list(zip(rows.column("label")[2], rows.column("start")[2], strict=True)) == learned
    assert rows.accounting()["dropped"] == dropped


def test_missing_keys_are_reported(tmp_path):
    content = nested(*ROWS)
    paragraph = content["data"][0]["paragraphs"][0]
    del paragraph["qas"][1]["id"], paragraph["qas"][1]["question"]
    with pytest.raises(DataError, match=r"question 2: data\[0\]\.paragraphs\[0\].* has no q"):
        read(write(tmp_path / "a.json", content))
    del paragraph["context"]
    with pytest.raises(DataError, match=r"question 1: .*qas\[0\] has no context"):
        read(write(tmp_path / "a.json", content))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "the file is empty"),
        ('{"data": 3}', "the file has no list 'data'"),
        ('{"data": [{}]}', r"data\[0\] has no list 'paragraphs'"),
        ('{"data": [{"paragraphs": [{"context": "x"}]}]}', r"paragraphs\[0\] has no list 'qas'"),
        ('{"data": [{"paragraphs": [{"context": "x", "qas": [1]}]}]}', "is not an object"),
        ('{\n"data": x}', r"a\.json:2: not JSON \(.* at column 9\)"),
        ('{"data": []}', "there are no rows"),
    ],
)
def test_files_with_another_structure_are_rejected(tmp_path, content, message):
    with pytest.raises(DataError, match=message):
        read(write(tmp_path / "a.json", content))


def test_questions_without_answers_need_data_unanswerable(tmp_path):
    path = write(tmp_path / "a.json", nested(*ROWS))
    with pytest.raises(
        DataError, match=r"question 'b': the question has no answer. Set data\.unan"
    ):
        read(path, unanswerable=False)


def test_answers_with_guessed_offsets_are_only_scored(tmp_path):
    content = nested(*ROWS)
    questions = content["data"][0]["paragraphs"][0]["qas"]
    questions[0]["answers"][0]["offset_guessed"] = True
    questions[2]["answers"] = [{"text": "London", "answer_start": 16, "offset_guessed": True}]
    path = write(tmp_path / "a.json", content)
    assert read(path).column("start") == [[25, 0], [], [16]]  # the certain one first
    data = DataConfig(
        name="x", task="question_answering", train=str(path), on_bad_row="skip", max_skipped=1.0
    )
    train = load_splits(data, ("train",)).train
    assert train.column("id") == ["a", "b"] and train.bad.counts == {"guessed offset": 1}


def test_questions_of_a_context_are_held_out_together(tmp_path):
    lines = [
        json.dumps({"question": f"q{n}", "context": f"context {n // 5}", "answers": []})
        if n % 2
        else json.dumps(
            {"question": f"q{n}", "context": f"context {n // 5}",
             "answers": [{"text": "context", "answer_start": 0}]}
        )
        for n in range(100)
    ]  # fmt: skip
    path = write(tmp_path / "a.jsonl", "\n".join(lines))
    data = DataConfig(name="x", task="question_answering", train=str(path))
    splits = load_splits(data)
    assert (len(splits.train), len(splits.validation), splits.class_names) == (90, 10, None)
    held = Counter(splits.validation.column("context"))
    assert set(held.values()) == {5} and not set(held) & set(splits.train.column("context"))
    assert load_splits(data).validation.fingerprint == splits.validation.fingerprint
    alone = write(tmp_path / "b.jsonl", "\n".join(line.replace("context 1", "context 0")
                                                  for line in lines[:9]))  # fmt: skip
    with pytest.raises(DataError, match="all rows have the same context"):
        load_splits(DataConfig(name="x", task="question_answering", train=str(alone)))


def test_nothing_to_learn(tmp_path):
    rows = [{"question": f"q{n}", "context": f"c{n}", "answers": []} for n in range(30)]
    path = write(tmp_path / "a.jsonl", "\n".join(map(json.dumps, rows)))
    with pytest.raises(DataError, match="no question has an answer"):
        load_splits(DataConfig(name="x", task="question_answering", train=str(path)))


def test_a_local_file_replaces_a_hub_split(tmp_path):
    path = write(tmp_path / "a.json", nested(*ROWS))
    rows = load_splits(
        config(path, source="hub", hub="rajpurkar/squad_v2"), ("validation",)
    ).validation
    assert len(rows) == 3 and rows.files == (str(path),)


@pytest.mark.realdata
@pytest.mark.skipif("BERTFT_DATA" not in os.environ, reason="BERTFT_DATA is not set")
def test_real_files():
    folder = Path(os.environ["BERTFT_DATA"]) / "squad_v2"
    data = DataConfig(
        name="squad_v2", task="question_answering", train=str(folder / "train.json"),
        validation=str(folder / "dev.json"),
    )  # fmt: skip
    splits = load_splits(data)
    assert (len(splits.train), len(splits.validation)) == (6_078, 5_795)
    assert not any(rows.bad.counts for _, rows in splits.items())
    assert summarize_splits(splits, {}).overlap == 0
    assert (
        round(splits.schema.label_statistics(splits.train.table)["answerable"] * 6_078)
        == 6_078 - 3_168
    )
