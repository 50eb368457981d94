"""The official rules of SQuAD and CMRC 2018, and the summary with its best threshold."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from bertft.config.data import DataConfig
from bertft.data.splits import load_splits
from bertft.tasks.question_answering import cmrc_scorer, squad_scorer
from bertft.tasks.question_answering.metrics import (
    find_best_threshold,
    score_answers,
    summarize_scores,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The  Amazon, an\trainforest!", "amazon rainforest"),
        ("a", ""),
        ("Another theory", "another theory"),  # articles are whole words
        ("U.S.A.", "usa"),
        ("it's a-one", "its aone"),  # the hyphen goes first, and with it the article
        ("$7,000", "7000"),
        ("Ångström — “Émile”", "ångström — “émile”"),  # only ASCII punctuation goes
        ("İstanbul", "i̇stanbul"),
        ("很好 的!", "很好 的"),
        ("", ""),
    ],
)
def test_normal(text, expected):
    assert squad_scorer.normalize_answer(text) == expected


@pytest.mark.parametrize(
    ("given", "answers", "exact", "f1"),
    [
        ("the Amazon", ["Amazon", "The rainforest"], 1, 1),
        ("Amazon rainforest", ["Amazon"], 0, 2 / 3),
        ("cat cat dog", ["cat dog dog"], 0, 2 / 3),  # bags of words
        ("", [], 1, 1),
        ("x", [], 0, 0),
        ("", ["x"], 0, 0),
        ("the", [], 1, 1),  # nothing after normalising
        ("", ["the"], 1, 1),  # such a gold answer is no answer
        ("x", ["the", "x y"], 0, 2 / 3),
    ],
)
def test_squad(given, answers, exact, f1):
    scores = score_answers([given], [answers], "squad")
    assert (scores["exact"][0], scores["f1"][0]) == (exact, pytest.approx(f1))


@pytest.mark.parametrize(
    ("given", "answers", "exact", "f1"),
    [
        ("光荣和ω-force", ["光荣和ω-Force", "光荣"], 1, 1),
        ("“光荣”", ["光荣。"], 1, 1),  # punctuation is left out
        ("北京大学", ["北京的大学"], 0, 4 / 9),  # 北京 or 大学 alone: P 2/4, R 2/5
        ("1998年", ["1998"], 0, 2 / 3),  # a number is one unit
        ("在New York市", ["new york"], 0, 2 * 0.5 * 1 / 1.5),
        ("上海", ["北京"], 0, 0),
        ("", ["北京"], 0, 0),
    ],
)
def test_cmrc(given, answers, exact, f1):
    scores = score_answers([given], [answers], "cmrc2018")
    assert (scores["exact"][0], scores["f1"][0]) == (exact, pytest.approx(f1))


def test_units_and_their_longest_run():
    assert cmrc_scorer.scoring_units("他在2008年“北京”, don't!") == [
        "他", "在", "2008", "年", "北", "京", ",", "don", "'", "t", "!",
    ]  # fmt: skip
    assert cmrc_scorer.longest_common_substring("abcde", "xbcdy") == 3
    assert cmrc_scorer.longest_common_substring("", "a") == 0


def test_summary_by_groups():
    scores = {"exact": np.array([1.0, 0, 1]), "f1": np.array([1.0, 0.5, 1])}
    answerable = np.array([True, True, False])
    values = summarize_scores(scores, answerable, by_answerability=True)
    assert values == pytest.approx(
        {
            "exact": 200 / 3, "f1": 250 / 3, "HasAns_exact": 50, "HasAns_f1": 75,
            "NoAns_exact": 100, "NoAns_f1": 100,
        }
    )  # fmt: skip
    assert set(summarize_scores(scores, np.ones(3, bool), by_answerability=True)) == {
        "exact", "f1", "HasAns_exact", "HasAns_f1",
    }  # fmt: skip
    assert set(summarize_scores(scores, answerable, by_answerability=False)) == {"exact", "f1"}


@pytest.mark.parametrize("seed", range(8))
def test_the_best_threshold_is_the_best_of_all(seed):
    draw = np.random.default_rng(seed)
    answerable = draw.random(60) < 0.5
    scores = np.where(answerable, draw.random(60).round(1), 0.0)
    no_answer = draw.random(60)
    answered = draw.random(60) < 0.9
    best, threshold = find_best_threshold(scores, answered, no_answer, answerable)

    def mean(limit: float) -> float:
        silent = (no_answer > limit) | ~answered
        return 100 * float(np.where(silent, ~answerable, scores).mean())

    assert best == pytest.approx(max(map(mean, [0.0, *no_answer])))
    # a silent answer to an answerable question scores 0 whatever the threshold
    assert mean(threshold) == pytest.approx(best)


def test_the_best_threshold_can_predict_no_answer():
    zeros = np.zeros(3)
    best = find_best_threshold(
        zeros, np.ones(3, bool), np.array([0.1, 0.2, 0.3]), np.zeros(3, bool)
    )
    assert best == (100.0, 0.0)


@pytest.mark.realdata
@pytest.mark.skipif("BERTFT_DATA" not in os.environ, reason="BERTFT_DATA is not set")
def test_a_published_model_has_its_official_score():
    folder = Path(os.environ["BERTFT_DATA"]) / "squad_v2"
    given = json.loads((folder / "predictions_bert_single.json").read_text(encoding="utf-8"))
    config = DataConfig(
        name="squad_v2", task="question_answering", validation=str(folder / "official_dev.json")
    )
    rows = load_splits(config, ("validation",)).validation
    golds = rows.column("label")
    scores = score_answers([given[name] for name in rows.column("id")], golds, "squad")
    values = summarize_scores(
        scores, np.array([bool(answers) for answers in golds]), by_answerability=True
    )
    assert {name: round(value, 3) for name, value in values.items()} == {
        "exact": 78.742, "f1": 81.775, "HasAns_exact": 74.106, "HasAns_f1": 80.182,
        "NoAns_exact": 83.364, "NoAns_f1": 83.364,
    }  # fmt: skip
