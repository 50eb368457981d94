"""Files of annotation tools: the tags of their texts, their errors and their accounting."""

from __future__ import annotations

import io
import json

import pyarrow as pa
import pytest
from annotation_files import (
    FILES,
    ROWS,
    TAGS,
    doccano,
    label_studio,
    label_studio_task,
    prodigy_task,
    spacy_pairs_in_lines,
)
from pyarrow import parquet

from bertft.config.data import DataConfig
from bertft.data.prediction_rows import InputErrors, iter_row_blocks, open_input_file
from bertft.data.propose_columns import detect_columns
from bertft.data.rows import format_accounting
from bertft.data.rows_in_memory import rows_to_files
from bertft.data.splits import load_splits
from bertft.data.standard_input import open_standard_input
from bertft.errors import DataError, UsageError

CLASSES = ["O", *(f"{prefix}-{name}" for name in ("LOC", "MISC", "ORG", "PER") for prefix in "BI")]
# The third row in messages, if it is not the third line.
LOCATIONS = {
    "Label Studio": ", task 3",
    "Label Studio in lines": ", task 3",
    "Label Studio, JSON-MIN": ", object 3",
    "Label Studio, CSV": ":4",
    "spaCy": ", object 3",
    "spaCy, objects": ", object 3",
}
SKIP = {"on_bad_row": "skip", "max_skipped": 1.0}


def config(path, **settings):
    return DataConfig(name="files", **{"task": "token_classification", **settings}, train=str(path))


@pytest.fixture
def read(tmp_path):
    def build(content, name="train.jsonl", split="train", **settings):
        path = tmp_path / name
        if isinstance(content, pa.Table):
            parquet.write_table(content, path)
        else:
            path.write_text(content, encoding="utf-8", newline="")
        return load_splits(config(path, **settings), (split,))

    return build


def words(text, starts, stops):
    return [text[start:stop] for start, stop in zip(starts, stops, strict=True)]


@pytest.mark.usefixtures("read_both_ways")
@pytest.mark.parametrize("tool", FILES)
def test_texts_and_tags(read, tool):
    extension, write = FILES[tool]
    splits = read(write(ROWS), f"train{extension}")
    rows = splits.train
    assert rows.column("text") == [text for text, _ in ROWS], "no character of a text is lost"
    assert rows.column("label") == TAGS
    assert words(*(rows.column(name)[2] for name in ("text", "starts", "stops"))) == [
        "叶", "老", "桂", "说", "2019", "年", "in", "北", "京"
    ]  # fmt: skip
    assert splits.class_names == CLASSES
    assert splits.notes == ["the spans are converted to bio tags of words"]
    counts = rows.accounting()
    assert (counts["read"], counts["used"]) == (3, 3)
    assert not (counts["skipped"] or counts["unused"] or counts["dropped"])


@pytest.mark.parametrize("tool", FILES)
def test_a_span_that_is_not_whole_words_is_reported_or_its_row_is_skipped(read, tool):
    extension, write = FILES[tool]
    bad = ("Oslo is a city", [(0, 3, "LOC")])
    content = write([*ROWS[:2], bad, ROWS[2]])
    with pytest.raises(DataError) as raised:
        read(content, f"train{extension}")
    message = str(raised.value)
    location = LOCATIONS.get(tool, ":3")
    assert f"train{extension}{location}: the span 'Osl' (LOC, 0 to 3) ends inside" in message
    assert "Move the ends of these spans to the borders of words" in message
    rows = read(content, f"train{extension}", **SKIP).train
    assert rows.column("label") == TAGS
    counts = rows.accounting()
    assert (counts["read"], counts["used"]) == (4, 3)
    assert counts["skipped"] == {"span not at the borders of words": 1}


@pytest.mark.parametrize("tool", FILES)
def test_rows_to_predict_are_the_texts(tmp_path, tool):
    extension, write = FILES[tool]
    path = tmp_path / f"input{extension}"
    path.write_text(write(ROWS), encoding="utf-8", newline="")
    source = open_input_file(str(path), config("train.conll", text=0, label=1))
    [block] = iter_row_blocks(source, InputErrors(source.name, source.unit), 100, 10_000)
    assert [row.error for row in block] == [None] * 3
    assert [row.values[0] for row in block] == [text for text, _ in ROWS]
    assert [len(row.values[1]) for row in block] == [len(tags) for tags in TAGS]


@pytest.mark.parametrize("tool", FILES)
def test_the_task_is_detected(read, tmp_path, tool):
    extension, write = FILES[tool]
    with pytest.raises(DataError) as raised:
        read(write(ROWS * 3), f"train{extension}", task="classification")
    assert "data.task=token_classification" in raised.value.proposed_settings
    path = tmp_path / f"train{extension}"
    assert detect_columns(path, DataConfig(name="files")) == ["data.task=token_classification"]


