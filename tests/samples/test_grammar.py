"""The grammar: its stream of choices, its expansion, and the surface it gives to a text."""

from __future__ import annotations

from collections import Counter

import pytest

from tools.make_samples.grammar import Choices, surface, write


def test_the_stream_is_fixed_by_its_names():
    stream = Choices("a", "b")
    assert [stream.below(1000) for _ in range(5)] == [459, 183, 2, 256, 627]
    assert Choices("a", "c").below(10**9) != Choices("a", "b").below(10**9)


def test_choices_are_even():
    stream = Choices("even")
    counts = Counter(stream.one("abcd") for _ in range(4000))
    assert set(counts) == set("abcd")
    assert all(900 < count < 1100 for count in counts.values())


def test_shuffled_keeps_every_item_and_reaches_every_order():
    stream, items = Choices("shuffle"), (1, 2, 3)
    counts = Counter(tuple(stream.shuffled(items)) for _ in range(1200))
    assert items == (1, 2, 3)
    assert len(counts) == 6
    assert all(sorted(order) == [1, 2, 3] for order in counts)
    assert all(140 < count < 260 for count in counts.values())


def test_symbols_within_symbols():
    rules = {"sentence": ["the {part} was {adjective}"], "part": ["plot"], "adjective": ["fine"]}
    assert write("{sentence}.", rules, Choices("x")) == "The plot was fine."


def test_no_alternative_comes_twice_before_all_have_come():
    rules = {"letter": ["b", "c", "d"]}
    for number in range(20):
        letters = write("{letter} {letter} {letter} {letter}", rules, Choices(str(number)))
        first, second, third, fourth = letters.lower().split()
        assert sorted([first, second, third]) == ["b", "c", "d"]
        assert fourth in "bcd"


def test_an_unknown_symbol():
    with pytest.raises(KeyError, match="verb"):
        write("{verb}", {}, Choices("x"))


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (
            "a awful plot. a ugly one! is it a end? a pear",
            "An awful plot. An ugly one! Is it an end? A pear",
        ),
        (
            "a one-man show, a useful unit, a unique act, a european",
            "A one-man show, a useful unit, a unique act, a european",
        ),
        (
            "a unfriendly host, a honest one, a uninspired one, a hour",
            "An unfriendly host, an honest one, an uninspired one, an hour",
        ),
        ("extra apples; we ate", "Extra apples; we ate"),
        ("2 pears. then 3. So", "2 pears. Then 3. So"),
    ],
)  # fmt: skip
def test_surface(written, expected):
    assert surface(written) == expected
