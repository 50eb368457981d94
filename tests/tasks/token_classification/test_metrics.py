"""Entities and their scores are seqeval's, on random sequences of tags, right and wrong ones."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from seqeval import metrics as seqeval
from seqeval import scheme as schemes
from seqeval.metrics.sequence_labeling import get_entities

from bertft.tasks.token_classification.metrics import (
    entity_metric_names,
    entity_metrics,
    extract_strict_entities,
    precision_recall_f1,
)
from bertft.tasks.token_classification.tag_schemes import (
    extract_entities,
    find_invalid_tag,
    parse_tag,
    tags_of_type,
)

KINDS = ("person", "creative-work")
STRICT = {
    "bio": schemes.IOB2, "bioes": schemes.IOBES, "bmes": schemes.IOBES, "biluo": schemes.IOBES,
}  # fmt: skip
_SAME = {"M": "I", "L": "E", "U": "S"}


def classes(scheme):
    return ["O", *(tag for kind in KINDS for tag in tags_of_type(kind, scheme))]


def corpora(scheme):
    """Pairs of sentences of equal length, of any tags."""
    tag = st.sampled_from(classes(scheme))
    pair = st.lists(st.tuples(tag, tag), min_size=1, max_size=9)
    return st.lists(pair, min_size=1, max_size=5)


def theirs(tags):
    """seqeval knows no M, and L and U only in its strict mode."""
    return [_SAME.get(tag[0], tag[0]) + tag[1:] for tag in tags]


def parsed(tags, scheme):
    return [parse_tag(tag, scheme) for tag in tags]


@pytest.mark.parametrize("scheme", STRICT)
def test_entities_are_those_of_seqeval(scheme):
    @settings(max_examples=120, deadline=None)
    @given(corpora(scheme))
    def check(corpus):
        for sentence in corpus:
            tags = [tag for tag, _ in sentence]
            assert extract_entities(parsed(tags, scheme)) == get_entities(theirs(tags))
            strict = schemes.Entities([theirs(tags)], STRICT[scheme]).entities[0]
            expected = [(entity.tag, entity.start, entity.end - 1) for entity in strict]
            assert extract_strict_entities(parsed(tags, scheme), scheme) == expected
            if find_invalid_tag(tags, scheme) is None:
                assert extract_entities(parsed(tags, scheme)) == expected

    check()


@pytest.mark.parametrize("scheme", STRICT)
def test_scores_are_those_of_seqeval(scheme):
    names = classes(scheme)
    tags = parsed(names, scheme)

    @settings(max_examples=40, deadline=None)
    @given(corpora(scheme))
    def check(corpus):
        true = [theirs([tag for tag, _ in sentence]) for sentence in corpus]
        given_ = [theirs([tag for _, tag in sentence]) for sentence in corpus]
        numbers = np.array(
            [[names.index(tag) for tag in pair] for sentence in corpus for pair in sentence]
        )
        sizes = np.array([len(sentence) for sentence in corpus])
        actual = entity_metrics(tags, scheme, sizes, numbers[:, 0], numbers[:, 1])
        assert tuple(actual) == entity_metric_names(tags)
        how = {"zero_division": 0}
        strict = {**how, "mode": "strict", "scheme": STRICT[scheme]}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            report = seqeval.classification_report(true, given_, output_dict=True, **how)
            for name in ("precision", "recall", "f1"):
                score = getattr(seqeval, f"{name}_score")
                assert actual[name] == pytest.approx(score(true, given_, **how), abs=1e-12)
                expected = score(true, given_, **strict) if _any(true, given_, scheme) else 0.0
                assert actual[f"strict/{name}"] == pytest.approx(expected, abs=1e-12)
        for kind in KINDS:
            line = report.get(
                kind, dict.fromkeys(("precision", "recall", "f1-score", "support"), 0)
            )
            for name, key in (("f1", "f1-score"), ("recall", "recall"), ("support", "support")):
                assert actual[f"{kind}/{name}"] == pytest.approx(float(line[key]), abs=1e-12)

    check()


def _any(true, given_, scheme):
    """seqeval's strict mode fails where there is no entity at all."""
    return any(
        entity
        for corpus in (true, given_)
        for entity in schemes.Entities(corpus, STRICT[scheme]).entities
    )


def test_touching_types_without_a_scheme():
    tags = parsed(["PER", "PER", "LOC", "O", "LOC"], "io")
    assert extract_entities(tags) == extract_strict_entities(tags, "io")
    assert extract_entities(tags) == [("PER", 0, 1), ("LOC", 2, 2), ("LOC", 4, 4)]


def test_nothing_counted_is_zero():
    assert precision_recall_f1(np.array([0, 0, 0])) == (0.0, 0.0, 0.0)
    assert precision_recall_f1(np.array([1, 2, 4])) == (0.5, 0.25, 1 / 3)
