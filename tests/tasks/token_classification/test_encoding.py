"""Words to tokens: the first token stands for the word, and no word is lost in long sentences."""

from __future__ import annotations

import pytest

from bertft.errors import UsageError
from bertft.tasks.shared.word_splitting import join_words
from bertft.tasks.token_classification.encoding import encode_words


def rows(*sentences):
    made = [join_words(words) for words in sentences]
    return {
        "text": [text for text, _ in made],
        "starts": [[start for start, _ in bounds] for _, bounds in made],
        "stops": [[stop for _, stop in bounds] for _, bounds in made],
    }


def lists(column):
    return [values.tolist() for values in column]


def test_the_first_token_represents_the_word(bert_tokenizer):
    actual = encode_words(bert_tokenizer, rows(["the", "plots", "!"]), [[1, 2, 0]], 16)
    tokens = bert_tokenizer.convert_ids_to_tokens(actual["input_ids"][0])
    assert tokens == ["[CLS]", "the", "plot", "##s", "!", "[SEP]"]
    assert lists(actual["word"]) == [[-1, 0, 1, -1, 2, -1]]
    assert lists(actual["labels"]) == [[-100, 1, 2, -100, 0, -100]]
    assert lists(actual["token_type_ids"]) == [[0] * 6]
    assert actual["row"] == [0]


def test_a_long_sentence_is_split_into_overlapping_windows(bert_tokenizer):
    words = ["the", "film", "a", "plots", "good", "bad", "dull", "plot"]
    actual = encode_words(bert_tokenizer, rows(["a"], words), [[5], list(range(8))], 7)
    assert actual["row"] == [0, 1, 1]
    assert all(len(ids) <= 7 for ids in actual["input_ids"])
    predicted = [word for words in lists(actual["word"])[1:] for word in words if word >= 0]
    assert predicted == list(range(8))
    for word, label in zip(actual["word"], actual["labels"], strict=True):
        assert label[word < 0].tolist() == [-100] * int((word < 0).sum())
    assert [c for classes in lists(actual["labels"])[1:] for c in classes if c >= 0] == list(
        range(8)
    )


def test_a_word_longer_than_the_window_or_without_tokens_is_kept(bert_tokenizer):
    actual = encode_words(bert_tokenizer, rows(["untrue" + "s" * 20, "\u200d", "a"]), None, 5)
    assert "labels" not in actual
    predicted = [word for words in lists(actual["word"]) for word in words if word >= 0]
    assert predicted == [0, 1, 2]
    tokens = [bert_tokenizer.convert_ids_to_tokens(ids) for ids in actual["input_ids"]]
    assert "[UNK]" in tokens[-1] or "[UNK]" in tokens[-2]


def test_byte_level_words_keep_the_space_before_them(roberta_tokenizer):
    actual = encode_words(roberta_tokenizer, rows(["a", "good", *"电影"]), None, 32)
    (ids,) = actual["input_ids"]
    assert roberta_tokenizer.decode(ids[1:-1]) == "a good 电影"
    assert (ids[0], ids[-1]) == (roberta_tokenizer.cls_token_id, roberta_tokenizer.sep_token_id)
    assert (
        ids.tolist()
        == roberta_tokenizer("a good")["input_ids"][:-1]
        + ids.tolist()[len(roberta_tokenizer("a good")["input_ids"]) - 1 :]
    )
    assert "token_type_ids" not in actual


def test_tokens_are_those_of_the_text(bert_tokenizer):
    """So that a pipeline over the text sees what training saw."""
    given = rows(["a", "good", "film", ",", "untrue", "plots", "."])
    (ids,) = encode_words(bert_tokenizer, given, None, 32)["input_ids"]
    assert ids.tolist() == bert_tokenizer(given["text"][0])["input_ids"]


def test_no_room_for_words(bert_tokenizer):
    with pytest.raises(
        UsageError, match=r"data.max_length: 2 tokens are too few: .* leave none for words"
    ):
        encode_words(bert_tokenizer, rows(["a"]), None, 2)
