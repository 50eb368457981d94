"""Schemes and notations are detected, held to, and converted without another entity."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from seqeval import scheme as seqeval
from seqeval.metrics.sequence_labeling import get_entities

from bertft.data.rows import RowError
from bertft.errors import DataError
from bertft.tasks.token_classification.scheme_detection import (
    count_tag_pairs,
    detect_scheme,
    make_tag_converter,
)
from bertft.tasks.token_classification.tag_schemes import (
    Notation,
    entities_to_tags,
    extract_entities,
    find_invalid_tag,
    infer_class_scheme,
    infer_scheme,
    parse_class_tags,
    parse_tag,
    tags_of_type,
)


def detect(sentences):
    return detect_scheme(count_tag_pairs(sentence.split() for sentence in sentences), "a.conll")


@pytest.mark.parametrize(
    ("sentences", "scheme"),
    [
        (["I-A I-A O", "O I-B"], "iob1"),
        (["I-A B-A O", "O I-B"], "iob1"),
        (["B-A I-A O", "O B-B"], "bio"),
        (["B-A I-A O", "I-A O O", "B-B B-B"], "bio"),  # one sentence of three breaks it
        (["B-A E-A O S-B"], "bioes"),
        (["B-A I-A E-A"], "bioes"),
        (["S-A O S-B"], "bioes"),
        (["B-A I-A O S-A"], "bios"),
        (["B-A L-A O U-A"], "biluo"),
        (["B-A I-A L-A"], "biluo"),
        (["O U-A"], "biluo"),
        (["B-A M-A E-A S-A"], "bmes"),
        (["PER PER O LOC"], "io"),
        (["NOUN VERB"], "io"),
        (["E-mail O person"], "io"),
        (["E-mail O"], "io"),
        (["S-Bahn U-Bahn"], "io"),
        (["B I I O"], "bio"),
        (["B M E S"], "bmes"),
        (["B L U O"], "biluo"),
        (["n v m b s l"], "io"),
        (["O O"], "bio"),
        ([], "bio"),
    ],
)
def test_the_scheme_is_detected(sentences, scheme):
    result = detect(sentences)
    assert (result.scheme, result.unknown_tags) == (scheme, {})


@pytest.mark.parametrize(
    ("tags", "notation", "scheme"),
    [
        ("B_PER I_PER O B_creative_work", "B_X", "bio"),
        ("PER-B PER-I O LOC-B", "X-B", "bio"),
        ("PER_B PER_E O LOC_S", "X_B", "bioes"),
        ("b-PER i-PER o", "B-X", "bio"),
        ("b-PER O", "B-X", "bio"),
        ("b i o", "B-X", "bio"),
        ("B.PER L.PER U.PER O", "B.X", "biluo"),
        ("B:PER I:PER", "B:X", "bio"),
        ("B_PER I_PER S_PER", "B_X", "bios"),
        ("VITAMIN_A VITAMIN_D O", "B-X", "io"),
        ("B_cell T_cell O", "B-X", "io"),
    ],
)
def test_the_notation_is_detected(tags, notation, scheme):
    result = detect([tags])
    assert (str(result.notation), result.scheme) == (notation, scheme)


def test_tags_that_do_not_fit_are_named():
    """A few are bad rows; where it is unclear which are meant, nothing is read."""
    result = detect(["B-A I-A O X-A", "B-A E-A B-A"])
    assert result.scheme == "bio" and result.unknown_tags == {"X-A": 1, "E-A": 1}
    with pytest.raises(DataError, match=r"'B-A' \(1 ×\) could be bio .*, but not 'PER' \(3 ×\)"):
        detect(["PER PER O PER B-A"])
    with pytest.raises(DataError, match=r"but not '_' \(4 ×\)"):
        detect(["B-A _ _ _ _ I-A"])
    with pytest.raises(DataError, match=r"one of them is '0' \(2 ×\)"):
        detect(["PER 0 0 LOC"])


def slips(sentences, count):
    return [*sentences, *(["B-A I-A O"] * count)]


def test_entities_with_a_wrong_first_tag_are_counted_and_kept():
    """One entity of 41 begins with I after O: as conlleval and seqeval read it, an entity."""
    pairs = count_tag_pairs(sentence.split() for sentence in slips(["O I-A I-A"], 40))
    result = detect_scheme(pairs, "a.conll")
    assert (result.scheme, result.invalid_starts, result.entities) == ("bio", 1, 41)
    reading = make_tag_converter(pairs, None, None, None, "a.conll")
    assert reading.convert(["O", "I-A", "I-A"]) == ["O", "B-A", "I-A"]
    assert reading.notes("a.conll") == [
        "a.conll: 1 of 41 entities begin with a tag that bio does not allow there; they are"
        " accepted"
    ]
    with pytest.raises(RowError, match="'X-A' of the word"):
        reading.convert(["O", "X-A"])
    strict = make_tag_converter(pairs, "bio", None, None, "a.conll")
    with pytest.raises(RowError, match="is invalid after 'O'"):
        strict.convert(["O", "I-A", "I-A"])
    assert detect(slips(["O I-A I-A"], 10)).invalid_starts == 0


def test_the_slips_of_iob1():
    """As in eng.train of CoNLL-2003: B-X where no entity of its type is before it."""
    pairs = count_tag_pairs([*([["I-A", "I-A", "O", "I-B"]] * 20), ["O", "B-A", "I-A"]])
    reading = make_tag_converter(pairs, None, None, None, "eng.train")
    assert (reading.scheme, reading.target_scheme) == ("iob1", "bio")
    assert reading.convert(["O", "B-A", "I-A", "I-B"]) == ["O", "B-A", "I-A", "B-B"]
    assert reading.notes("e") == [
        "e: iob1 tags are converted to bio, with the same entities",
        "e: 1 of 41 entities begin with a tag that iob1 does not allow there; they are accepted",
    ]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(st.sampled_from(["O", "B-A", "I-A", "B-B", "I-B"]), max_size=9)))
def test_slips_have_the_entities_of_seqeval(sentences):
    pairs = count_tag_pairs(sentences)
    reading = make_tag_converter(pairs, None, "bio", None, "a.conll")
    for tags in sentences:
        if reading.detected.invalid_starts or find_invalid_tag(tags, reading.scheme) is None:
            remaining = reading.convert(tags)
            assert find_invalid_tag(remaining, "bio") is None
            assert get_entities(remaining) == get_entities(tags)


STRICT = {
    "iob1": seqeval.IOB1,
    "bio": seqeval.IOB2,
    "bioes": seqeval.IOBES,
    "biluo": seqeval.BILOU,
}
KEPT = ("bio", "bios", "bioes", "biluo", "bmes")
WRITTEN = [Notation(any_case=False), Notation("_"), Notation("-", False), Notation(".", False)]


@pytest.mark.parametrize("scheme", KEPT)
@pytest.mark.parametrize("notation", WRITTEN, ids=str)
def test_tags_round_trip_in_every_scheme(scheme, notation):
    """Whichever scheme and notation a small file's tags allow, the entities are one."""
    kinds = st.sampled_from(["PER", "creative_work", "S"])
    chunks = st.lists(st.tuples(st.none() | kinds, st.integers(1, 4)), min_size=1, max_size=6)

    def written(tag):
        prefix, _, kind = tag.partition("-")
        pieces = (prefix, notation.separator, kind)
        return tag if not kind else "".join(pieces if notation.prefix_first else pieces[::-1])

    @settings(max_examples=10, deadline=None)
    @given(st.lists(chunks, min_size=1, max_size=5))
    def check(corpus):
        # The least that shows the notation: an entity of two words.
        spans, tags = [], []
        for sentence in [[("PER", 2), (None, 1)], *corpus]:
            folder, actual = 0, []
            for kind, size in sentence:
                if kind is not None:
                    actual.append((kind, folder, folder + size - 1))
                folder += size
            spans.append(actual)
            tags.append([written(tag) for tag in entities_to_tags(actual, folder, scheme)])
        reading = make_tag_converter(count_tag_pairs(tags), None, None, None, "a")
        for given_, expected in zip(tags, spans, strict=True):
            remaining = reading.convert(given_)
            assert (
                extract_entities([parse_tag(tag, reading.target_scheme) for tag in remaining])
                == expected
            )

    check()


