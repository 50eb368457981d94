"""Words and tags from every format, and what is wrong with them, by file and line."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet
import pytest

from bertft.config.data import DataConfig
from bertft.data.splits import load_splits, load_unlabelled
from bertft.errors import DataError, UsageError

pytestmark = pytest.mark.usefixtures("read_both_ways")

CONLL = """\
-DOCSTART- -X- O O

EU NNP B-NP B-ORG
rejects VBZ B-VP O
# NN B-NP O
German JJ B-NP B-MISC

# a comment
Peter NNP B-NP B-PER
Blackburn NNP I-NP I-PER
"""
FIRST = {"text": "EU rejects # German", "label": ["B-ORG", "O", "O", "B-MISC"]}
SECOND = {"text": "Peter Blackburn", "label": ["B-PER", "I-PER"]}
LABELS = ["O", "B-MISC", "I-MISC", "B-ORG", "I-ORG", "B-PER", "I-PER"]


@pytest.fixture
def read(tmp_path):
    def build(content, name="train.conll", **settings):
        path = tmp_path / name
        if isinstance(content, str):
            path.write_text(content, encoding="utf-8")
        elif isinstance(content, bytes):
            path.write_bytes(content)
        settings = {"task": "token_classification", "validation": str(path), **settings}
        config = DataConfig(name="test", train=str(path), **settings)
        return load_splits(config)

    return build


def content(rows):
    return rows.slice(0, len(rows), ["text", "label"]).to_pylist()


def words(rows):
    return [
        [row["text"][a:b] for a, b in zip(row["starts"], row["stops"], strict=True)]
        for row in rows.table.to_pylist()
    ]


@pytest.mark.parametrize("name", ["a.conll", "a.txt", "a.tsv", "a.train", "a"])
@pytest.mark.parametrize("separator", [" ", "\t"])
def test_conll(read, name, separator):
    splits = read(CONLL.replace(" ", separator).replace("#\ta\t", "# a "), name)
    assert content(splits.train) == [FIRST, SECOND]
    assert words(splits.train)[0] == ["EU", "rejects", "#", "German"]
    assert splits.train.column("line") == [3, 9]
    assert splits.class_names == LABELS
    assert splits.notes == ["the tags are bio (detected)"]
    assert "step" not in splits.train.columns


def test_columns_are_chosen(read):
    splits = read(CONLL, text=0, label=2)
    assert splits.class_names == ["O", "B-NP", "I-NP", "B-VP", "I-VP"]
    with pytest.raises(DataError, match=r"train.conll: data.label=7, but .* from 0 to 3"):
        read(CONLL, label=7)
    with pytest.raises(DataError, match=r"data\.label=ner is a name, but the file has no header"):
        read(CONLL, label="ner")


def test_blank_lines_with_white_space_and_windows_line_ends_and_a_bom(read):
    splits = read(b"\xef\xbb\xbfa\tB-X\r\n\t\r\nb\tO\r\n \r\n\r\n")
    assert words(splits.train) == [["a"], ["b"]]


def test_lists_in_json_lines_and_parquet(read, tmp_path):
    rows = [{"tokens": ["Ann", "sings"], "tags": ["B-P", "O"]}, {"tokens": ["ok"], "tags": ["O"]}]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    pa.parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    for given, name in ((lines, "a.jsonl"), (None, "a.parquet")):
        splits = read(given, name, text="tokens", label="tags")
        assert content(splits.train) == [
            {"text": "Ann sings", "label": ["B-P", "O"]},
            {"text": "ok", "label": ["O"]},
        ]
        assert splits.class_names == ["O", "B-P", "I-P"]


def test_text_with_a_string_of_tags(read):
    splits = read('text,label\nAnn sings,B-P O\n北京好,B-L I-L O\n"a b","O O"\n', "a.csv")
    assert words(splits.train) == [["Ann", "sings"], ["北", "京", "好"], ["a", "b"]]


def test_classes_by_number_and_name(read):
    rows = '{"text": ["a", "b"], "label": [1, 2]}\n{"text": ["c"], "label": [0]}\n'
    splits = read(rows, "a.jsonl", labels=["O", "B-X", "I-X"])
    assert content(splits.train) == [
        {"text": "a b", "label": ["B-X", "I-X"]}, {"text": "c", "label": ["O"]}
    ]  # fmt: skip
    assert splits.class_names == ["O", "B-X", "I-X"]


def test_iob1_is_converted_to_bio_and_reported(read):
    splits = read("a I-X\nb B-X\nc I-Y\n\nd O\ne I-X\n")
    assert content(splits.train) == [
        {"text": "a b c", "label": ["B-X", "B-X", "B-Y"]},
        {"text": "d e", "label": ["O", "B-X"]},
    ]
    assert splits.class_names == ["O", "B-X", "I-X", "B-Y", "I-Y"]
    assert splits.notes == [
        "the tags are iob1 (detected)",
        f"{splits.train.source}: iob1 tags are converted to bio, with the same entities",
    ]


@pytest.mark.parametrize(
    ("tags", "scheme", "labels"),
    [
        ("B-X E-X S-X O", "bioes", ["O", "B-X", "I-X", "E-X", "S-X"]),
        ("B-X M-X E-X O", "bmes", ["O", "B-X", "M-X", "E-X", "S-X"]),
        ("X X O Y", "io", ["O", "X", "Y"]),
        ("NOUN VERB", "io", ["NOUN", "VERB"]),
    ],
)
def test_other_schemes(read, tags, scheme, labels):
    text = "".join(f"w {tag}\n" for tag in tags.split())
    splits = read(text)
    assert splits.class_names == labels
    assert splits.notes == [f"the tags are {scheme} (detected)"]
    assert read(text, scheme=scheme).notes == []


FAULTS = [
    ("a\tO\nb\nc\tB-X\n\nd\tB-X\n", "train.conll:2: 1 column where 2 are expected"),
    ("a\tO\nb\t\n\nd\tB-X\n", "train.conll:2: column 1 is empty"),
    ("a\tB-X\n\n# no word\na\tO\n# here\nb\tO\n", "train.conll:5: 1 column where 2 are expected"),
    ("a\tB-X\n\nb\tO\nc\tI-X\n",
     "train.conll:4: 'I-X' of the word 'c' is invalid after 'O' (bio)"),
    ("a\tB-X\n\nb\tO\nc\tX\n", "train.conll:4: 'X' of the word 'c' is not a tag of bio"),
    ("a\tS-X\nd\tB-X\ne\tE-X\n\nb\tO\nc\tB-X\n",
     "train.conll:6: 'B-X' of the last word 'c' does not end its entity (bioes)"),
    ("a\tB-X\n\nb\x00\tO\n", "train.conll:3: the word contains a NUL byte"),
    (b"a\tB-X\n\nb\tO\n\xff\tO\n", "train.conll:4: the word contains bytes that are not valid"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), FAULTS)
def test_an_invalid_sentence_is_reported_with_its_line_or_skipped(read, text, message):
    with pytest.raises(DataError) as caught:
        read(text)
    assert message in str(caught.value)
    assert caught.value.status == 2
    splits = read(text, on_bad_row="skip", max_skipped=1.0)
    assert sum(splits.train.bad.counts.values()) == 1
    assert len(splits.train) >= 1


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('{"text": ["a", "b"], "label": ["O"]}', ":2: 2 words, but 1 tags"),
        ('{"text": ["a", ""], "label": ["O", "O"]}', ":2: word 2 is empty"),
        ('{"text": ["a", 3], "label": ["O", "O"]}', ":2: word 2 is the number 3, not a string"),
        ('{"text": [], "label": []}', ":2: empty text"),
        ('{"text": ["a"], "label": {"x": 1}}', ":2: the tags are an object, not a list"),
        ('{"text": ["a"], "label": [null]}', ":2: word 1 has no tag"),
        ('{"text": 5, "label": ["O"]}', ":2: the text is the number 5, not a string"),
        ('{"text": ["a"], "label": null}', ":2: no label"),
    ],
)
def test_a_bad_row_of_lists(read, row, message):
    text = f'{{"text": ["a"], "label": ["B-X"]}}\n{row}\n'
    with pytest.raises(DataError) as caught:
        read(text, "a.jsonl")
    assert message in str(caught.value)
    assert len(read(text, "a.jsonl", on_bad_row="skip", max_skipped=1.0).train) == 1


def test_files_without_sentences_or_entities(read):
    with pytest.raises(DataError, match="the file is empty"):
        read("")
    with pytest.raises(DataError, match="the file is empty"):
        read("\n-DOCSTART- O\n\n \n")
    with pytest.raises(DataError, match="all words have the tag O"):
        read("a O\nb O\n")
    with pytest.raises(UsageError, match="expected one column of words, got 2"):
        read(CONLL, text=[0, 1])


def test_a_type_that_is_not_in_train_is_an_unknown_label(read, tmp_path):
    other = tmp_path / "dev.conll"
    other.write_text("a B-X\n\nb B-Z\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"dev.conll:3: the label 'B-Z' is not one of 'O', 'B-X'"):
        read("a B-X\nb I-X\n", validation=str(other))


def test_tags_without_rows_are_missing_only_if_their_type_is(read):
    """Entities of one word have no I-X, and O is not needed for a type."""
    splits = read("a B-X\nb O\n")
    occurring = set(splits.schema.label_statistics(splits.train.table))
    assert occurring == {"B-X", "O"} and splits.class_names == ["O", "B-X", "I-X"]
    assert splits.schema.missing_classes(splits.class_names, occurring) == []
    classes = [*splits.class_names, "B-Y", "I-Y"]
    assert splits.schema.missing_classes(classes, occurring) == ["B-Y", "I-Y"]
    assert splits.schema.missing_classes(["O", "X", "Y"], {"X"}) == ["O", "Y"]


def test_a_test_split_without_tags(read, tmp_path):
    other = tmp_path / "test.jsonl"
    other.write_text('{"text": ["a", "b"], "label": null}\n', encoding="utf-8")
    splits = read('{"text": ["a"], "label": ["B-X"]}\n', "a.jsonl", test=str(other))
    assert splits.test is not None and not splits.test.has_labels
    assert words(splits.test) == [["a", "b"]]


def test_rows_to_predict(tmp_path):
    config = DataConfig(name="t", task="token_classification", text=0, label=1)
    inputs = {
        "a.jsonl": '{"text": "Ann lives."}\n',
        "b.jsonl": '{"id": 1, "words": ["Ann", "lives", "."]}\n',
        "c.jsonl": '{"tokens": ["Ann", "lives", "."]}\n',
        "d.txt": "Ann lives.\n",
        "e.conll": "Ann\tO\nlives\tO\n.\tO\n",
        "f.csv": "text\nAnn lives.\n",
    }
    for name, text in inputs.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
        rows = load_unlabelled(str(tmp_path / name), config)
        assert words(rows) == [["Ann", "lives", "."]], name
        assert not rows.has_labels
    (tmp_path / "g.jsonl").write_text('{"sentence": "x"}\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"column 'text' not found"):
        load_unlabelled(str(tmp_path / "g.jsonl"), config)


@pytest.mark.parametrize("tags", [("I-ORG", "B-ORG"), ("B-ORG", "I-ORG")])
def test_tags_are_converted_in_chunks(read, monkeypatch, tags):
    """iob1 and bio: a scheme that is found in a later piece holds for the first one too."""
    lines = ["EU I-ORG\nUS O" if tags[0] == "I-ORG" else "EU B-ORG\nUS O"] * 3
    lines += [f"EU {tags[0]}\nUS {tags[1]}", "EU X-ORG\nUS O"] * 2
    text = "\n\n".join(lines)
    whole = read(text, on_bad_row="skip", max_skipped=1.0).train
    monkeypatch.setattr("bertft.tasks.token_classification.tag_reader._CHUNK_ROWS", 2)
    pieces = read(text, on_bad_row="skip", max_skipped=1.0).train
    assert pieces.table.equals(whole.table) and pieces.bad.counts == whole.bad.counts
    scheme = "iob1" if tags[0] == "I-ORG" else "bio"
    assert pieces.bad.counts == {f"'X-ORG' is not a tag of {scheme}": 2} and len(pieces) == 5
    assert content(pieces)[0]["label"] == ["B-ORG", "O"]


def test_valid_tags_are_not_copied(read, monkeypatch, tmp_path):
    monkeypatch.setenv("BERTFT_CACHE", str(tmp_path))
    monkeypatch.setattr("bertft.data.data_sources.MIN_CACHED_BYTES", 0)
    text = "\n\n".join(f"word{folder} B-ORG\nother I-ORG" for folder in range(20_000))
    before = pa.total_allocated_bytes()
    splits = read(text)
    assert splits.train.table.nbytes > 1_500_000
    assert pa.total_allocated_bytes() - before < 100_000
