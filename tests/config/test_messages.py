from __future__ import annotations

import pytest

from bertft.config.messages import Problem, did_you_mean, listing, nearest, usage_error


@pytest.mark.parametrize(
    ("word", "expected"),
    [("svdlora", "svd_lora"), ("SVD-LoRA", "svd_lora"), ("lor", "lora"), ("zebra", None)],
)
def test_the_nearest_word_survives_a_slip_and_its_spelling(word, expected):
    assert nearest(word, ["lora", "svd_lora", "prefix"]) == expected


def test_numbers_may_be_choices():
    assert nearest(10, [1, 100, "x"]) == "100"


def test_a_hint_names_the_nearest_else_all():
    assert did_you_mean("trian", ["train", "eval"]) == "did you mean 'train'?"
    assert did_you_mean("zzz", ["train", "eval"]) == "one of: train, eval"
    assert did_you_mean("zzz", []) == ""


def test_a_long_list_is_cut():
    assert listing(range(5), longest=3) == "0, 1, 2, ... (2 more)"


def test_one_problem_is_an_error_of_its_own():
    error = usage_error([Problem("seed", "is odd", "Take 2")])
    assert (str(error), error.status) == ("seed: is odd. Take 2", 2)


def test_several_problems_are_told_together_and_once_each():
    problems = [Problem("a", "x"), Problem("b", "y", "z"), Problem("a", "x")]
    assert str(usage_error(problems)) == "2 things are wrong:\n  a: x\n  b: y. z"