@pytest.mark.parametrize("target_scheme", KEPT)
@pytest.mark.parametrize("scheme", STRICT)
def test_a_scheme_is_converted_to_the_same_entities(scheme, target_scheme):
    tags = ["O", *tags_of_type("A", scheme), *tags_of_type("B", scheme)]

    @settings(max_examples=40, deadline=None)
    @given(st.lists(st.sampled_from(tags), min_size=1, max_size=8))
    def check(sentence):
        if find_invalid_tag(sentence, scheme) is not None:
            return
        theirs = seqeval.Entities([sentence], STRICT[scheme]).entities[0]
        expected = [(entity.tag, entity.start, entity.end - 1) for entity in theirs]
        made = make_tag_converter(
            count_tag_pairs([sentence]), scheme, target_scheme, None, "a"
        ).convert(sentence)
        assert find_invalid_tag(made, target_scheme) is None
        if target_scheme in STRICT:
            again = seqeval.Entities([made], STRICT[target_scheme]).entities[0]
            assert [(entity.tag, entity.start, entity.end - 1) for entity in again] == expected
        assert extract_entities([parse_tag(tag, target_scheme) for tag in made]) == expected

    check()


@pytest.mark.parametrize("scheme", KEPT)
def test_entities_and_tags(scheme):
    spans = [("A", 0, 0), ("A", 1, 3), ("_", 5, 6)]
    tags = entities_to_tags(spans, 8, scheme)
    assert find_invalid_tag(tags, scheme) is None
    assert extract_entities([parse_tag(tag, scheme) for tag in tags]) == spans


