"""Windows equal those of tokenizers' own truncation; targets are read back as their answers."""

from __future__ import annotations

import random
from itertools import chain

import numpy as np
import pytest

from bertft.tasks.question_answering.encoding import answer_positions, encode_windows, pair_template

WORDS = ["a", "film", "good", "bad", "dull", "the", "plot", "untrue", "badly", "很好", "!", "films"]


def drawn(seed: int, rows: int = 40):
    """Questions and contexts, some of them shared, of up to 60 words."""
    rng = random.Random(seed)

    def text(longest: int) -> str:
        return " ".join(rng.choice(WORDS) for _ in range(rng.randint(1, longest)))

    contexts = [text(60) for _ in range(rows // 2)] * 2
    return [text(8) for _ in contexts], contexts


@pytest.mark.parametrize("name", ["bert_tokenizer", "roberta_tokenizer"])
@pytest.mark.parametrize(("max_length", "stride"), [(32, 8), (40, 0), (48, 19)])
def test_windows_are_those_of_transformers(name, max_length, stride, request):
    tokenizer = request.getfixturevalue(name)
    questions, contexts = drawn(max_length)
    remaining = [
        (question, context)
        for question, context in zip(questions, contexts, strict=True)
        if max_length - len(tokenizer(question, context)["input_ids"]) >= 0
        or max_length
        - tokenizer.num_special_tokens_to_add(pair=True)
        - len(tokenizer(question, add_special_tokens=False)["input_ids"])
        > stride
    ]
    questions, contexts = [q for q, _ in remaining], [c for _, c in remaining]
    expected = tokenizer(
        questions, contexts, truncation="only_second", max_length=max_length, stride=stride,
        return_overflowing_tokens=True, return_offsets_mapping=True, return_token_type_ids=True,
    )  # fmt: skip
    made = encode_windows(tokenizer, questions, contexts, max_length, stride)
    assert len(made.row) > len(questions) > 20
    assert made.row.tolist() == expected["overflow_to_sample_mapping"]
    assert made.input_ids.sizes.tolist() == [len(ids) for ids in expected["input_ids"]]
    assert made.input_ids.values.tolist() == list(chain(*expected["input_ids"]))
    assert made.token_type_ids.values.tolist() == list(chain(*expected["token_type_ids"]))
    at = 0
    for number, offsets in enumerate(expected["offset_mapping"]):
        owners = expected.sequence_ids(number)
        for (start, end), owner in zip(offsets, owners, strict=True):
            actual = made.char_start.values[at], made.char_end.values[at]
            if owner != 1:
                assert actual == (-1, -1)
            elif name == "bert_tokenizer":
                assert actual == (start, end)
            else:  # of byte-level tokens, transformers counts some of the space before them
                context = contexts[made.row[number]]
                assert context[slice(*actual)].strip() == context[start:end].strip()
            at += 1
    assert at == made.input_ids.sizes.sum()


def test_a_question_that_leaves_no_step_has_no_window(bert_tokenizer):
    question, short, long = "good " * 20, "a film", "the plot " * 20
    made = encode_windows(bert_tokenizer, [question, question], [long, short], 32, 9)
    assert made.row.tolist() == [1]  # beside 20 tokens and 3 special ones there is room for 9
    assert set(encode_windows(bert_tokenizer, [question], [long], 32, 8).row) == {0}


def test_the_tokenizer_is_not_changed(bert_tokenizer):
    bert_tokenizer.backend_tokenizer.enable_truncation(5)
    bert_tokenizer.backend_tokenizer.enable_padding(length=7)
    made = encode_windows(bert_tokenizer, ["good"], ["a film " * 9], 64, 8)
    assert made.input_ids.sizes.tolist() == [22]
    assert bert_tokenizer.backend_tokenizer.truncation["max_length"] == 5
    assert bert_tokenizer.backend_tokenizer.padding["length"] == 7
    bert_tokenizer.backend_tokenizer.no_truncation()
    bert_tokenizer.backend_tokenizer.no_padding()


def test_frames(bert_tokenizer, roberta_tokenizer):
    bert = pair_template(bert_tokenizer)
    assert [ids.tolist() for ids in bert.ids] == [[2], [3], [3]]
    assert [types.tolist() for types in bert.types] == [[0], [0], [1]]
    assert (bert.text_types, bert.size) == ((0, 1), 3)
    assert [ids.tolist() for ids in pair_template(roberta_tokenizer).ids] == [[0], [2, 2], [2]]


def test_targets(bert_tokenizer):
    """[CLS] good [SEP] a film ! the plot is … : the answer lies in one, both or no window."""
    context = "a film , the plot bad bad bad bad bad good"
    answers = [["the plot"], ["film"], [], ["good"], ["the plot bad bad bad bad bad good"], ["lot"]]
    offsets = [[context.index(texts[0])] if texts else [] for texts in answers]
    made = encode_windows(bert_tokenizer, ["good"] * 6, [context] * 6, 12, 4)
    start, end = answer_positions(made, answers, offsets)
    by_row = {
        row: [
            (int(a), int(b))
            for a, b in zip(start[made.row == row], end[made.row == row], strict=True)
        ]
        for row in range(6)
    }
    # windows of 8 tokens of the context, from its tokens 0 and 4
    assert by_row == {
        0: [(6, 7), (0, 0)], 1: [(4, 4), (0, 0)], 2: [(0, 0), (0, 0)],
        3: [(0, 0), (9, 9)], 4: [(0, 0), (0, 0)], 5: [(7, 7), (3, 3)],
    }  # fmt: skip
    first = np.cumsum(made.input_ids.sizes) - made.input_ids.sizes
    read = {
        context[made.char_start.values[at + a] : made.char_end.values[at + b]]
        for at, a, b in zip(first, start, end, strict=True)
        if a
    }
    assert read == {"the plot", "film", "good", "plot"}  # "lot" stands within a token


def read_back(tokenizer, context, answers, max_length=64, stride=8):
    """The text of the target tokens of each answer, in each window that contains it."""
    count = len(answers)
    made = encode_windows(tokenizer, ["good"] * count, [context] * count, max_length, stride)
    start, end = answer_positions(
        made, [[answer] for answer in answers], [[context.index(a)] for a in answers]
    )
    first = np.cumsum(made.input_ids.sizes) - made.input_ids.sizes
    return [
        {
            context[made.char_start.values[first[at] + start[at]] :
                    made.char_end.values[first[at] + end[at]]]
            for at in np.flatnonzero((made.row == row) & (start > 0))
        }
        for row in range(count)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("context", "answer", "tokens"),
    [
        ("a cafe\u0301 film", "cafe\u0301", "cafe\u0301"),  # accents are stripped, e and its own
        ("a film cafe\u0301", "cafe\u0301", "cafe\u0301"),
        ("a e\u0301\u0323 film", "e\u0301\u0323", "e\u0301\u0323"),
        ("the  plot is bad", " plot", "plot"),
        ("the plot is bad", "plot ", "plot"),
        ("the plot ", "plot ", "plot"),
        (" film is bad", " film", "film"),
        ("a film\u200b is", "film\u200b", "film"),
        ("a \u200bfilm is", "\u200bfilm", "film"),
    ],
)
@pytest.mark.parametrize("name", ["bert_tokenizer", "roberta_tokenizer"])
def test_an_answer_has_its_tokens_alone(name, context, answer, tokens, request):
    [actual] = read_back(request.getfixturevalue(name), context, [answer])
    assert {text.strip() for text in actual} == {tokens} or (
        name == "roberta_tokenizer" and {text.strip() for text in actual} == {answer.strip()}
    )


def test_a_character_of_several_tokens_is_complete_in_the_answer(roberta_tokenizer):
    context = "a 中 b 国"
    assert len(roberta_tokenizer("中", add_special_tokens=False)["input_ids"]) > 1
    assert read_back(roberta_tokenizer, context, ["中", "国", "中 b"]) == [{"中"}, {"国"}, {"中 b"}]
