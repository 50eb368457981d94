"""Labels that annotators chose in Label Studio and Prodigy: proposed settings read them."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from bertft.config.data import DataConfig
from bertft.data.propose_columns import detect_columns
from bertft.data.splits import load_splits
from bertft.errors import DataError

COUNT = 24
TEXTS = [f"a {'good' if n % 2 else 'bad'} film, number {n}" for n in range(COUNT)]
SINGLE = [["Positive" if n % 2 else "Negative"] for n in range(COUNT)]
SEVERAL = [[*names, "Film"][: 1 + n % 3 // 2] for n, names in enumerate(SINGLE)]


def annotation(choices, control="sentiment", kind="choices", **changes):
    value = {"choices": choices} if kind == "choices" else {kind: choices}
    region = {"id": "r", "type": kind, "from_name": control, "to_name": "text", "value": value}
    return {"id": 1, "was_cancelled": False, "result": [region], **changes}


def tasks(labels, key="text", **options):
    return [
        {"id": n, "data": {key: text, "category": "ab"[n % 2]}, "predictions": [],
         "annotations": [annotation(choices, **options)]}
        for n, (text, choices) in enumerate(zip(TEXTS, labels, strict=True))
    ]  # fmt: skip


def write(path: Path, rows) -> Path:
    is_document = path.suffix == ".json"
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    path.write_text(json.dumps(rows) if is_document else lines, encoding="utf-8")
    return path


def read(path, **settings):
    return load_splits(DataConfig(name="files", train=str(path), **settings), ("train",))


def json_min(labels):
    return [
        {"text": text, "id": n, "topics": names[0] if len(names) == 1 else {"choices": names},
         "annotator": 1, "annotation_id": n, "lead_time": 1.5 + n / 7}
        for n, (text, names) in enumerate(zip(TEXTS, labels, strict=True))
    ]  # fmt: skip


def choice(n, accepted, answer="accept"):
    options = [{"id": name, "text": name.lower()} for name in ("Positive", "Negative", "Film")]
    return {"text": TEXTS[n], "options": options, "_input_hash": 7 * n, "_view_id": "choice",
            "_annotator_id": f"db-{n % 2}", "config": {"choice_style": "single"},
            "accept": accepted, "answer": answer, "_timestamp": 1_700_000_000 + n}  # fmt: skip


SENTIMENT = ["data.label=sentiment"]
CASES = {
    "Label Studio": ("a.json", tasks(SINGLE), SENTIMENT, SINGLE),
    "Label Studio in lines": ("a.jsonl", tasks(SINGLE), SENTIMENT, SINGLE),
    "another text": ("a.json", tasks(SINGLE, "review"),
                     ["data.text=review", "data.label=sentiment"], SINGLE),
    "several choices": ("a.json", tasks(SEVERAL), ["data.task=multi_label", *SENTIMENT], SEVERAL),
    "ratings": ("a.json", tasks([1 + n % 5 for n in range(COUNT)], kind="rating"), SENTIMENT,
                [[str(1 + n % 5)] for n in range(COUNT)]),
    "numbers": ("a.json", tasks([n / 8 for n in range(COUNT)], kind="number"),
                ["data.task=regression", *SENTIMENT], [n / 8 for n in range(COUNT)]),
    "JSON-MIN": ("a.json", json_min(SINGLE), ["data.label=topics"], SINGLE),
    "JSON-MIN, several": ("a.json", json_min(SEVERAL),
                          ["data.task=multi_label", "data.label=topics"], SEVERAL),
    "Prodigy": ("a.jsonl", [choice(n, names) for n, names in enumerate(SINGLE)],
                ["data.label=accept"], SINGLE),
    "Prodigy, several": ("a.jsonl", [choice(n, names) for n, names in enumerate(SEVERAL)],
                         ["data.task=multi_label", "data.label=accept"], SEVERAL),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_the_proposed_settings_read_the_labels(name, tmp_path):
    file, rows, settings, labels = CASES[name]
    path = write(tmp_path / file, rows)
    assert detect_columns(path, DataConfig(name="files")) == settings
    values = dict(setting.removeprefix("data.").split("=") for setting in settings)
    read_rows = read(path, **values).train
    assert read_rows.column("text") == TEXTS
    is_single = values.get("task", "classification") == "classification"
    assert read_rows.column("label") == ([names[0] for names in labels] if is_single else labels)


def test_tasks_without_the_label_are_counted(tmp_path):
    rows = tasks(SINGLE)
    rows[0]["annotations"][0]["was_cancelled"] = True
    rows[1]["annotations"] = []
    rows[2]["annotations"][0]["result"] = []
    rows[3]["annotations"].append(annotation(["Negative"]))
    rows[4]["annotations"][0]["result"][0]["value"].update(start=0, end=3)  # of a part of the text
    path = write(tmp_path / "a.json", rows)
    counts = read(path, label="sentiment").train.accounting()
    assert counts["unused"] == {
        "skipped by the annotator": 1, "not annotated": 1, "annotated without this label": 2
    }  # fmt: skip
    assert counts["used"] == COUNT - 4
    assert counts["dropped"] == {"further annotation of a text ignored": 1}
    several = read(path, label="sentiment", task="multi_label").train
    assert several.column("label")[:2] == [[], ["Positive"]] and len(several) == COUNT - 2


def test_the_label_is_of_the_annotator_and_not_of_the_data(tmp_path):
    """A key ``label`` of the data is often the prediction of another model."""
    rows = tasks(SINGLE)
    for row in rows:
        row["data"]["label"] = "predicted"
    path = write(tmp_path / "a.json", rows)
    with pytest.raises(DataError, match=r"column 'label' not found.*sentiment") as caught:
        read(path)
    assert caught.value.proposed_settings == SENTIMENT
    assert "category" in str(caught.value)


def test_rejected_choices_do_not_decide_the_proposal(tmp_path):
    rows = [choice(n, names) for n, names in enumerate(SINGLE)]
    rows[3] |= {"accept": [], "answer": "ignore"}
    rows[4] |= {"accept": ["Positive", "Negative"], "answer": "reject"}
    path = write(tmp_path / "a.jsonl", rows)
    assert detect_columns(path, DataConfig(name="files")) == ["data.label=accept"]
    counts = read(path, label="accept").train.accounting()
    assert counts["unused"] == {"ignored by the annotator": 1, "rejected by the annotator": 1}
    assert (counts["used"], counts["skipped"]) == (COUNT - 2, {})


def test_answers_can_be_the_labels(tmp_path):
    rows = [
        {"text": text, "answer": "accept" if n % 2 else "reject"} for n, text in enumerate(TEXTS)
    ]
    path = write(tmp_path / "a.jsonl", rows)
    assert detect_columns(path, DataConfig(name="files")) == ["data.label=answer"]
    assert read(path, label="answer").class_names == ["accept", "reject"]


@pytest.mark.parametrize("is_csv", [False, True])
def test_some_lists_among_single_labels_need_another_task(is_csv, tmp_path):
    rows = json_min(SEVERAL)
    path = write(tmp_path / "a.json", rows)
    if is_csv:
        path = tmp_path / "a.csv"
        with open(path, "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["text", "topics"])
            for row in rows:
                topics = row["topics"]
                is_name = isinstance(topics, str)
                writer.writerow([row["text"], topics if is_name else json.dumps(topics)])
    with pytest.raises(DataError, match="8 of 24 labels are lists") as caught:
        read(path, label="topics")
    assert caught.value.proposed_settings == ["data.task=multi_label"]
    labels = read(path, label="topics", task="multi_label").train.column("label")
    assert labels == SEVERAL
