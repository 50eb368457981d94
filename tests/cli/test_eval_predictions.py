"""Answers from elsewhere: no question is left out for an offset, and none is skipped in silence."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from bertft.cli.commands.eval import score_predictions
from bertft.config.command_configs import EvalConfig
from bertft.config.data import DataConfig
from bertft.errors import DataError

OFFICIAL = {
    "exact": 78.742, "f1": 81.775, "HasAns_exact": 74.106, "HasAns_f1": 80.182,
    "NoAns_exact": 83.364, "NoAns_f1": 83.364,
}  # fmt: skip


@pytest.mark.realdata
@pytest.mark.skipif("BERTFT_DATA" not in os.environ, reason="BERTFT_DATA is not set")
def test_misplaced_offsets_do_not_change_the_official_score(tmp_path, capsys):
    """Every answer of SQuAD's dev set is moved, alone or with the others of its question."""
    folder = Path(os.environ["BERTFT_DATA"]) / "squad_v2"
    given = folder / "predictions_bert_single.json"
    content = json.loads((folder / "official_dev.json").read_text(encoding="utf-8"))
    moved = 0
    for number, question in enumerate(
        question
        for article in content["data"]
        for paragraph in article["paragraphs"]
        for question in paragraph["qas"]
    ):
        for answer in question["answers"][: 1 + number % 3]:
            answer["answer_start"] += 1 + number % 100_000
            moved += 1
    (tmp_path / "dev.json").write_text(json.dumps(content), encoding="utf-8")
    for split in ("validation", "train"):
        data = DataConfig(
            name="squad_v2", task="question_answering", **{split: str(tmp_path / "dev.json")}
        )
        metrics, _, counts = score_predictions(
            EvalConfig(predictions=str(given), data=data, split=split)
        )
        assert {name: round(value, 3) for name, value in metrics.items()} == OFFICIAL
        assert (counts["read"], counts["used"], counts["skipped"]) == (11_873, 11_873, {})
        assert 0.99 * moved < sum(counts["dropped"].values()) <= moved  # some stand there as well
        assert (counts["missing_predictions"], counts["unknown_predictions"]) == (0, 0)
    assert capsys.readouterr().err == ""


def test_a_missing_prediction_scores_nothing(tmp_path, capsys):
    """As SQuAD 1.1's and CMRC 2018's scripts have it: it counts in the mean, with 0."""
    questions = [
        {"id": f"q{n}", "question": "Who?", "context": "Ada and Bob.",
         "answers": [{"text": "Ada", "answer_start": 7}] if n % 2 else []}
        for n in range(8)
    ]  # fmt: skip
    rows = tmp_path / "dev.jsonl"
    rows.write_text("".join(json.dumps(question) + "\n" for question in questions))
    given = tmp_path / "given.json"
    given.write_text(json.dumps({"q1": "Ada", "q2": "", "q3": "Ada", "else": "x"}))
    data = DataConfig(name="x", task="question_answering", validation=str(rows))
    metrics, _, counts = score_predictions(EvalConfig(predictions=str(given), data=data))
    assert metrics == {
        "exact": 37.5, "f1": 37.5, "HasAns_exact": 50.0, "HasAns_f1": 50.0,
        "NoAns_exact": 25.0, "NoAns_f1": 25.0,
    }  # fmt: skip
    assert (counts["read"], counts["used"]) == (8, 8)
    assert (counts["missing_predictions"], counts["unknown_predictions"]) == (5, 1)
    assert counts["dropped"] == {"offset of an answer ignored: answer not at its offset": 4}
    result = capsys.readouterr().err
    assert "no answer to 5 of 8 questions" in result and "(q0, q4, q5, ... (2 more))" in result
    assert "1 of 4 answers are ignored" in result


def test_an_answer_that_is_given_twice_is_refused(tmp_path):
    """json keeps the last one."""
    (tmp_path / "given.json").write_text('{"q0": "Ada", "q1": "x", "q0": "Bob"}')
    data = DataConfig(name="x", task="question_answering", validation="none.json")
    with pytest.raises(DataError, match=r"given\.json: the key 'q0' occurs 2 times"):
        score_predictions(EvalConfig(predictions=str(tmp_path / "given.json"), data=data))


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16-le"])
def test_predictions_in_another_encoding_are_refused(tmp_path, encoding):
    (tmp_path / "given.json").write_bytes('{"q0": "Café"}'.encode(encoding))
    data = DataConfig(name="x", task="question_answering", validation="none.json")
    with pytest.raises(DataError, match=r"given\.json: is not (UTF-8|valid JSON)"):
        score_predictions(EvalConfig(predictions=str(tmp_path / "given.json"), data=data))
