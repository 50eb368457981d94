"""Columns as people have them: labels in the line, ragged rows, backslashes, groups."""

from __future__ import annotations

import pytest
from transformers import BertTokenizerFast

from bertft.config.data import DataConfig
from bertft.data.splits import load_splits, load_unlabelled
from bertft.errors import BertftError
from bertft.tasks.shared.encoding import encode_texts


def read(path, content=None, **settings):
    if content is not None:
        path.write_text(content, newline="")
    data = DataConfig(name="files", train=str(path), validation=str(path), **settings)
    return load_splits(data).train


def refused(path, content=None, **settings) -> str:
    with pytest.raises(BertftError) as raised:
        read(path, content, **settings)
    return str(raised.value)


FASTTEXT = (
    "__label__pos a fine film\n\n__label__neg\ta bore , dull\n  __label__pos  ok __label__x\n"
)


@pytest.mark.usefixtures("read_both_ways")
@pytest.mark.parametrize("name", ["a.txt", "a.ft", "a.train", "a.valid"])
def test_lines_of_fasttext(tmp_path, name):
    rows = read(tmp_path / name, FASTTEXT, task="multi_label")
    assert rows.column("text") == ["a fine film", "a bore , dull", "ok"]
    assert rows.column("label") == [["pos"], ["neg"], ["pos", "x"]]
    assert rows.column("line") == [1, 3, 4] and rows.accounting()["blank_lines"] == 1
    message = refused(tmp_path / name)
    assert f"{name}:4" in message and "label" in message, "two classes"
    rows = load_unlabelled(str(tmp_path / name), DataConfig(name="x"))
    assert rows.column("text") == ["a fine film", "a bore , dull", "ok"]
    one = "".join(FASTTEXT.splitlines(keepends=True)[:3])
    assert read(tmp_path / name, one).column("label") == ["pos", "neg"]


