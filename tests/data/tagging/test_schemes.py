"""Schemes are told apart, held to, and iob1 becomes bio without another entity."""

from __future__ import annotations

import pytest

from bertft.data.tagging.schemes import breaks, detect, parse, scheme_of, tags_of, to_bio


@pytest.mark.parametrize(
    ("sentences", "scheme"),
    [
        (["I-A I-A O", "O I-B"], "iob1"),
        (["I-A B-A O", "O I-B"], "iob1"),
        (["B-A I-A O", "O B-B"], "bio"),
        (["B-A I-A O", "I-A O O", "B-B B-B"], "bio"),  # one sentence of three breaks it
        (["B-A E-A O S-B"], "bioes"),
        (["B-A I-A E-A"], "bioes"),
        (["B-A M-A E-A S-A"], "bmes"),
        (["PER PER O LOC"], "io"),
        (["NOUN VERB"], "io"),
        (["O O"], "bio"),
        ([], "bio"),
    ],
)
def test_the_scheme_is_found(sentences, scheme):
    assert detect([each.split() for each in sentences]) == scheme


@pytest.mark.parametrize(
    ("tags", "scheme", "place"),
    [
        ("B-A I-A O B-A B-A", "bio", None),
        ("O I-A", "bio", 1),
        ("B-A I-B", "bio", 1),
        ("B-A E-A", "bio", 1),
        ("I-A B-A I-B O I-A", "iob1", None),
        ("O B-A", "iob1", 1),
        ("I-A B-B", "iob1", 1),
        ("B-A I-A E-A S-B O", "bioes", None),
        ("B-A O", "bioes", 1),
        ("B-A I-A", "bioes", 2),
        ("E-A", "bioes", 0),
        ("B-A M-A E-A", "bioes", 1),
        ("B-A M-A M-A E-A", "bmes", None),
        ("B-A S-A", "bmes", 1),
        ("A B O anything", "io", None),
        ("B I O", "bio", None),
        ("X-A", "bio", 0),
        ("", "bioes", None),
    ],
)
def test_the_first_tag_that_cannot_stand_there(tags, scheme, place):
    assert breaks(tags.split(), scheme) == place


def test_iob1_becomes_bio():
    assert to_bio(["I-A", "I-A", "B-A", "I-B", "O", "I-A"]) == [
        "B-A",
        "I-A",
        "B-A",
        "B-B",
        "O",
        "B-A",
    ]
    assert to_bio(["I", "I", "O", "B"]) == ["B", "I", "O", "B"]


def test_a_tag_and_its_type():
    assert parse("B-creative-work", "bio") == ("B", "creative-work")
    assert parse("B", "bio") == ("B", "_")
    assert parse("B-PER", "io") == ("I", "B-PER")
    assert parse("M-PER", "bioes") is None
    assert tags_of("x", "bmes") == ["B-x", "M-x", "E-x", "S-x"]
    assert tags_of("_", "bio") == ["B", "I"]
    assert tags_of("x", "io") == ["x"]


@pytest.mark.parametrize(
    ("tags", "scheme"),
    [("O B-A I-A", "bio"), ("O I-A", "io"), ("O S-A", "bioes"), ("O M-A S-A", "bmes"),
     ("LABEL_0 LABEL_1", "io"), ("O", "io")],
)  # fmt: skip
def test_the_scheme_of_a_models_classes(tags, scheme):
    assert scheme_of(tags.split()) == scheme