def test_columns_with_other_names_are_proposed(read):
    content = json.dumps({"sentence": "EU rejects it", "ents": [[0, 2, "ORG"]], "n": 1}) + "\n"
    rows = read(content, text="sentence", label="ents").train
    assert rows.column("label") == [["B-ORG", "O", "O"]]
    for task in ("token_classification", "classification"):
        with pytest.raises(DataError) as raised:
            read(content, task=task)
        assert raised.value.proposed_settings[-2:] == ["data.text=sentence", "data.label=ents"]


def test_spans_in_parquet_and_in_python_notation(read):
    spans = [[{"start": s, "end": e, "label": name} for s, e, name in row] for _, row in ROWS]
    table = pa.table({"text": [text for text, _ in ROWS], "entities": spans})
    assert read(table, "train.parquet").train.column("label") == TAGS
    fields = [f'"{text}","{row!r}"' for text, row in ROWS[:2]]
    rows = read("text,entities\n" + "\n".join(fields) + "\n", "train.csv").train
    assert rows.column("label") == TAGS[:2]


def test_spans_in_memory(tmp_path):
    """(0, 2, "ORG") has no Arrow type, and rows of a program are stored in Parquet."""
    rows = [{"text": text, "entities": spans} for text, spans in [*ROWS, ("no label", None)]]
    path = rows_to_files(rows, tmp_path, "train")
    data = config(path, **SKIP | {"max_skipped": 0.3})
    assert load_splits(data, ("train",)).train.column("label") == TAGS


def test_words_of_prodigy_are_kept(read, tmp_path):
    """The tokens of the file end where its spans end, although a text to predict has one word."""
    text = "a Berlin-based band"
    tokens = [(0, 1), (2, 8), (8, 9), (9, 14), (15, 19)]
    row = {
        "text": text, "spans": [{"start": 2, "end": 8, "label": "LOC"}],
        "tokens": [{"text": text[a:b], "start": a, "end": b, "id": n, "ws": True}
                   for n, (a, b) in enumerate(tokens)],
    }  # fmt: skip
    rows = read(json.dumps(row) + "\n").train
    assert rows.column("label") == [["O", "B-LOC", "O", "O", "O"]]
    source = open_input_file(str(tmp_path / "train.jsonl"), config("x.jsonl"))
    [[predicted]] = iter_row_blocks(source, InputErrors(source.name), 9, 999)
    assert list(zip(*predicted.values[1:], strict=True)) == tokens
    del row["tokens"]
    with pytest.raises(DataError, match=r"'Berlin' .* ends inside the word 'Berlin-based'"):
        read(json.dumps(row) + "\n")


def test_rejected_and_ignored_tasks_of_prodigy_are_counted(read, tmp_path):
    overlapping = ("Oslo Rome", [(0, 9, "LOC"), (5, 9, "LOC")])
    tasks = [
        prodigy_task(ROWS[0]), prodigy_task(overlapping, "reject"),
        prodigy_task(ROWS[1], "ignore"), prodigy_task(ROWS[1]), prodigy_task(ROWS[0], "reject"),
    ]  # fmt: skip
    content = "".join(json.dumps(task) + "\n" for task in tasks)
    rows = read(content).train
    assert rows.column("line") == [1, 4]
    assert format_accounting("train", rows.accounting()) == (
        "train: 5 rows read = 2 used + 2 rejected by the annotator + 1 ignored by the annotator"
    )
    # predict answers all of them.
    source = open_input_file(str(tmp_path / "train.jsonl"), config("x.jsonl"))
    [block] = iter_row_blocks(source, InputErrors(source.name), 9, 9_999)
    assert len(block) == 5
    with pytest.raises(DataError, match=r"no rows to use \(1 × rejected by the annotator\)"):
        read(json.dumps(tasks[1]) + "\n")


@pytest.mark.usefixtures("read_both_ways")
def test_several_files_count_excluded_rows(tmp_path):
    for name in ("a.jsonl", "b.jsonl"):
        lines = [prodigy_task(ROWS[1]), prodigy_task(ROWS[0], "reject")]
        content = "".join(json.dumps(line) + "\n" for line in lines)
        (tmp_path / name).write_text(content, encoding="utf-8")
    (tmp_path / "c.json").write_text(
        json.dumps([label_studio_task(1, ROWS[0]), label_studio_task(2, ROWS[0], annotations=[])])
    )
    data = config(tmp_path, validation_fraction=0.4)
    counts = load_splits(data).train.accounting()
    assert counts["unused"] == {
        "rejected by the annotator": 2, "not annotated": 1, "held out for validation": 1
    }  # fmt: skip
    assert (counts["read"], counts["used"]) == (6, 2)


