"""The bundled samples: found by name, the same for all time, held-out rows really held out."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from collections import Counter
from functools import cache

import pytest

from bertft.errors import UsageError
from bertft.samples import SPLITS, load_sample, sample_names

ROWS = {
    "sentiment": {"train": 2400, "validation": 402, "test": 402},
    "pair": {"train": 2400, "validation": 300, "test": 300},
}
CONTENT = {
    ("sentiment", "train"): "b8693c1ab380fd7204ddca3916f3c7e7556a54bd76f756161291668c904da610",
    ("sentiment", "validation"): "262ea0521a7ce59e0ceedba55a5e7fae81a5dd7c43483206a1d43fa1ca832dcd",
    ("sentiment", "test"): "7c3493087304ef10f198c5b76cef535fbea9960e6424240f3ed96e9561480e6c",
    ("pair", "train"): "23374b4adf8fe45da3d213cfa316c1cac2df939f3cdcb74f67ebd2db5f256825",
    ("pair", "validation"): "94b1ed0a4830b3d8fdc1305a7fbb05a32247f5e5a9440ac6c1f285656ac6fb81",
    ("pair", "test"): "2109429912c8813ddc4cb418297d882b6124c68af1bf035ba832dc9e904a3bed",
    ("qa", "train"): "864643a7054825dbeb3f687c0bf83c9e8dd04913d4b64fee7773705b258b0c69",
    ("qa", "validation"): "5e690fbc21a367fb9660e5e461b124ce0d3ccfaadde6cca4c31fe35bf5a0c816",
    ("qa", "test"): "1cd6b197d639b06f1ce90da78fc60c83fe54245ed4dbae1ba124198c2c79a797",
}
NER = {
    ("ner", "train"): "b44a8b895f9741abdb177ace1be83d0bc7ab6b08ae1cbd2a60d8b14ee4663e24",
    ("ner", "validation"): "d832639e68487f60c456b49a7eb25e36399a7c718cd40ec5189f33e2c0bede32",
    ("ner", "test"): "26e156797f05523ea2a397313f65f564984871c86a220111a763d94ac9407145",
}
CLASSES = {
    "sentiment": {"negative", "neutral", "positive"},
    "pair": {"supported", "unsupported"},
}
EVERY_SPLIT = [(name, split) for name in ROWS for split in SPLITS]


@cache
def rows(name: str, split: str) -> list[tuple[str, ...]]:
    """The texts of each row."""
    content = load_sample(name, split)
    return list(zip(*(content[column] for column in content if column != "label"), strict=True))


def test_names():
    assert sample_names() == ("ner", "pair", "qa", "sentiment")


@pytest.mark.parametrize(
    ("name", "split", "where", "nearest"),
    [
        ("sentimnt", "train", "data.sample", "Did you mean 'sentiment'?"),
        ("grammar", "train", "data.sample", "One of: ner, pair, qa, sentiment"),
        ("texts", "train", "data.sample", "One of: ner, pair, qa, sentiment"),
        ("pair", "valid", "data.sample=pair", "Did you mean 'validation'?"),
    ],
)
def test_what_there_is_not(name, split, where, nearest):
    with pytest.raises(UsageError) as raised:
        load_sample(name, split)
    assert raised.value.status == 2
    assert raised.value.where == where
    assert raised.value.hint == nearest


@pytest.mark.parametrize(("name", "split"), EVERY_SPLIT)
def test_columns_rows_and_balance(name, split):
    content = load_sample(name, split)
    columns = ["text", "label"] if name == "sentiment" else ["text", "text_pair", "label"]
    assert list(content) == columns
    assert {len(values) for values in content.values()} == {ROWS[name][split]}
    counts = Counter(content["label"])
    assert set(counts) == CLASSES[name]
    assert len(set(counts.values())) == 1


@pytest.mark.parametrize(("name", "split"), CONTENT)
def test_the_content_never_changes(name, split):
    content = json.dumps(load_sample(name, split)).encode()
    assert hashlib.sha256(content).hexdigest() == CONTENT[name, split]


def test_the_content_depends_neither_on_the_hash_seed_nor_on_heavy_packages():
    program = (
        "import hashlib, json, sys\n"
        "from bertft.samples import SPLITS, load_sample, sample_names\n"
        "for name in sample_names():\n"
        "    for split in SPLITS:\n"
        "        content = json.dumps(load_sample(name, split)).encode()\n"
        "        print(name, split, hashlib.sha256(content).hexdigest())\n"
        "print(sorted({'numpy', 'torch', 'transformers', 'hydra'} & set(sys.modules)))\n"
    )
    content = CONTENT | NER
    expected = [
        f"{name} {split} {content[name, split]}" for name in sample_names() for split in SPLITS
    ]
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONHASHSEED": "7", "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == [*expected, "[]"]


@pytest.mark.parametrize(("name", "split"), EVERY_SPLIT)
def test_no_row_comes_twice(name, split):
    texts = rows(name, split)
    assert len(set(texts)) == len(texts)


@pytest.mark.parametrize("name", ROWS)
def test_no_row_of_a_split_stands_in_another(name):
    train, validation, test = (set(rows(name, split)) for split in SPLITS)
    assert not train & validation
    assert not train & test
    assert not validation & test


@pytest.mark.parametrize("name", ROWS)
def test_no_text_is_shared(name):
    train, validation, test = (
        {text for row in rows(name, split) for text in row} for split in SPLITS
    )
    assert not train & validation
    assert not train & test
    assert not validation & test


@pytest.mark.parametrize(("name", "split"), EVERY_SPLIT)
def test_every_text_has_its_surface(name, split):
    for text in (text for row in rows(name, split) for text in row):
        assert text[0].isupper() or text[0].isdigit()
        assert text[-1] in ".!?"
        assert not re.search(r"[{}]|  |[.!?;:,]{2}| [.!?;:,]|[.!?] [a-z]", text), text
        assert not re.search(r"\b[Aa] [aeio]|\b[Aa]n [^aeiouh]", text), text
        assert len(text.split()) <= 40


@pytest.mark.parametrize(("name", "bound"), [("sentiment", 0.6), ("pair", 0.65)])
@pytest.mark.parametrize("split", ["validation", "test"])
@pytest.mark.parametrize("kind", ["words", "pairs of words"])
def test_a_bag_of_words_does_not_solve_it(name, bound, split, kind):
    text = pytest.importorskip("sklearn.feature_extraction.text")
    linear = pytest.importorskip("sklearn.linear_model")
    if kind == "words":
        bag, model = text.CountVectorizer(), linear.LogisticRegression(max_iter=1000)
    else:
        bag = text.TfidfVectorizer(ngram_range=(1, 2))
        model = linear.LogisticRegression(C=10, max_iter=1000)
    train = [" ".join(row) for row in rows(name, "train")]
    held_out = [" ".join(row) for row in rows(name, split)]
    model.fit(bag.fit_transform(train), load_sample(name, "train")["label"])
    accuracy = model.score(bag.transform(held_out), load_sample(name, split)["label"])
    assert accuracy <= bound
