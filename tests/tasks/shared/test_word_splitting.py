"""Words in texts, and texts of words."""

from __future__ import annotations

import pytest

from bertft.tasks.shared.word_splitting import (
    join_words,
    split_at_spaces,
    split_characters,
    split_words,
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Ann lives in Berlin.", "Ann lives in Berlin ."),
        ('The (Berlin, Germany) "U.S." etc.', 'The ( Berlin , Germany ) " U.S. " etc .'),
        ("Ann's J. R. don't 3.5%", "Ann 's J. R. don't 3.5 %"),
        ("@me #tag $5 e.g. well-known!", "@me #tag $5 e.g. well-known !"),
        ("... ?!", ". . . ? !"),
        ("  spaces\tand\nlines ", "spaces and lines"),
    ],
)
def test_a_text_is_split(text, words):
    assert [text[start:stop] for start, stop in split_words(text)] == words.split()


def test_chinese_characters_are_single_words():
    text = "我在北京。 OK 2024年"
    assert [text[a:b] for a, b in split_words(text)] == [*"我在北京。", "OK", "2024", "年"]


def test_joined_words_are_natural_text():
    assert join_words(["Ann", "lives", "."]) == ("Ann lives .", [(0, 3), (4, 9), (10, 11)])
    text, bounds = join_words([*"我在", "Berlin", *"。好"])
    assert text == "我在 Berlin 。好"
    assert [text[a:b] for a, b in bounds] == [*"我在", "Berlin", *"。好"]


def test_splitting_at_spaces_and_characters():
    assert split_at_spaces(" a  b.c ") == [(1, 2), (4, 7)]
    assert split_characters("a b") == [(0, 1), (2, 3)]
