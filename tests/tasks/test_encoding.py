"""Texts to tokens: equal to transformers' own call, whatever state the tokenizer is in."""

from __future__ import annotations

import contextlib
import random
from types import SimpleNamespace

import numpy as np
import pytest
from transformers import CanineTokenizer

from bertft.data.features import without_padding
from bertft.errors import UsageError
from bertft.tasks.shared import encoding
from bertft.tasks.shared.encoding import (
    encode_texts,
    keep_longest_first,
    resolve_max_length,
)

TEXTS = ["a good film", "很好看的电影", "", "[SEP] untrue !", "the plots , the plots " * 6]
PAIRS = ["bad", "a dull plot " * 9, "good", "电影 " * 12, "the film is dull , truly dull " * 5]


def assert_equal_to_transformers(tokenizer, texts, pairs, max_length):
    ours = encode_texts(tokenizer, texts, pairs, max_length)
    arguments = (texts,) if pairs is None else (texts, pairs)
    whole = tokenizer(*arguments, verbose=False)
    expected = tokenizer(*arguments, truncation="longest_first", max_length=max_length)
    for name in set(tokenizer.model_input_names) - {"attention_mask"}:
        assert [row.tolist() for row in ours[name]] == expected[name]
    cut = [max(0, len(row) - max_length) for row in whole["input_ids"]]
    assert ours["cut_tokens"].tolist() == cut
    assert ours["cut_tokens"].dtype == np.int32
    return [count > 0 for count in cut]


@pytest.mark.parametrize("name", ["bert_tokenizer", "roberta_tokenizer"])
@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("max_length", [6, 7, 11, 12, 256])
@pytest.mark.parametrize("pairs", [None, PAIRS], ids=["single", "pair"])
def test_equals_transformers(request, monkeypatch, name, side, max_length, pairs):
    tokenizer = request.getfixturevalue(name)
    monkeypatch.setattr(tokenizer, "truncation_side", side)
    cut = assert_equal_to_transformers(tokenizer, TEXTS, pairs, max_length)
    assert any(cut) == (max_length < 256)  # both ways of encoding were taken


def test_random_pairs_equal_transformers(bert_tokenizer):
    draw = random.Random(0)

    def text():
        return " ".join(
            draw.choice(["good", "untruely", "电影", "xyz"]) for _ in range(draw.randrange(24))
        )

    for _ in range(30):
        texts, pairs = [text() for _ in range(8)], [text() for _ in range(8)]
        assert_equal_to_transformers(bert_tokenizer, texts, pairs, draw.randrange(5, 40))


def test_token_types_exist_only_if_the_tokenizer_has_them(bert_tokenizer, roberta_tokenizer):
    columns = encode_texts(bert_tokenizer, ["good"], ["bad plot"], 16)
    assert columns["token_type_ids"][0].tolist() == [0, 0, 0, 1, 1, 1]
    assert "token_type_ids" not in encode_texts(roberta_tokenizer, ["good"], ["bad"], 16)


def test_chinese_keeps_its_characters(bert_tokenizer, roberta_tokenizer):
    (row,) = encode_texts(bert_tokenizer, ["很好看的电影"], None, 16)["input_ids"]
    assert bert_tokenizer.convert_ids_to_tokens(row.tolist()) == ["[CLS]", *"很好看的电影", "[SEP]"]
    (row,) = encode_texts(roberta_tokenizer, ["很好看的电影"], None, 64)["input_ids"]
    assert roberta_tokenizer.decode(row.tolist(), skip_special_tokens=True) == "很好看的电影"


def test_baked_in_truncation_and_padding_are_not_applied_and_stay(bert_tokenizer):
    backend = bert_tokenizer.backend_tokenizer
    backend.enable_truncation(4)
    backend.enable_padding(length=32)
    try:
        before = backend.to_str()
        columns = encode_texts(bert_tokenizer, ["the good plot is bad", "a"], None, 16)
        assert [len(row) for row in columns["input_ids"]] == [7, 3]
        assert columns["cut_tokens"].tolist() == [0, 0]
        assert backend.to_str() == before
    finally:
        backend.no_truncation()
        backend.no_padding()


def test_slices_keep_the_order(bert_tokenizer, monkeypatch):
    whole = encode_texts(bert_tokenizer, TEXTS, PAIRS, 12)
    for rows, characters in ((2, 1 << 20), (1024, 30), (1, 1)):
        monkeypatch.setattr(encoding, "_SLICE_ROWS", rows)
        monkeypatch.setattr(encoding, "_SLICE_CHARACTERS", characters)
        again = encode_texts(bert_tokenizer, TEXTS, PAIRS, 12)
        for name in whole:
            assert list(map(list, map(np.atleast_1d, again[name]))) == list(
                map(list, map(np.atleast_1d, whole[name]))
            )


def test_a_long_pair_costs_no_more_than_its_length(bert_tokenizer, monkeypatch):
    """The texts are encoded once and without tokenizers' truncation, which is quadratic in them."""
    calls = []

    @contextlib.contextmanager
    def observed(tokenizer):
        with without_padding(tokenizer) as backend:

            def encode(inputs):
                calls.append(backend.truncation)
                return backend.encode_batch_fast(inputs)

            yield SimpleNamespace(encode_batch_fast=encode)

    monkeypatch.setattr(encoding, "without_padding", observed)
    bert_tokenizer.backend_tokenizer.enable_truncation(8)
    text = "good bad " * 10_000
    try:
        columns = encode_texts(bert_tokenizer, [text], [text], 16)
    finally:
        bert_tokenizer.backend_tokenizer.no_truncation()
    assert calls == [None] and len(columns["input_ids"][0]) == 16


@pytest.mark.parametrize("pairs", [None, PAIRS], ids=["single", "pair"])
def test_a_tokenizer_written_in_python(pairs):
    tokenizer = CanineTokenizer()
    assert not tokenizer.is_fast
    assert any(assert_equal_to_transformers(tokenizer, TEXTS, pairs, 20))


def test_no_room_next_to_the_special_tokens(roberta_tokenizer):
    with pytest.raises(
        UsageError,
        match=r"data\.max_length: 4 tokens are too few.* leave 0 for text.*=6 or more",
    ):
        encode_texts(roberta_tokenizer, ["good"], ["bad"], 4)
    columns = encode_texts(roberta_tokenizer, ["good"], ["bad"], 6)
    assert len(columns["input_ids"][0]) == 6


@pytest.mark.parametrize(
    ("first", "second", "budget", "expected"),
    [
        (3, 4, 7, (3, 4)),
        (3, 40, 13, (3, 10)),
        (40, 3, 13, (10, 3)),
        (40, 40, 13, (6, 7)),
        (41, 40, 13, (7, 6)),
        (40, 0, 13, (13, 0)),
        (6, 9, 12, (6, 6)),
    ],
)
def test_keep_longest_first(first, second, budget, expected):
    assert keep_longest_first(first, second, budget) == expected


def test_check_max_length():
    assert resolve_max_length(None, 512) == 256
    assert resolve_max_length(None, 128) == 128
    assert resolve_max_length(512, 512) == 512
    with pytest.raises(UsageError, match=r"data\.max_length: 513 .* supports.*=512 or less"):
        resolve_max_length(513, 512)
