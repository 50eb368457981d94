"""Texts with a label that an annotator of Prodigy rejected or ignored are not trained."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from bertft.config.data import DataConfig
from bertft.data.prediction_rows import InputErrors, iter_row_blocks, open_input_file
from bertft.data.readers import chunks
from bertft.data.rows import Rows, format_accounting
from bertft.data.splits import load_splits
from bertft.errors import DataError

ANSWERS = ["accept", "reject", "accept", "ignore", "accept", "reject"] * 4
TASKS = [
    {"text": f"text {row}", "label": "ab"[row % 3 == 0], "answer": answer, "_task_hash": row}
    for row, answer in enumerate(ANSWERS)
]
COUNTS = "24 rows read = 12 used + 8 rejected by the annotator + 4 ignored by the annotator"


def load(path: Path, **settings) -> Rows:
    settings = {"text": "text", "label": "label"} | settings
    return load_splits(DataConfig(name="x", train=str(path), **settings), ("train",)).train


def write(path: Path, tasks=TASKS) -> Path:
    columns = {name: [task.get(name) for task in tasks] for name in tasks[0]}
    if path.suffix == ".parquet":
        pa.parquet.write_table(pa.table(columns), path)
    elif path.suffix == ".csv":
        lines = [",".join(columns), *(",".join(map(str, task.values())) for task in tasks)]
        path.write_text("\n".join(lines) + "\n")
    else:
        path.write_text("".join(json.dumps(task) + "\n" for task in tasks))
    return path


@pytest.mark.parametrize("chunk_bytes", [100, 1 << 20])
@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.parquet"])
def test_rejected_and_ignored_texts_are_counted(tmp_path, monkeypatch, name, chunk_bytes):
    monkeypatch.setattr(chunks, "CHUNK_BYTES", chunk_bytes)
    rows = load(write(tmp_path / name))
    assert format_accounting("train", rows.accounting()) == f"train: {COUNTS}"
    assert rows.column("text") == [t["text"] for t in TASKS if t["answer"] == "accept"]


def test_every_label_kind_and_a_group(tmp_path):
    tasks = [
        {"text": task["text"], "accept": ["x", "y"][: row % 3], "score": row, "answer": answer,
         "author": str(row % 5)}
        for row, (task, answer) in enumerate(zip(TASKS, ANSWERS, strict=True))
    ]  # fmt: skip
    path = write(tmp_path / "a.jsonl", tasks)
    for settings in (
        {"task": "multi_label", "label": "accept"},
        {"task": "regression", "label": "score"},
        {"label": "score", "group": "author", "labels": [str(row) for row in range(24)]},
    ):
        rows = load(path, **settings)
        assert len(rows) == 12 and rows.accounting()["unused"].popitem()[1] in (4, 8), settings
    assert rows.column("group") == [str(row % 5) for row in range(0, 24, 2)]


def test_another_meaning_of_the_column(tmp_path):
    """As the label or a text, and with other values."""
    labels = load(write(tmp_path / "a.csv"), label="answer")
    assert (len(labels), set(labels.column("label"))) == (24, {"accept", "reject", "ignore"})
    by_position = load(tmp_path / "a.csv", text=0, label=2, header=True)
    assert len(by_position) == 24 and by_position.column("label") == ANSWERS
    assert len(load(tmp_path / "a.csv", text="answer")) == 24
    for answer in (1, None, "yes", {"text": "reject"}, ["reject"]):
        path = write(tmp_path / "a.jsonl", [task | {"answer": answer} for task in TASKS])
        assert len(load(path)) == 24, answer
    (tmp_path / "b.csv").write_text("text,label,answer,answer\n" + "a,x,reject,b\nb,y,c,d\n" * 2)
    assert len(load(tmp_path / "b.csv")) == 4


def test_predict_answers_all_texts(tmp_path):
    path = write(tmp_path / "a.jsonl")
    source = open_input_file(str(path), DataConfig(name="x", text="text", label="label"))
    blocks = list(iter_row_blocks(source, InputErrors(source.name), 99, 9_999))
    assert sum(map(len, blocks)) == 24


def test_only_rejected_texts_are_an_error(tmp_path):
    path = write(tmp_path / "a.jsonl", [task for task in TASKS if task["answer"] == "reject"])
    with pytest.raises(DataError, match=r"no rows to use \(8 × rejected by the annotator\)"):
        load(path)