def test_tasks_of_label_studio_that_are_not_annotated(read, tmp_path):
    cancelled = label_studio_task(3, ROWS[0])
    cancelled["annotations"][0]["was_cancelled"] = True
    several = label_studio_task(4, ROWS[0])
    other = label_studio_task(4, ("", []))["annotations"][0]
    several["annotations"] = [other, {**several["annotations"][0], "ground_truth": True}]
    tasks = [
        label_studio_task(1, ROWS[1]), label_studio_task(2, ROWS[0], annotations=[]), cancelled,
        several,
    ]  # fmt: skip
    rows = read(json.dumps(tasks), "train.json").train
    assert rows.column("label") == [TAGS[1], TAGS[0]] and rows.column("line") == [1, 4]
    assert format_accounting("train", rows.accounting()) == (
        "train: 4 rows read = 2 used + 1 not annotated + 1 skipped by the annotator;"
        " 1 × further annotation of a text ignored"
    )
    source = open_input_file(str(tmp_path / "train.json"), config("x.json"), ["id", "label"])
    [block] = iter_row_blocks(source, InputErrors(source.name, source.unit), 9, 9_999)
    assert [row.kept_values[0] for row in block] == [1, 2, 3, 4]
    assert [row.kept_values[1] is None for row in block] == [False, True, True, False]
    with pytest.raises(DataError, match=r"no rows to use \(1 × not annotated\)"):
        read(json.dumps(tasks[1:2]), "train.json")


def test_controls_of_label_studio(read, tmp_path):
    task = label_studio_task(1, ROWS[1])
    result = task["annotations"][0]["result"]
    result.append({"type": "choices", "from_name": "topic", "value": {"choices": ["news"]}})
    result.append(
        {"type": "labels", "from_name": "aspect", "value": {"start": 0, "end": 3, "labels": ["A"]}}
    )
    with pytest.raises(DataError, match="overlap"):
        read(json.dumps([task]), "train.json")
    assert read(json.dumps([task]), "train.json", label="label").train.column("label") == TAGS[1:2]
    rows = read(json.dumps([task]), "train.json", label="aspect").train
    assert rows.column("label") == [["B-A", *["O"] * 10]]
    with pytest.raises(DataError, match=r"no span has the from_name 'labels'.*aspect, label"):
        read(json.dumps([task]), "train.json", label="labels")
    result[-1]["type"] = "hypertextlabels"
    with pytest.raises(DataError, match=r"train\.json, task 1: the task has hypertextlabels"):
        read(json.dumps([task]), "train.json")
    source = open_input_file(str(tmp_path / "train.json"), config("x.json"))
    [[row]] = iter_row_blocks(source, InputErrors(source.name, source.unit), 9, 9_999)
    assert row.error is None and row.values[0] == ROWS[1][0], "predict needs no annotation"


def test_tasks_of_label_studio_with_another_key_and_without_data(read):
    task = label_studio_task(1, ROWS[0], data={"sentence": ROWS[0][0]})
    with pytest.raises(DataError, match="column 'text' not found") as raised:
        read(json.dumps([task]), "train.json")
    assert raised.value.proposed_settings == ["data.text=sentence"]
    assert read(json.dumps([task]), "train.json", text="sentence").train.column("label") == TAGS[:1]
    tasks = [label_studio_task(1, ROWS[0]), label_studio_task(2, ROWS[0], data=None)]
    with pytest.raises(DataError, match=r"train\.json, task 2: the task has no object 'data'"):
        read(json.dumps(tasks), "train.json")


def test_a_long_first_task_of_label_studio_is_detected(read):
    row = ("Oslo " * 20_000, [(0, 4, "LOC")])
    rows = read(label_studio([row]), "train.json").train
    assert rows.column("label")[0][:3] == ["B-LOC", "O", "O"]


def test_offsets_of_javascript_are_counted(read):
    text = "😀 Oslo"
    region = {"start": 3, "end": 7, "text": "Oslo", "labels": ["LOC"]}
    rows = read(json.dumps([{"text": text, "label": [region]}]), "train.json").train
    assert rows.column("label") == [["O", "B-LOC"]]
    assert rows.accounting()["dropped"] == {"offsets of a span converted from UTF-16 code units": 1}


@pytest.mark.parametrize(
    ("scheme", "tags"),
    [
        ("bioes", ["B-PER", "E-PER", "O", "S-LOC"]),
        ("biluo", ["B-PER", "E-PER", "O", "S-LOC"]),
        ("bios", ["B-PER", "I-PER", "O", "B-LOC"]),
        ("bmes", ["B-PER", "E-PER", "O", "S-LOC"]),
    ],
)
def test_the_scheme_of_spans_can_be_set(read, scheme, tags):
    rows = read(doccano(ROWS), scheme=scheme).train
    assert rows.column("label")[1][:4] == tags


