"""Tags as files have them: numbers, lists in text, one word per row, another scheme per split."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet
import pytest

from bertft.config.data import DataConfig
from bertft.data.splits import load_splits, load_unlabelled
from bertft.errors import DataError
from bertft.tasks.shared.label_lists import parse_list

SENTENCES = [
    (["Ann", "Lee", "sang"], ["B-PER", "I-PER", "O"]),
    (["In", "Oslo"], ["O", "B-LOC"]),
    (["\u3000", "a\u00a0b", "\u200b", "Ann"], ["O", "B-LOC", "I-LOC", "B-PER"]),
]
CLASSES = ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"]


def as_json_lines(rows):
    return "".join(json.dumps({"text": words, "label": tags}) + "\n" for words, tags in rows)


def as_conll(rows):
    return "\n".join("".join(f"{w}\t{t}\n" for w, t in zip(*row, strict=True)) for row in rows)


def as_csv(rows, spelled):
    cells = ((spelled(words), spelled(tags)) for words, tags in rows)
    quoted = (",".join('"' + cell.replace('"', '""') + '"' for cell in row) for row in cells)
    return "text,label\n" + "".join(f"{line}\n" for line in quoted)


@pytest.fixture
def read(tmp_path):
    def write(content, name):
        path = tmp_path / name
        if isinstance(content, str):
            path.write_text(content, encoding="utf-8", newline="")
        else:
            pa.parquet.write_table(pa.Table.from_pylist(content), path)
        return str(path)

    def build(content, name, validation=None, **settings):
        path = write(content, name)
        other = path if validation is None else write(validation, f"dev.{name.split('.')[-1]}")
        config = DataConfig(
            name="t", task="token_classification", train=path, validation=other, **settings
        )
        return load_splits(config)

    return build


def rows_of(rows):
    actual = rows.slice(0, len(rows)).to_pylist()
    return [
        ([row["text"][a:b] for a, b in zip(row["starts"], row["stops"], strict=True)], row["label"])
        for row in actual
    ]


FORMS = {
    "a.jsonl": as_json_lines(SENTENCES),
    "a.conll": as_conll(SENTENCES),
    "a.parquet": [{"text": words, "label": tags} for words, tags in SENTENCES],
    "json.csv": as_csv(SENTENCES, json.dumps),
    "python.csv": as_csv(SENTENCES, repr),
}


@pytest.mark.parametrize("name", FORMS)
def test_the_same_rows_from_every_form(read, name):
    splits = read(FORMS[name], name)
    assert rows_of(splits.train) == SENTENCES
    assert splits.class_names == CLASSES


def test_words_and_tags_in_one_string_each(read):
    rows = [(" ".join(words), " ".join(tags)) for words, tags in SENTENCES]
    text = "text,label\n" + "".join(f"{words},{tags}\n" for words, tags in rows)
    assert rows_of(read(text, "a.csv").train) == SENTENCES


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('["a", "b"]', ["a", "b"]),
        ("['a', \"it's\", 1, None]", ["a", "it's", 1, None]),
        (" [] ", []),
        ("[0 1]", None),
        ("['a' 'b']", None),
        ("['a'\n 'b']", None),
        ("[nan]", None),
        ("[__import__('os').getcwd()]", None),
        ("[laughs]", None),
        ("a [b]", None),
        ("{'a': 1}", None),
        ("[" * 100_000 + "]" * 100_000, None),
    ],
)
def test_a_list_in_text(text, expected):
    assert parse_list(text) == expected


def test_lists_in_text_that_cannot_be_read_are_bad_rows(read):
    """numpy prints no commas, and Python would join the strings to one."""
    good = as_csv(SENTENCES, repr)
    with pytest.raises(
        DataError, match=r":\d+: the tags are in brackets, but not a JSON or Python list"
    ):
        read(good + "\"['Ann' 'sang']\",\"['B-PER' 'O']\"\n", "a.csv")
    with pytest.raises(DataError, match="2 words, but 1 tags"):
        read(good + "\"['Ann', 'sang']\",\"['O']\"\n", "a.csv")


def test_brackets_are_words_if_the_number_of_tags_requires_it(read):
    text = "text,label\n[ Music ] Ann,O O O B-PER\n[Ann],B-PER\nIn Oslo,O B-LOC\n"
    assert rows_of(read(text, "a.csv").train)[:2] == [
        (["[", "Music", "]", "Ann"], ["O", "O", "O", "B-PER"]), (["[Ann]"], ["B-PER"])
    ]  # fmt: skip


def numbered(names=CLASSES):
    return [(words, [names.index(tag) for tag in tags]) for words, tags in SENTENCES]


def test_numbers_need_names(read):
    numbers = as_json_lines(numbered())
    with pytest.raises(DataError, match=r"\(0, 1, 2, 3, 4\) without names"):
        read(numbers, "a.jsonl")
    splits = read(numbers, "a.jsonl", labels=CLASSES)
    assert rows_of(splits.train) == SENTENCES and splits.class_names == CLASSES
    with pytest.raises(DataError, match=r"names of data\.labels are for 0 to 4: 7 has no name"):
        read(numbers.replace("4", "7"), "a.jsonl", labels=CLASSES)
    # By name in train, by number in validation: their order is not known.
    with pytest.raises(DataError, match=r"dev\.jsonl: the tags are numbers"):
        read(as_json_lines(SENTENCES), "a.jsonl", numbers)


def test_a_mapping_names_numbers_and_tags(read):
    numbers = as_json_lines(numbered())
    labels = dict(enumerate(CLASSES))
    assert rows_of(read(numbers, "a.jsonl", labels=labels).train) == SENTENCES
    other = as_json_lines([(["Ann", "sang"], ["per", "nothing"])])
    splits = read(other, "a.jsonl", labels={"nothing": "O", "per": "PER"})
    assert rows_of(splits.train) == [(["Ann", "sang"], ["PER", "O"])]


def test_true_and_false_need_names(read):
    rows = [(words, [tag != "O" for tag in tags]) for words, tags in SENTENCES]
    with pytest.raises(DataError, match=r"true and false \(false, true\) without names"):
        read(as_json_lines(rows), "a.jsonl")
    splits = read(as_json_lines(rows), "a.jsonl", labels={False: "O", True: "NAME"})
    assert rows_of(splits.train)[1] == (["In", "Oslo"], ["O", "NAME"])


def test_configured_names_of_another_notation_are_kept(read):
    names = ["O", "B_PER", "I_PER", "B_LOC", "I_LOC"]
    spelled = [(words, [tag.replace("-", "_") for tag in tags]) for words, tags in SENTENCES]
    splits = read(as_json_lines(spelled), "a.jsonl", as_json_lines(SENTENCES), labels=names)
    assert splits.class_names == names
    assert rows_of(splits.train) == rows_of(splits.validation) == spelled
    splits = read(as_json_lines(spelled), "a.jsonl")
    assert splits.class_names == CLASSES and rows_of(splits.train) == SENTENCES
    assert splits.notes == [
        "the tags are bio (detected)",
        f"{splits.train.source}: tags are written as B_X and converted to B-X",
    ]


def biluo(tags):
    return [
        {"B-PER": "B-PER", "I-PER": "L-PER", "I-LOC": "L-LOC"}.get(tag, tag) for tag in tags[:-1]
    ] + [{"B-PER": "U-PER", "B-LOC": "U-LOC"}.get(tags[-1], tags[-1])]


def test_splits_are_converted_to_the_scheme_of_train(read):
    other = as_json_lines([(words, biluo(tags)) for words, tags in SENTENCES])
    splits = read(as_json_lines(SENTENCES), "a.jsonl", other)
    assert rows_of(splits.validation) == rows_of(splits.train) == SENTENCES
    assert splits.notes == [
        "the tags are bio (detected)",
        f"{splits.validation.source}: biluo tags are converted to bio, with the same entities",
    ]
    splits = read(other, "a.jsonl", as_json_lines(SENTENCES))
    assert rows_of(splits.validation) == rows_of(splits.train)
    assert rows_of(splits.train)[0][1] == ["B-PER", "E-PER", "O"]
    assert splits.class_names[:5] == ["O", "B-LOC", "I-LOC", "E-LOC", "S-LOC"]
    without_prefixes = as_json_lines(
        [(words, [tag[2:] or "O" for tag in tags]) for words, tags in SENTENCES]
    )
    with pytest.raises(DataError, match=r"dev\.jsonl: the tags have no prefix \('LOC', 'PER'\)"):
        read(as_json_lines(SENTENCES), "a.jsonl", without_prefixes)
    with pytest.raises(DataError, match=r"dev\.jsonl: the tags have a prefix"):
        read(without_prefixes, "a.jsonl", as_json_lines(SENTENCES))


def test_a_column_that_has_no_tags(read):
    """The default is the last one, which in CoNLL-U has no tags."""
    text = "".join(f"{folder}\tword\t_\n\n" for folder in range(9))
    with pytest.raises(DataError, match="every word has the tag '_'"):
        read(text, "a.conll", text=1)
    text = "\n".join(f"w{work_dir}\tlemma{work_dir % 60}\n" for work_dir in range(99))
    with pytest.raises(DataError, match=r"60 different tags in 99 words \(lemma0, lemma1,"):
        read(text, "a.conll")


def test_a_model_whose_classes_have_no_names(tmp_path):
    path = tmp_path / "a.conll"
    path.write_text("Ann\tB-PER\n", encoding="utf-8")
    config = DataConfig(name="t", task="token_classification", validation=str(path))
    with pytest.raises(DataError, match=r"these are placeholders: set data\.labels="):
        load_splits(config, ["validation"], model_classes=["LABEL_0", "LABEL_1"])


KAGGLE = "Sentence #,Word,POS,Tag\n" + "".join(
    f"{f'Sentence: {number // 3}' if number % 3 == 0 else ''},{word},X,{tag}\n"
    for number, (word, tag) in enumerate([("Ann", "B-PER"), ("sang", "O"), ("here", "O")] * 4)
)


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
@pytest.mark.parametrize("text", ["Word", "Sentence #"])
@pytest.mark.parametrize("policy", ["error", "skip"])
def test_one_word_per_row_is_rejected(read, name, text, policy):
    content = KAGGLE
    if name == "a.jsonl":
        head, *lines = (line.split(",") for line in KAGGLE.splitlines())
        content = "".join(json.dumps(dict(zip(head, line, strict=True))) + "\n" for line in lines)
    with pytest.raises(DataError, match=r"looks like a table with one word per row\. A row must"):
        read(content, name, text=text, label="Tag", on_bad_row=policy)


def test_lists_in_text_to_predict(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('text\n"[""Ann"", ""Lee""]"\n[Ann] sang\n', encoding="utf-8")
    config = DataConfig(name="t", task="token_classification")
    assert load_unlabelled(str(path), config).column("text") == ["Ann Lee", "[Ann] sang"]


@pytest.mark.parametrize("tag", ["_", "OTHER", "None", "o"])
def test_another_word_for_outside_is_not_an_entity(read, tag):
    content = f"Ann PER\nsang {tag}\n\nOslo LOC\nis {tag}\n"
    with pytest.raises(DataError, match=rf"the tag '{tag}' .*data.scheme=io"):
        read(content, "t.conll")
    assert tag in read(content, "t.conll", scheme="io").class_names
    named = read(content, "t.conll", labels={tag: "O", "PER": "PER", "LOC": "LOC"})
    assert named.class_names == ["O", "PER", "LOC"]
    assert tag in read(content + "and O\n", "t.conll").class_names
