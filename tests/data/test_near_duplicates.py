from __future__ import annotations

import random

import pytest

from bertft.data import near_duplicates
from bertft.data.near_duplicates import find_near_duplicates, jaccard

WORDS = [f"w{number:03d}" for number in range(400)]


def sentence(rng, words=20):
    return " ".join(rng.choice(WORDS) for _ in range(words))


def test_the_similarity_of_two_texts():
    assert jaccard("abcdef", "abcdef") == 1.0
    assert jaccard("abcdef", "abcdeg") == pytest.approx(1 / 3)  # abcde; bcdef, bcdeg
    assert jaccard("", "") == 1.0 and jaccard("a", "b") == 0.0


def test_edited_copies_are_found_and_others_are_not():
    rng = random.Random(5)
    references = [(sentence(rng),) for _ in range(2_000)]
    queries, expected = [], {}
    for number in range(300):
        if number % 3 == 0:
            source = rng.randrange(len(references))
            text = references[source][0] + " again"
            expected[number] = source
        elif number % 3 == 1:
            text = sentence(rng)
        else:  # half of the text is another one: similarity about 0.33
            half = references[rng.randrange(len(references))][0].split()[:10]
            text = " ".join([*half, *sentence(rng, 10).split()])
        queries.append((text,))
    chunks = [references[:700], references[700:1400], references[1400:]]
    matches = find_near_duplicates(queries, chunks)
    assert {query: number for query, (number, _) in matches.items()} == expected
    assert all(texts == references[number] for number, texts in matches.values())


def test_both_texts_of_a_pair_must_be_similar():
    rng = random.Random(6)
    premise = sentence(rng, 40)
    reference = (premise, "it is a good idea to go there today")
    queries = [(premise, "nobody likes that"), (premise + " x", reference[1])]
    assert list(find_near_duplicates(queries, [[reference]])) == [1]


def test_short_and_chinese_texts():
    queries = [("a",), ("",), ("这部电影真的非常好看我很喜欢这个故事吗",)]
    references = [("b",), ("这部电影真的非常好看我很喜欢这个故事吧",)]
    assert find_near_duplicates(queries, [references]) == {2: (1, references[1])}
    assert find_near_duplicates([], [references]) == {}


def test_the_number_of_comparisons_is_limited(monkeypatch):
    """Every pair is a candidate: there is a limit per query, and one in total."""
    template = "the order with the number {} has not arrived, please refund it to me as soon as you"
    compared = []

    def differ(text_a, text_b):
        compared.append(text_a)
        return 0.0

    monkeypatch.setattr(near_duplicates, "jaccard", differ)
    for count in (50, 100):
        compared.clear()
        queries = [(template.format(number),) for number in range(count)]
        references = [(template.format(-number),) for number in range(count)]
        assert find_near_duplicates(queries, [references]) == {}
        assert 5 * count < len(compared) <= near_duplicates._COMPARISONS_PER_QUERY * count
    monkeypatch.setattr(near_duplicates, "_MAX_COMPARISONS", 30)
    compared.clear()
    find_near_duplicates(queries, [references])
    assert len(compared) == 30


def test_every_copy_of_one_text_is_found():
    text = (
        "the order has not arrived, please refund it to me as soon as you can, thank you very much"
    )
    queries = [(f"{text} {number}",) for number in range(50)]
    assert len(find_near_duplicates(queries, [[(text,)]])) == len(queries)
