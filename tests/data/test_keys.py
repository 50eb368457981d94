from __future__ import annotations

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from bertft.data.features import tokenizer_hash

WORDS = {"[UNK]": 0, "[PAD]": 1, "a": 2, "b": 3}


def tokenizer(words=WORDS, lower: bool = False) -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    if lower:
        backend.normalizer = normalizers.Lowercase()
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]", pad_token="[PAD]")


def test_calls_do_not_change_the_hash():
    one = tokenizer()
    before = tokenizer_hash(one)
    one(["a b", "a"], padding="max_length", truncation=True, max_length=5)
    assert one.backend_tokenizer.truncation is not None
    assert tokenizer_hash(one) == before
    assert one.backend_tokenizer.truncation is not None, "looking must not touch"


def test_stored_padding_and_truncation_do_not_change_the_hash(tmp_path):
    one = tokenizer()
    one.backend_tokenizer.enable_padding(length=128)
    one.backend_tokenizer.enable_truncation(128)
    one.save_pretrained(tmp_path)
    loaded = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    assert tokenizer_hash(loaded) == tokenizer_hash(tokenizer())


@pytest.mark.parametrize(
    "other",
    [tokenizer({**WORDS, "c": 4}), tokenizer({**WORDS, "a": 3, "b": 2}), tokenizer(lower=True)],
)
def test_vocabulary_and_normalizer_change_the_hash(other):
    assert tokenizer_hash(other) != tokenizer_hash(tokenizer())


def test_added_tokens_change_the_hash():
    other = tokenizer()
    other.add_tokens(["new"])
    assert tokenizer_hash(other) != tokenizer_hash(tokenizer())