def test_texts_that_are_not_fasttext(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("a fine __label__ film\n")
    rows = load_unlabelled(str(path), DataConfig(name="x"))
    assert rows.column("text") == ["a fine __label__ film"]
    assert "one text per line and no labels" in refused(path)
    assert "a.txt:3: no label" in refused(path, "__label__a x\n__label__b y\nz\n")
    assert "unknown file extension .train" in refused(tmp_path / "a.train", "x y\n")


def test_a_label_before_the_text(tmp_path):
    content = "1 so good, really\n0\ta bore\n1   ok\n"
    rows = read(tmp_path / "a.txt", content, format="label_text")
    assert rows.column("text") == ["so good, really", "a bore", "ok"]
    assert rows.column("label") == ["1", "0", "1"]
    assert "a.txt:4: empty text" in refused(
        tmp_path / "a.txt", content + "1\n", format="label_text"
    )


RAGGED = "text,label,note\na,x\nb,y,n,,\nc,x,n,and more\n,x\n"


@pytest.mark.usefixtures("read_both_ways")
def test_ragged_rows(tmp_path):
    path = tmp_path / "a.csv"
    assert "2 columns where 3 are expected" in refused(path, RAGGED)
    settings = {"on_bad_row": "skip", "max_skipped": 1.0}
    rows = read(path, RAGGED, ragged=True, **settings)
    assert rows.column("text") == ["a", "b", "c"] and rows.column("label") == ["x", "y", "x"]
    counts = rows.accounting()
    assert counts["skipped"] == {"empty text": 1}
    assert counts["dropped"] == {"text after the last column ignored": 1}
    assert "a.csv:3: no label" in refused(path, "text,note,label\na,n,x\nb\nc,n,y\n", ragged=True)


@pytest.mark.parametrize(
    ("name", "content", "settings", "texts"),
    [
        ("a.csv", 'text,label\n"say \\"hi\\", \\\\ you",a\nb\\, c,b\n', {},
         ['say "hi", \\ you', "b, c"]),
        ("a.tsv", "text\tlabel\none\\ttwo\\nthree\\\\n\ta\nx\\\ty\tb\n", {},
         ["one\ttwo\nthree\\n", "x\ty"]),
        ("a.csv", "text|label\na\\|b|a\nc\\\\|b\n", {"separator": "|", "quoting": False},
         ["a|b", "c\\"]),
    ],
)  # fmt: skip
def test_backslash_escapes(tmp_path, name, content, settings, texts):
    rows = read(tmp_path / name, content, escapes=True, **settings)
    assert rows.column("text") == texts and rows.column("label") == ["a", "b"]


def test_backslashes_are_text_by_default(tmp_path):
    rows = read(tmp_path / "a.tsv", "text\tlabel\none\\ttwo\ta\nc\\\\\tb\n")
    assert rows.column("text") == ["one\\ttwo", "c\\\\"]


@pytest.mark.usefixtures("read_both_ways")
@pytest.mark.parametrize("task", ["classification", "multi_label", "regression"])
def test_rows_of_a_group_are_held_out_together(tmp_path, task):
    lines = [f"text {row},{row % 2},author {row % 7}" for row in range(70)]
    (tmp_path / "a.csv").write_text("text,label,by\n" + "\n".join(lines) + "\n")
    data = DataConfig(name="x", train=str(tmp_path / "a.csv"), group="by", task=task)
    splits = load_splits(data)
    train, validation = (set(rows.column("group")) for rows in (splits.train, splits.validation))
    assert len(train) == 6 and len(validation) == 1 and not train & validation
    assert len(splits.validation) == 10
    other = load_splits(DataConfig(**{**data.__dict__, "seed": 3})).validation
    assert len(set(other.column("group"))) == 1


def test_a_group_that_is_missing(tmp_path):
    path = tmp_path / "a.csv"
    message = refused(path, "text,label,by\na,x,1\nb,y,\n", group="by")
    assert "a.csv:3: the column 'by' of data.group is empty" in message
    assert "or there is no such column" in refused(path, "text,label\na,x\nb,y\n", group="by")
    # Only training rows need one.
    (tmp_path / "t.csv").write_text("text,label\na,x\n")
    path.write_text("text,label,by\n" + "".join(f"t{n},{'xy'[n % 2]},{n}\n" for n in range(20)))
    data = DataConfig(name="x", train=str(path), test=str(tmp_path / "t.csv"), group="by")
    assert len(load_splits(data).test) == 1


def test_more_than_two_texts(tmp_path):
    """The tokenizer's separator is between the second text and each further one."""
    tokenizer = small_tokenizer()
    content = "a,b,c,label\none,two three,four \u241f,x\nfive,six,seven,y\n"
    rows = read(tmp_path / "a.csv", content, text=["a", "b", "c"])
    assert rows.column("text") == ["one", "five"]
    columns = encode_texts(tokenizer, rows.column("text"), rows.column("text_pair"), 32)
    tokens = [tokenizer.convert_ids_to_tokens(ids) for ids in columns["input_ids"]]
    assert tokens == [
        ["[CLS]", "one", "[SEP]", "two", "three", "[SEP]", "four", "[SEP]"],
        ["[CLS]", "five", "[SEP]", "six", "[SEP]", "seven", "[SEP]"],
    ]
    assert columns["token_type_ids"][1].tolist() == [0, 0, 0, 1, 1, 1, 1]
    tokenizer.sep_token = None
    with pytest.raises(BertftError, match="no separator token"):
        encode_texts(tokenizer, ["one"], rows.column("text_pair")[:1], 32)
    assert "empty text" in refused(tmp_path / "a.csv", content + "a,b,,x\n", text=["a", "b", "c"])


def small_tokenizer():
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words += ["one", "two", "three", "four", "five", "six", "seven"]
    return BertTokenizerFast(vocab={word: number for number, word in enumerate(words)})


def test_an_empty_second_text(tmp_path):
    path, settings = tmp_path / "a.csv", {"text": ["one", "two"]}
    content = "one,two,label\na,b,x\nc,,y\n"
    assert "a.csv:3: empty text" in refused(path, content, **settings)
    rows = read(path, content, empty_second=True, **settings)
    assert rows.column("text_pair") == ["b", ""]
    assert "empty text" in refused(path, content + ",d,x\n", empty_second=True, **settings)
    jsonl = tmp_path / "a.jsonl"
    content = '{"one": "a", "two": null, "label": 1}\n{"one": "b", "label": 2}\n'
    content += '{"one": "c", "two": "d", "label": 1}\n'
    rows = read(jsonl, content, empty_second=True, **settings)
    assert rows.column("text_pair") == ["", "", "d"]
    columns = encode_texts(small_tokenizer(), ["one"], [""], 32)
    assert columns["input_ids"][0].tolist() == [2, 5, 3, 3]
