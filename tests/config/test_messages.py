from __future__ import annotations

import pytest

from bertft.data.rows import BadRows, RowError, raise_or_skip
from bertft.errors import DataError
from bertft.utils.messages import (
    Problem,
    closest_name,
    format_list,
    quote_value,
    shorten,
    suggest,
    usage_error,
)


@pytest.mark.parametrize(
    ("word", "expected"),
    [("svdlora", "svd_lora"), ("SVD-LoRA", "svd_lora"), ("lor", "lora"), ("zebra", None)],
)
def test_the_nearest_word_survives_a_slip_and_its_spelling(word, expected):
    assert closest_name(word, ["lora", "svd_lora", "prefix"]) == expected


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("deberta", "deberta_v3_base"),  # more letters in common: modernbert_base
        ("modern", "modernbert_base"),
        ("chinese", "bert_base_chinese"),
        ("bert_bsae", "bert_base"),
        ("bert", "bert_base"),
    ],
)
def test_the_beginning_or_a_word_of_a_name_comes_before_similar_letters(word, expected):
    models = ["bert_base_chinese", "bert_base", "deberta_v3_base", "modernbert_base"]
    assert closest_name(word, models) == expected


def test_a_word_of_several_names_is_none_of_them():
    assert closest_name("rate", ["learning_rate", "b_rate_ratio"]) is None
    assert closest_name("rate", ["learning_rate", "b_ratio"]) == "learning_rate"


def test_numbers_may_be_choices():
    assert closest_name(10, [1, 100, "x"]) == "100"


def test_a_hint_names_the_nearest_else_all():
    assert suggest("trian", ["train", "eval"]) == "Did you mean 'train'?"
    assert suggest("zzz", ["train", "eval"]) == "One of: train, eval"
    assert suggest("zzz", []) == ""


def test_a_long_list_is_cut():
    assert format_list(range(5), max_items=3) == "0, 1, 2, ... (2 more)"


def test_long_names_are_shortened():
    assert shorten("x" * 60) == "x" * 60
    assert shorten("x" * 2_061) == "x" * 60 + "… (2,001 more characters)"
    assert quote_value("a\n" * 1_000) == "'" + "a\\n" * 30 + "'… (1,940 more characters)"
    assert quote_value(7) == "7"
    assert format_list(["x" * 10**6, "b"]) == "x" * 60 + "… (999,940 more characters), b"
    assert closest_name("x" * 10**6, ["x" * 10**6, "b"]) is None


def test_a_message_is_bounded_whatever_it_quotes():
    long = "x" * 10**6
    for error in (
        DataError(long, where=long, hint=long),
        DataError("\n".join([long] * 200)),
        usage_error([Problem(long, long, long), Problem("b", long)]),
    ):
        assert len(str(error)) < 110_000 and "more characters" in str(error)
    assert str(DataError("y" * 1_000, hint="Fix it")) == "y" * 1_000 + ". Fix it"


def test_bad_rows_are_shown_bounded():
    bad = BadRows("a.csv")
    bad.add(1, RowError("unknown label", "x" * 10**6))
    with pytest.raises(DataError, match="more characters") as caught:
        raise_or_skip([bad], "error")
    assert len(str(caught.value)) < 2_000 and len(bad.to_json()) < 2_000


def test_one_problem_is_an_error_of_its_own():
    error = usage_error([Problem("seed", "is odd", "Take 2")])
    assert (str(error), error.status) == ("seed: is odd. Take 2", 2)


def test_several_problems_are_reported_together_and_once_each():
    problems = [Problem("a", "x"), Problem("b", "y", "z"), Problem("a", "x")]
    assert str(usage_error(problems)) == "2 problems:\n  a: x\n  b: y. z"


def test_a_name_with_line_breaks_stays_in_its_line():
    """Else a label of a foreign folder could write a line that looks like one of bertft's."""
    assert format_list(["a\nerror: b", "c\r"]) == "a\\nerror: b, c\\r"
