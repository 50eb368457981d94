"""Copies of rows: which words are replaced, by which, as a function of the row alone."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from bertft.data.features import FeatureTable, make_record_batch
from bertft.distill.augmentation import (
    REPLACED_COLUMN,
    Augmentation,
    augment_features,
    augmentation_key,
    classify_tokens,
    nearest_words,
    replace_words,
)

TOKENS = ["[PAD]", "[CLS]", "[SEP]", "the", "good", "film", "films", "##ing", "!", "7", "x", "影"]
VOCABULARY = classify_tokens(TOKENS, {0, 1, 2})
GOOD, FILM, FILMS, ING = (TOKENS.index(token) for token in ("good", "film", "films", "##ing"))
EMBEDDINGS = np.random.default_rng(0).normal(size=(len(TOKENS), 8)).astype(np.float32)
ROWS = [[1, 3, 4, 5, 2], [1, 4, 5, 7, 8, 2], [1, 8, 9, 10, 2], [1, 3, 5, 6, 4, 3, 2]]


def table(rows=ROWS):
    batch = make_record_batch(
        {
            "row": np.arange(len(rows)),
            "input_ids": rows,
            "token_type_ids": [np.arange(len(row)) % 2 for row in rows],
            "cut_tokens": np.arange(len(rows)) * 10,
            "labels": np.ones(len(rows), np.int64),
        }
    )
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return FeatureTable(sink.getvalue())


def augment(source, copies=2, probability=0.5, seed=0, key="k", cache=None):
    augmentation = Augmentation(copies, probability, seed)
    return augment_features(
        source, len(ROWS), ("labels",), EMBEDDINGS, VOCABULARY, augmentation, key, cache
    )


def texts(features):
    ids = features.gather("input_ids", np.arange(len(features)))
    return [piece.tolist() for piece in np.split(ids, np.cumsum(features.lengths)[:-1])]


@pytest.mark.parametrize(
    ("tokens", "words", "continuations"),
    [
        (TOKENS, ["the", "good", "film", "films", "影"], ["##ing"]),
        (["<s>", "Ġthe", "Ġfilm", "ing", ".", "Ġa", "Ġ9"], ["Ġthe", "Ġfilm"], ["ing"]),
        (["<s>", "▁der", "▁Film", "e", ",", "▁"], ["▁der", "▁Film"], ["e"]),
        (["<s>", "the", "film"], ["the", "film"], []),
    ],
)
def test_words_of_each_kind_of_tokenizer(tokens, words, continuations):
    found = classify_tokens(tokens, {0} if tokens[0] == "<s>" else {0, 1, 2})
    assert [token for token, is_word in zip(tokens, found.is_word, strict=True) if is_word] == words
    assert [
        token for token, continues in zip(tokens, found.continues, strict=True) if continues
    ] == continuations


def test_nearest_words_have_the_largest_cosine():
    generator = np.random.default_rng(1)
    tokens = [f"w{'abcdefghij'[n % 10]}{'abcdefghij'[n // 10]}" for n in range(60)] + ["##x"]
    embeddings = generator.normal(size=(61, 5))
    vocabulary = classify_tokens([*tokens[:59], "WAA", "##x"], set())  # waa in another case
    found = nearest_words(embeddings, np.array([0, 7, 59]), vocabulary, 4)
    for word, neighbours in zip((0, 7, 59), found, strict=True):
        cosines = {
            other: embeddings[word] @ embeddings[other]
            / np.linalg.norm(embeddings[word]) / np.linalg.norm(embeddings[other])
            for other in range(60)
            if other != word and {word, other} != {0, 59}
        }  # fmt: skip
        assert neighbours.tolist() == sorted(cosines, key=cosines.__getitem__, reverse=True)[:4]


def test_equal_similarities_are_ordered_by_id_and_too_few_words_are_repeated():
    tokens, embeddings = ["aa", "bb", "cc", "dd"], np.ones((4, 3))
    found = nearest_words(embeddings, np.array([2]), classify_tokens(tokens, set()), 5)
    assert found.tolist() == [[0, 1, 3, 0, 1]]
    with pytest.raises(ValueError, match="no other word"):
        nearest_words(embeddings, np.array([2]), classify_tokens(["", "", "cc", ""], set()))


def test_words_are_replaced_with_the_stated_probability_and_uniformly():
    ids = np.arange(20_000) % 7
    replaceable = ids != 3
    neighbours = 100 + ids[:, None] * 10 + np.arange(5)
    copy, count = replace_words(ids, replaceable, neighbours, 0.3, np.random.default_rng(0))
    changed = copy != ids
    assert count == changed.sum() and not changed[~replaceable].any()
    assert changed[replaceable].mean() == pytest.approx(0.3, abs=0.02)
    assert ((copy[changed] - 100) // 10 == ids[changed]).all()
    choices = np.bincount((copy[changed] - 100) % 10, minlength=5) / changed.sum()
    assert choices == pytest.approx([0.2] * 5, abs=0.02)


def test_at_least_one_word_is_replaced():
    ids, neighbours = np.array([1, 5, 2]), np.full((3, 2), 9)
    for seed in range(20):
        generator = np.random.default_rng(seed)
        copy, count = replace_words(
            ids, np.array([False, True, False]), neighbours, 1e-9, generator
        )
        assert (copy.tolist(), count) == ([1, 9, 2], 1)
    copy, count = replace_words(ids, np.zeros(3, bool), neighbours, 1.0, generator)
    assert (copy.tolist(), count) == ([1, 5, 2], 0)


def test_copies_replace_whole_words_and_keep_everything_else():
    features = augment(table(), copies=3, probability=1.0)
    assert set(features.columns) == {
        "row", "input_ids", "token_type_ids", "cut_tokens", REPLACED_COLUMN,
    }  # fmt: skip
    assert features.read_column("row").tolist() == list(range(12))
    assert features.read_column("cut_tokens").tolist() == [0, 10, 20, 30] * 3
    assert features.lengths.tolist() == [5, 6, 5, 7] * 3
    types = table().read_column("token_type_ids").tolist()
    assert features.read_column("token_type_ids").tolist() == types * 3
    words = np.flatnonzero(VOCABULARY.is_word)
    for number, copy in enumerate(texts(features)):
        original = ROWS[number % 4]
        # "film" is not replaced where "##ing" continues it.
        replaced = [
            token in words and after != ING
            for token, after in zip(original, [*original[1:], 0], strict=True)
        ]
        for old, new, is_replaced in zip(original, copy, replaced, strict=True):
            assert (new != old and new in words) if is_replaced else new == old
        assert features.read_column(REPLACED_COLUMN)[number] == sum(replaced)


def test_a_copy_is_a_function_of_seed_copy_and_row(tmp_path):
    source = table()
    first = augment(source)
    assert texts(augment(source)) == texts(first)
    assert texts(augment(source, copies=4))[:8] == texts(first)
    assert texts(augment(source, seed=1)) != texts(first) != texts(augment(source, probability=0.9))
    assert texts(first)[:4] != texts(first)[4:]
    stored = augment(source, cache=tmp_path)
    assert texts(stored) == texts(first) and stored.path is not None
    again = augment(table([[1, 2]]), cache=tmp_path)  # read under its key, not computed
    assert texts(again) == texts(first)


def test_a_copy_does_not_depend_on_the_chunks(monkeypatch):
    expected = texts(augment(table(), probability=0.9))
    monkeypatch.setattr("bertft.distill.augmentation._CHUNK_FEATURES", 3)
    assert texts(augment(table(), probability=0.9)) == expected


def test_the_key_covers_every_setting():
    settings = [Augmentation(2, 0.4, 0), Augmentation(3, 0.4, 0), Augmentation(2, 0.5, 0),
                Augmentation(2, 0.4, 1)]  # fmt: skip
    keys = {augmentation_key(["a", "b"], augmentation) for augmentation in settings}
    assert len(keys | {augmentation_key(["b", "a"], settings[0])}) == 5


def test_rows_without_words():
    with pytest.raises(ValueError, match="no token of the rows is a word"):
        augment(table([[1, 8, 9, 2]]))