def test_the_classes_of_a_model_determine_the_scheme():
    pairs = count_tag_pairs([["B-A", "I-A", "O", "B-B"]])
    foreign = ["o", "b_A", "i_A", "e_A", "s_A", "b_B", "i_B", "e_B", "s_B"]
    assert make_tag_converter(pairs, None, None, foreign, "a").convert(
        ["B-A", "I-A", "O", "B-B"]
    ) == ["b_A", "e_A", "o", "s_B"]
    assert make_tag_converter(pairs, None, None, ["O", "B-A", "I-A", "B-B", "I-B"], "a").is_identity
    with pytest.raises(DataError, match=r"have a prefix, .* but the classes have no prefix"):
        make_tag_converter(pairs, None, None, ["O", "A", "B"], "a")
    with pytest.raises(DataError, match=r"have no prefix \('A'\), but the classes"):
        make_tag_converter(count_tag_pairs([["A", "O"]]), None, "bio", None, "a")
    assert make_tag_converter(count_tag_pairs([["O"]]), None, "io", None, "a").is_identity


@pytest.mark.parametrize(
    ("classes", "scheme", "tags"),
    [
        ("O B-A I-A", "bio", [("O", ""), ("B", "A"), ("I", "A")]),
        ("O B_A I_A", "bio", [("O", ""), ("B", "A"), ("I", "A")]),
        ("O B-A I-A L-A U-A", "biluo", [("O", ""), ("B", "A"), ("I", "A"), ("E", "A"), ("S", "A")]),
        ("B-A I-A S-A O", "bios", [("B", "A"), ("I", "A"), ("S", "A"), ("O", "")]),
        ("[PAD] X O b-A i-A", "bio", [*[("O", "")] * 3, ("B", "A"), ("I", "A")]),
        ("X Y O", "io", [("I", "X"), ("I", "Y"), ("O", "")]),
        ("LABEL_0 LABEL_1", "io", [("I", "LABEL_0"), ("I", "LABEL_1")]),
    ],
)
def test_prefix_and_type_of_a_models_classes(classes, scheme, tags):
    assert parse_class_tags(classes.split()) == (scheme, tags)


def test_a_notation_writes_b_x():
    assert str(infer_class_scheme(["A|B", "A|I", "O"])[1]) == "X|B"
    assert Notation("_", False).to_standard("a_b_I") == "I-a_b"
    assert Notation().to_standard("o") == "O"


@pytest.mark.parametrize(
    ("tags", "scheme", "work_dir"),
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
        ("B-A I-A S-A O B-A", "bios", None),
        ("S-A I-A", "bios", 1),
        ("B-A I-A L-A U-B O", "biluo", None),
        ("B-A O", "biluo", 1),
        ("B-A E-A", "biluo", 1),
        ("A B O anything", "io", None),
        ("B I O", "bio", None),
        ("X-A", "bio", 0),
        ("", "bioes", None),
    ],
)
def test_the_first_invalid_tag_is_found(tags, scheme, work_dir):
    assert find_invalid_tag(tags.split(), scheme) == work_dir


def test_a_tag_and_its_type():
    assert parse_tag("B-creative-work", "bio") == ("B", "creative-work")
    assert parse_tag("B", "bio") == ("B", "_")
    assert parse_tag("B-PER", "io") == ("I", "B-PER")
    assert parse_tag("M-PER", "bioes") is None
    assert tags_of_type("x", "bmes") == ["B-x", "M-x", "E-x", "S-x"]
    assert tags_of_type("_", "bio") == ["B", "I"]
    assert tags_of_type("x", "io") == ["x"]


@pytest.mark.parametrize(
    ("tags", "scheme"),
    [
        ("O B-A I-A", "bio"),
        ("O I-A", "io"),
        ("O S-A", "bioes"),
        ("O M-A S-A", "bmes"),
        ("O B-A I-A S-A", "bios"),
        ("O B-A I-A L-A U-A", "biluo"),
        ("LABEL_0 LABEL_1", "io"),
        ("O", "io"),
    ],
)
def test_the_scheme_of_a_models_classes(tags, scheme):
    assert infer_scheme(tags.split()) == scheme
