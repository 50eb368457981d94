"""The task as a whole: its contract, its answers, and the official features of SQuAD 2.0's dev."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from bertft.data.features import featurize
from bertft.data.rows import BadRows, Rows
from bertft.data.splits import load_splits
from bertft.errors import UsageError
from bertft.tasks.question_answering.findings import context_tokens
from bertft.tasks.question_answering.task import QuestionAnsweringTask
from bertft.tasks.task import detect_task

# Where an answer begins or ends within a word, its tokens read as the whole of what they cover.
WITHIN_A_WORD = {
    ("Japan", "Japanese"), ("2", "12"), ("west", "northwest"), ("Sky", "BSky"), ("Rhin", "Rhine"),
    ("7,000,000 square kilometres (2,70", "7,000,000 square kilometres (2,700"),
    ("y through the port's trade with Constantinople, and ports on the Black Sea",
     "probably through the port's trade with Constantinople, and ports on the Black Sea"),
    ("tempted to enter the test site", "attempted to enter the test site"),
    ("direct civil disobedience", "Indirect civil disobedience"), ("equality", "inequality"),
    ("south", "southern"),
    ("6,000 square kilometres", "26,000 square kilometres"), ("gold rush", "gold rushes"),
}  # fmt: skip


@pytest.fixture
def task(settings) -> QuestionAnsweringTask:
    return QuestionAnsweringTask(settings(task="question_answering", stride=3), None)


def rows_of(*rows) -> Rows:
    """(id, question, context, answers) → Rows; an answer stands at its first match."""
    columns = list(zip(*rows, strict=True))
    starts = [[row[2].index(answer) for answer in row[3]] for row in rows]
    table = {
        "id": pa.array(columns[0], pa.string()), "question": columns[1], "context": columns[2],
        "label": pa.array(columns[3], pa.list_(pa.string())),
        "start": pa.array(starts, pa.list_(pa.int64())), "line": list(range(1, len(rows) + 1)),
    }  # fmt: skip
    return Rows(pa.table(table), BadRows("here"))


LONG = "a film good bad dull the plot " * 3 + "very bad"


@pytest.fixture
def table(task, bert_tokenizer):
    """Two windows or more for the first row, one each for the others."""
    rows = rows_of(
        ("x", "good", LONG, ["very bad", "bad"]), ("y", "bad", "the plot", []),
        (None, "a", "good film", ["film"]),
    )  # fmt: skip
    return featurize(rows, task.make_encoder(bert_tokenizer, 16), [], None)


def pointing(table, *spans) -> np.ndarray:
    """Logits whose best span of each window is the one given, [CLS] for (0, 0)."""
    logits = np.zeros((int(table.lengths.sum()), 2), np.float32)
    firsts = np.cumsum(table.lengths) - table.lengths
    for first, (start, end) in zip(firsts, spans, strict=True):
        logits[first + start, 0] = logits[first + end, 1] = 9
    return logits


def test_features(table):
    every = np.arange(len(table))
    assert set(table.columns) == {
        "input_ids", "token_type_ids", "char_start", "char_end", "row", "start_position",
        "end_position",
    }  # fmt: skip
    assert table.gather("row", every).tolist() == [0, 0, 0, 1, 2]
    assert table.lengths.tolist() == [16, 16, 9, 6, 6]
    assert table.gather("start_position", every).tolist() == [0, 0, 6, 0, 4]
    assert table.gather("end_position", every).tolist() == [0, 0, 7, 0, 4]


def test_right_answers_score_everything(task, table):
    every = np.arange(len(table))
    places = [table.gather(name, every) for name in ("start_position", "end_position")]
    logits = pointing(table, *zip(*places, strict=True))
    values = task.compute_metrics(logits, table)
    assert tuple(values) == task.metric_names
    loss = values.pop("loss")
    thresholds = {values.pop(f"best_{name}_thresh") for name in ("exact", "f1")}
    assert set(values.values()) == {100.0}
    assert all(0 < threshold < 1 for threshold in thresholds) and 0 < loss < 1e-1
    actual = list(task.decode_predictions(logits, table))
    assert [answer["answer"] for answer in actual] == ["very bad", "", "film"]
    assert [answer.get("id", "none") for answer in actual] == ["x", "y", "none"]
    assert (actual[0]["start"], actual[0]["end"]) == (LONG.index("very"), len(LONG))
    assert (actual[1]["start"], actual[1]["end"]) == (0, 0)
    assert all(answer["score"] > 0.99 for answer in actual)


def test_no_answer_needs_every_window(task, table):
    logits = pointing(table, (0, 0), (3, 3), (0, 0), (0, 0), (0, 0))
    assert [bool(answer["answer"]) for answer in task.decode_predictions(logits, table)] == [
        True,
        False,
        False,
    ]


def test_the_threshold(settings, table):
    logits = pointing(table, *[(0, 0)] * 5)
    given = {}
    for threshold in (0.5, 1 - 1e-9):
        task = QuestionAnsweringTask(
            settings(task="question_answering", stride=3, no_answer_threshold=threshold), None
        )
        given[threshold] = [
            bool(answer["answer"]) for answer in task.decode_predictions(logits, table)
        ]
    assert given == {0.5: [False] * 3, 1 - 1e-9: [True] * 3}


def test_every_question_has_an_answer_without_unanswerable(settings, table):
    task = QuestionAnsweringTask(
        settings(task="question_answering", stride=3, unanswerable=False), None
    )
    assert task.metric_names == ("f1", "exact", "loss") and task.threshold is None
    assert all(
        answer["answer"]
        for answer in task.decode_predictions(pointing(table, *[(0, 0)] * 5), table)
    )


@pytest.fixture
def many(task, bert_tokenizer):
    """Twelve questions, whose true answers are at different positions, and one without."""
    contexts = ["good " * (number % 4 + 1) + "bad film " + "a plot " * 3 for number in range(12)]
    rows = rows_of(
        *((None, "a", context, ["bad"]) for context in contexts), (None, "a", contexts[0], [])
    )
    return featurize(rows, task.make_encoder(bert_tokenizer, 32), [], None)


def findings(task, table, *spans):
    return [
        (finding.kind, finding.count, finding.total)
        for finding in task.prediction_findings(pointing(table, *spans), table)
    ]


def test_a_model_that_answers_nothing(task, many):
    assert findings(task, many, *[(0, 0)] * 13) == [("no_predicted_answer", 12, 13)]
    assert findings(task, many, (3, 3), *[(0, 0)] * 12) == []


def test_a_model_that_answers_at_one_position(task, many):
    first = int(np.flatnonzero(many.read_column("char_start")[: many.lengths[0]] == 0)[0])
    assert findings(task, many, *[(first, first)] * 13) == [("constant_answer_position", 13, 13)]
    last_tokens = many.lengths - 2  # before [SEP]
    (finding,) = task.prediction_findings(
        pointing(many, *((last - 1, last) for last in last_tokens)), many
    )
    assert (finding.count, finding.total) == (13, 13)
    assert "end at the same token of the context, number 1 from the end" in finding.message
    spread = [(first + number % 3, first + number % 3) for number in range(13)]
    assert findings(task, many, *spread) == []
    targets = [many.read_column(name) for name in ("start_position", "end_position")]
    assert findings(task, many, *zip(*targets, strict=True)) == []
    assert findings(task, many, *[(first, first)] * 9, *[(0, 0)] * 4) == [], "few answers"


def test_a_position_that_most_true_answers_have_is_no_finding(task, bert_tokenizer):
    rows = rows_of(*((None, "a", f"bad {'film ' * number}", ["bad"]) for number in range(1, 13)))
    table = featurize(rows, task.make_encoder(bert_tokenizer, 32), [], None)
    targets = [table.read_column(name) for name in ("start_position", "end_position")]
    assert findings(task, table, *zip(*targets, strict=True)) == []


def test_findings_of_a_context_in_several_windows(task, table):
    """The tokens of overlapping windows count once."""
    tokens = context_tokens(
        table.read_column("row"), table.lengths, table.read_column("char_start")
    )
    assert [len(starts) for starts in tokens] == [len(LONG.split()), 2, 2]
    assert list(task.prediction_findings(np.full((53, 2), np.nan, np.float32), table)) == []


def test_an_answer_is_at_most_so_long(settings, table):
    task = QuestionAnsweringTask(
        settings(task="question_answering", stride=3, max_answer_length=2), None
    )
    logits = pointing(table, (3, 12), (3, 12), (3, 9), (3, 4), (3, 4))
    assert all(
        len(answer["answer"].split()) <= 2 for answer in task.decode_predictions(logits, table)
    )


def test_groups_that_are_not_there_have_no_metric(task, bert_tokenizer, settings):
    rows = rows_of(("x", "good", "the plot", ["plot"]))
    table = featurize(rows, task.make_encoder(bert_tokenizer, 16), [], None)
    logits = pointing(table, (4, 4))
    computed = task.compute_metrics(logits, table)
    assert {name for name in task.metric_names if name not in computed} == {
        "NoAns_exact", "NoAns_f1",
    }  # fmt: skip
    chosen = QuestionAnsweringTask(
        settings(task="question_answering", stride=3, metric="NoAns_f1"), None
    )
    assert math.isnan(chosen.compute_metrics(logits, table)["NoAns_f1"])


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_metrics_of_broken_logits_never_win(task, table, bad):
    logits = pointing(table, *[(0, 0)] * 5)
    logits[7, 1] = bad
    values = task.compute_metrics(logits, table)
    assert set(values) == set(task.metric_names)
    assert not any(task.is_better(value, None) for value in values.values())


def test_windows_that_cannot_overlap_so_far(task, bert_tokenizer):
    with pytest.raises(UsageError, match=r"data\.stride: windows of 7 tokens cannot overlap by 3"):
        task.make_encoder(bert_tokenizer, 7)


def test_a_head_is_recognised():
    for name in ("Bert", "Roberta", "DebertaV2", "ModernBert"):
        config = {"architectures": [f"{name}ForQuestionAnswering"], "id2label": {"0": "a"}}
        assert detect_task(config) == ("question_answering", None)


def test_stride_is_part_of_the_key_and_lengths_of_answers_are_not(settings):
    def key(**changes):
        return QuestionAnsweringTask(
            settings(task="question_answering", **changes), None
        ).cache_key()

    assert key() == key(max_answer_length=5, no_answer_threshold=0.1, scorer="cmrc2018")
    assert key() != key(stride=64)


@pytest.mark.realdata
@pytest.mark.skipif("BERTFT_DATA" not in os.environ, reason="BERTFT_DATA is not set")
def test_the_features_of_the_official_dev_set(settings):
    """12,134 with bert-base-uncased's vocabulary; certain answers read as themselves."""
    from transformers import AutoTokenizer

    folder = Path(os.environ["BERTFT_DATA"])
    tokenizer = AutoTokenizer.from_pretrained(folder / "vocab" / "bert-base-uncased")
    config = settings(
        task="question_answering", validation=str(folder / "squad_v2" / "official_dev.json")
    )
    rows = load_splits(config, ("validation",)).validation
    table = featurize(
        rows, QuestionAnsweringTask(config, None).make_encoder(tokenizer, 384), [], None
    )
    assert len(table) == 12_134
    every, lengths = np.arange(len(table)), table.lengths
    assert (round(lengths.mean()), np.median(lengths)) == (180, 164)
    firsts = np.cumsum(lengths, dtype=np.int64) - lengths
    contexts, answers = rows.column("context"), rows.column("label")
    begins, ends = table.gather("char_start", every), table.gather("char_end", every)
    start, end = table.gather("start_position", every), table.gather("end_position", every)
    read = [
        (answers[row][0], contexts[row][begins[first + a] : ends[first + b]])
        for row, first, a, b in zip(table.gather("row", every), firsts, start, end, strict=True)
        if a
    ]
    assert len(read) > 5_900
    others = {pair for pair in read if pair[0] != pair[1]}
    assert others == WITHIN_A_WORD
    answerable = {row for row, texts in enumerate(answers) if texts}
    assert answerable == set(table.gather("row", every)[start > 0].tolist())