def test_schemes_that_merge_spans_are_refused(read):
    with pytest.raises(UsageError, match=r"data\.scheme: io is for tags, but the rows have spans"):
        read(doccano(ROWS), scheme="io")


def test_spans_are_scored_in_the_scheme_of_the_model(read, tmp_path):
    path = tmp_path / "dev.jsonl"
    path.write_text(doccano(ROWS), encoding="utf-8")
    classes = ["O", *(f"{p}-{name}" for name in ("LOC", "MISC", "ORG", "PER") for p in "BIES")]
    data = DataConfig(name="x", task="token_classification", validation=str(path))
    splits = load_splits(data, ("validation",), model_classes=classes, training=False)
    assert splits.validation.column("label")[1][:4] == ["B-PER", "E-PER", "O", "S-LOC"]
    with pytest.raises(DataError, match="the label 'B-LOC' is not one of"):
        load_splits(data, ("validation",), ["O", "B-PER", "I-PER"], training=False)


def test_names_for_the_labels_of_spans(read):
    """Types have no prefix in data.labels; a mapping can rename them, or leave them out with O."""
    splits = read(doccano(ROWS), labels=["PER", "LOC", "ORG", "MISC"])
    assert splits.train.column("label") == TAGS
    assert splits.class_names[:5] == ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
    with pytest.raises(DataError, match="the label 'B-MISC' is not one of"):
        read(doccano(ROWS), labels=["PER", "LOC", "ORG"])
    numbered = [(text, [(s, e, {"PER": 5, "LOC": 7}.get(n, 9)) for s, e, n in spans])
                for text, spans in ROWS]  # fmt: skip
    splits = read(doccano(numbered), labels={5: "PER", 7: "LOC", 9: "O"})
    assert splits.train.column("label") == [["O"] * 5, *TAGS[1:]]
    assert splits.class_names == ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]


def test_integer_tags_with_names(read):
    names = ["O", "B-LOC", "I-LOC"]
    row = {"text": ["to", "New", "York"], "label": [0, 1, 2]}
    for label, text in ((row["label"], row["text"]), ("0 1 2", "to New York")):
        content = json.dumps({"text": text, "label": label}) + "\n"
        assert read(content, labels=names).train.column("label") == [["O", "B-LOC", "I-LOC"]]
    by_number = {2: "I-LOC", 1: "B-LOC", 0: "O"}
    content = json.dumps([row], indent=1)
    rows = read(content, "train.json", labels=by_number).train
    assert rows.column("label") == [["O", "B-LOC", "I-LOC"]]


def test_empty_labels(read):
    """[] is a text without entities; null is a missing label, unless the text is annotated."""
    content = '{"text": "EU it", "label": [[0, 2, "ORG"]]}\n{"text": "a b", "label": %s}\n'
    assert read(content % "[]").train.column("label")[1] == ["O", "O"]
    with pytest.raises(DataError, match=r"train\.jsonl:2: no label"):
        read(content % "null")
    for annotated in ('"annotation_id": 4', '"answer": "accept"'):
        rows = read(content % f"null, {annotated}").train
        assert rows.column("label")[1] == ["O", "O"]
    with pytest.raises(DataError, match="all words have the tag O"):
        read('{"text": "a b", "label": []}\n')


@pytest.mark.parametrize("value", ["null", '""', '" \\n"', "7"])
def test_a_text_that_is_missing(read, value):
    content = (
        f'{{"text": "EU", "label": [[0, 2, "X"]]}}\n{{"text": {value}, "label": [[0, 1, "X"]]}}\n'
    )
    with pytest.raises(DataError, match=r"train\.jsonl:2: .*(empty text|the text is the number 7)"):
        read(content)


def test_spacy_pairs_on_standard_input():
    content = spacy_pairs_in_lines(ROWS)
    for text in (content, json.dumps([json.loads(line) for line in content.splitlines()])):
        source = open_standard_input(io.BytesIO(text.encode()), config("x.jsonl"))
        [block] = iter_row_blocks(source, InputErrors(source.name), 9, 9_999)
        assert [row.values[0] for row in block] == [text for text, _ in ROWS]


def test_spans_are_not_labels_of_other_tasks(read):
    rows = [{"text": text, "label": spans} for text, spans in ROWS * 2]
    content = "".join(json.dumps(row) + "\n" for row in rows)
    with pytest.raises(DataError) as raised:
        read(content, task="classification")
    assert "data.task=classification, but most labels are spans" in str(raised.value)
    assert "Set data.task=token_classification" in str(raised.value)
    assert raised.value.proposed_settings == ["data.task=token_classification"]
