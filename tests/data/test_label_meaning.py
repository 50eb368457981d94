"""A label means what the file says: by name or number, by position only where the user says so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bertft.config.data import DataConfig
from bertft.data.splits import Splits, load_splits
from bertft.errors import DataError, UsageError


def write(path: Path, labels) -> str:
    rows = [{"text": f"text {row}", "label": label} for row, label in enumerate(labels)]
    path.write_text("\n".join(map(json.dumps, rows)))
    return str(path)


def read(
    folder: Path, train, validation, task="classification", classes=None, **settings
) -> Splits:
    config = DataConfig(
        name="x", task=task, train=write(folder / "train.jsonl", train),
        validation=write(folder / "dev.jsonl", validation), **settings,
    )  # fmt: skip
    return load_splits(config, model_classes=classes)


def labels(splits: Splits) -> tuple[list, list]:
    return splits.train.column("label"), splits.validation.column("label")


@pytest.mark.parametrize(
    ("train", "validation", "expected"),
    [
        (["1.0", "2.0"], ["1", "2", 1.0], ["1.0", "2.0", "1.0"]),
        ([1, 2], ["1.0", "2e0", "+1"], ["1", "2", "1"]),
        (["0.50", "1"], [0.5, True and 1], ["0.50", "1"]),
        (["007", "7"], ["7", "007"], ["7", "007"]),  # a leading zero marks a code
        ([-1, 1], ["-1.0", "+1"], ["-1", "1"]),
    ],
)
def test_a_number_is_the_class_of_the_same_number(tmp_path, train, validation, expected):
    assert labels(read(tmp_path, train, validation)) == ([str(label) for label in train], expected)


def test_spellings_of_one_number_are_one_class(tmp_path):
    splits = read(tmp_path, ["1.0", "2", "1"], ["2.00"])
    assert splits.class_names == ["1", "2"]
    assert labels(splits) == (["1", "2", "1"], ["2"])
    assert splits.label_mapping == {"1.0": "1", "2.00": "2"}


def test_an_unknown_number_is_an_unknown_label(tmp_path):
    with pytest.raises(DataError, match=r"dev.jsonl:2: the label '0' is not one of '1.0', '2.0'"):
        read(tmp_path, ["1.0", "2.0"], ["1", "0"])
    with pytest.raises(DataError, match=r"the label 'positve'.*did you mean 'positive'"):
        read(tmp_path, ["positive", "negative"], ["positive", "positve"])


def test_names_and_numbers_are_not_matched_by_guess(tmp_path):
    names = ["entailment", "neutral", "contradiction"]
    with pytest.raises(
        DataError, match=r"numbers '0', '1', '2', but the classes are 'contradiction'"
    ):
        read(tmp_path, names, [0, 1, 2])
    with pytest.raises(DataError, match=r"the class of each number is unknown"):
        read(tmp_path, names, [0, 1, 2], on_bad_row="skip", max_skipped=1.0)
    with pytest.raises(DataError, match=r"the classes are the numbers '0', '1', '2'"):
        read(tmp_path, [0, 1, 2], names, on_bad_row="skip", max_skipped=1.0)
    splits = read(tmp_path, names, [0, 1, 2], labels=names)
    assert labels(splits) == (names, names)
    assert labels(read(tmp_path, [0, 1, 2], names, labels=names)) == (names, names)


def test_a_mapping_of_numbers_is_reported(tmp_path):
    splits = read(tmp_path, [0, 1], ["no", "yes"], labels=["no", "yes"])
    assert splits.label_mapping == {"0": "no", "1": "yes"}


@pytest.mark.parametrize("numbers", [[1, 2, 3, 4], [1, 2, 3]])
def test_numbers_from_1_are_not_shifted(tmp_path, numbers):
    names = ["World", "Sports", "Business", "Tech"]
    with pytest.raises(DataError, match=r"Map each number to its name.*1: World"):
        read(tmp_path, numbers, numbers, labels=names, on_bad_row="skip", max_skipped=1.0)
    mapping = dict(enumerate(names, start=1))
    splits = read(tmp_path, numbers, ["1.0", "3"], labels=mapping)
    assert splits.class_names == names
    assert labels(splits) == ([mapping[number] for number in numbers], ["World", "Business"])


def test_a_mapping_may_join_classes(tmp_path):
    splits = read(tmp_path, ["1", "2", "3"], [3], labels={1: "low", 2: "low", "3": "high"})
    assert splits.class_names == ["low", "high"]
    assert labels(splits) == (["low", "low", "high"], ["high"])
    with pytest.raises(DataError, match=r"the label '4' is not one of 'low', 'high'"):
        read(tmp_path, ["1", "2", "3"], [4], labels={1: "low", 2: "low", 3: "high"})


def test_a_missing_label_is_not_the_last_class(tmp_path):
    splits = read(
        tmp_path, [0, 1, 2], [0, -1, 2], labels=["a", "b", "c"], on_bad_row="skip", max_skipped=1.0
    )
    assert labels(splits)[1] == ["a", "c"]


def test_rows_of_a_trained_model_have_its_classes_in_its_order(tmp_path):
    model = ["contradiction", "entailment", "neutral"]
    given = ["entailment", "neutral", "contradiction"]
    with pytest.raises(DataError, match=r"the class of each number is unknown"):
        read(tmp_path, [0, 1], [0], classes=model)
    splits = read(tmp_path, [0, 1, 2], [2], classes=model, labels=given)
    assert splits.class_names == model
    assert labels(splits) == (given, ["contradiction"])
    placeholders = ["LABEL_0", "LABEL_1"]  # which are positions by what transformers means
    assert labels(read(tmp_path, [0, 1], [1], classes=placeholders))[1] == ["LABEL_1"]
    with pytest.raises(DataError, match=r"set data.labels=.*names of the model"):
        read(tmp_path, ["neg", "pos"], ["neg"], classes=placeholders)


def test_columns_of_labels_are_matched_by_name(tmp_path):
    path = tmp_path / "dev.jsonl"
    path.write_text('{"text": "x", "loud": 1, "rude": 0}')
    config = DataConfig(name="x", task="multi_label", validation=str(path), label=["loud", "rude"])
    rows = load_splits(config, ("validation",), model_classes=["rude", "loud"]).validation
    assert rows.column("label") == [["loud"]]


@pytest.mark.parametrize(
    "label", ["['sport', 'politics']", '["sport"]', "[0, 1, 1]", ["sport", "a"]]
)
def test_a_list_is_not_a_class(tmp_path, label):
    with pytest.raises(DataError, match=r"most labels are lists .*Set data.task=multi_label"):
        read(tmp_path, [label] * 3, [label], on_bad_row="skip", max_skipped=1.0)
    with pytest.raises(DataError, match=r"train.jsonl:3: the label .* is a list"):
        read(tmp_path, ["a", "b", label], ["a"])


def test_a_name_can_look_like_a_list(tmp_path):
    assert read(tmp_path, ["[1]", "b"], ["b"], labels=["[1]", "b"]).class_names == ["[1]", "b"]
    assert read(tmp_path, ["[PER]", "[LOC]"], ["[PER]"]).class_names == ["[LOC]", "[PER]"]


@pytest.mark.parametrize(
    "train",
    [
        ["['b', 'a']", '["c"]', "[]"],
        [["b", "a"], ["c"], []],
        ["b|a", "c", ""],
    ],
)
def test_lists_of_labels_as_text_are_lists(tmp_path, train):
    splits = read(tmp_path, train, ["['a', 'a']"], "multi_label")
    assert splits.class_names == ["a", "b", "c"]
    assert labels(splits) == ([["b", "a"], ["c"], []], [["a"]])


@pytest.mark.parametrize("label", ["['a' 'b']", "[0 1 1]"])
def test_a_list_without_commas_is_not_guessed(tmp_path, label):
    with pytest.raises(DataError, match=r"is not a valid list"):
        read(tmp_path, ["a|b", label], ["a"], "multi_label")


@pytest.mark.parametrize(
    "rows",
    [
        [[1, 0, 1], [0, 0, 0], [0, 1, 0]],
        ["[1, 0, 1]", "[0, 0, 0]", "[0, 1, 0]"],
        ["1|0|1", "0|0|0", "0|1|0"],
        [[1.0, 0.0, 1.0], [0.0, 0.0, 0.0], [False, True, False]],
    ],
)
def test_lists_of_0_and_1_are_multi_hot_labels(tmp_path, rows):
    with pytest.raises(
        DataError, match=r"a list of 3 values 0 or 1, and the classes have no names"
    ):
        read(tmp_path, rows, rows, "multi_label")
    splits = read(tmp_path, rows, rows, "multi_label", labels=["a", "b", "c"])
    assert labels(splits)[0] == [["a", "c"], [], ["b"]] == labels(splits)[1]
    assert splits.label_mapping["position 0"] == "a"
    with pytest.raises(DataError, match=r"data.labels has 2 names"):
        read(tmp_path, rows, rows, "multi_label", labels=["a", "b"])


def test_lists_of_two_bits_are_multi_hot_labels(tmp_path):
    with pytest.raises(DataError, match=r"a list of 2 values 0 or 1"):
        read(tmp_path, [[1, 0], [0, 1]], [[1, 0]], "multi_label")


def test_lists_of_class_numbers_are_not_multi_hot_labels(tmp_path):
    splits = read(tmp_path, [[0], [1, 2], [2]], [[1]], "multi_label", labels=["a", "b", "c"])
    assert labels(splits) == ([["a"], ["b", "c"], ["c"]], [["b"]])


def test_a_wrong_label_separator_is_detected(tmp_path):
    rows = ["a;b", "b;c", "a;c", "a", "b;a"]
    with pytest.raises(DataError, match=r"never two per row.*'data.label_separator=;'"):
        read(tmp_path, rows, rows, "multi_label")
    assert read(tmp_path, rows, rows, "multi_label", label_separator=";").class_names == [
        "a",
        "b",
        "c",
    ]
    names = ["a", "a;b", "a;c", "b;a", "b;c"]
    assert read(tmp_path, rows, rows, "multi_label", labels=names).class_names == names
    some = read(tmp_path, [*rows, "c|d"], rows, "multi_label")
    assert any("label_separator=;" in note for note in some.notes)


def test_names_with_commas_are_accepted(tmp_path):
    names = ["Food, drink", "Arts, culture", "Sport"]
    splits = read(tmp_path, [*names, "Sport|Food, drink"], names, "multi_label")
    assert splits.class_names == sorted(names) and splits.notes == []


def test_too_many_distinct_labels_are_rejected(tmp_path):
    rows = [f"label {row}#other {row}" for row in range(30)]
    with pytest.raises(DataError, match=r"30 different labels in 30 rows.*label_separator"):
        read(tmp_path, rows, rows[:2], "multi_label")


def test_joined_labels_in_classification_are_reported(tmp_path):
    splits = read(tmp_path, ["a|b", "b|c", "a|c", "b|a", "c"], ["c"])
    assert ["data.task=multi_label" in note for note in splits.notes] == [True]


def test_a_long_label_is_shortened_in_messages(tmp_path):
    with pytest.raises(DataError) as caught:
        read(tmp_path, ["x" * 5000, "y" * 5000], ["z" * 5000])
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["a", "a", "b"], r"data.labels: lists the class 'a' twice"),
        (["", "a"], r"'' is not a class name"),
        ([None, "a"], r"None is not a class name"),
        ({1: "a", "1.0": "b"}, r"maps the label '1.0' to 'a' and to 'b'"),
        ({0: "a", 1: None}, r"None is not a class name"),
    ],
)
def test_invalid_class_names_are_rejected(tmp_path, given, message):
    with pytest.raises(UsageError, match=message):
        read(tmp_path, [0, 1], [0, 1], labels=given)


def test_a_number_that_matches_two_names_is_unknown(tmp_path):
    names = ["1.1", "1.10"]
    assert labels(read(tmp_path, names, names, labels=names)) == (names, names)
    with pytest.raises(DataError, match=r"the label '1.100' is not one of"):
        read(tmp_path, names, ["1.100", "1.1"], labels=names)


@pytest.mark.parametrize("label", ["('a', 'b')", "('b',)", "{'a', 'b'}", "set()", "[a, b]"])
def test_tuples_sets_and_lists_without_quotes_are_not_classes(tmp_path, label):
    with pytest.raises(DataError, match=r"train.jsonl:3: the label .* is a list"):
        read(tmp_path, ["(a)", "b", label], ["b"])
    assert read(tmp_path, ["a", label], [label], labels=["a", label]).class_names == ["a", label]


def test_tuples_and_sets_of_labels_are_lists(tmp_path):
    splits = read(tmp_path, ["('b', 'a')", "{'c'}", "set()"], ["('a',)"], "multi_label")
    assert labels(splits) == ([["b", "a"], ["c"], []], [["a"]])
    for label in ("[a, b]", "{0, 1}"):
        with pytest.raises(DataError, match=r"is not a valid list"):
            read(tmp_path, ["a,b", label], ["a"], "multi_label", label_separator=",")


@pytest.mark.parametrize("task", ["classification", "multi_label"])
@pytest.mark.parametrize("label", [{"a": 1, "b": 0}, "{'a': 1, 'b': 0}"])
def test_a_mapping_is_not_a_class(tmp_path, task, label):
    with pytest.raises(DataError, match=r"train.jsonl:3: the label .* is a mapping"):
        read(tmp_path, ["a", "b", label], ["a"], task)


def test_a_single_value_that_is_not_text_is_one_label(tmp_path):
    splits = read(tmp_path, [True, [False], 1.0], [[True], [1]], "multi_label")
    assert labels(splits) == ([["true"], ["false"], ["1"]], [["true"], ["1"]])


def test_the_first_split_decides_what_lists_of_numbers_mean(tmp_path):
    splits = read(tmp_path, [[0], [1], [0, 1]], [[0, 1]] * 2, "multi_label", labels=["a", "b"])
    assert labels(splits)[1] == [["a", "b"]] * 2
    with pytest.raises(DataError, match=r"dev.jsonl: each label of the first split is a list of 2"):
        read(tmp_path, [[0, 1], [1, 0], [1, 1]], [[0], [1]], "multi_label", labels=["a", "b"])
    splits = read(tmp_path, [[0, 1], [1, 0]], [["a"], []], "multi_label", labels=["a", "b"])
    assert labels(splits) == ([["b"], ["a"]], [["a"], []])


@pytest.mark.parametrize(
    "pair", [("Pos", "pos"), ("caf\u00e9", "cafe\u0301"), ("new york", "new\u00a0york")]
)
def test_similar_class_names_are_reported(tmp_path, pair):
    splits = read(tmp_path, [*pair, "x"], ["x"])
    assert len(splits.class_names) == 3
    assert [ascii(pair[0]) in note for note in splits.notes] == [True]
    with pytest.raises(DataError, match=r"differs from it only in case, white space or Unicode"):
        read(tmp_path, [pair[0], "x"], [pair[1]])


def test_names_of_columns(tmp_path):
    path = tmp_path / "dev.jsonl"
    path.write_text('{"text": "x", "loud": 1, "rude": 0}')

    def rows(names):
        config = DataConfig(
            name="x", task="multi_label", validation=str(path), label=["loud", "rude"], labels=names
        )
        splits = load_splits(config, ("validation",))
        return splits.class_names, splits.validation.column("label"), splits.label_mapping

    assert rows(["rude", "loud"]) == (["rude", "loud"], [["loud"]], {})
    assert rows(["L", "R"]) == (["L", "R"], [["L"]], {"column loud": "L", "column rude": "R"})
    with pytest.raises(UsageError, match=r"name 1 is 'Rude', but column 1 of data.label is 'loud'"):
        rows(["Rude", "Loud"])


def test_text_with_an_underscore_is_not_a_number(tmp_path):
    with pytest.raises(DataError, match=r"the label '1_000' is not a finite number"):
        read(tmp_path, [1, "1_000", 3], [1], "regression")


def test_train_without_a_valid_label_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"train.jsonl:1: the label .* is a mapping"):
        read(tmp_path, [{"a": 1}, {"b": 1}], [1])


def test_classes_without_a_column_are_reported(tmp_path):
    path = tmp_path / "dev.csv"
    path.write_text("text,b\none,1\ntwo,0\n")
    config = DataConfig(name="x", task="multi_label", validation=str(path), label=["b"])
    splits = load_splits(config, ("validation",), model_classes=["a", "b", "c"])
    assert splits.notes == ["data.label has no column for a, c: no row has these labels"]
    assert splits.validation.column("label") == [["b"], []]
