"""Question answering in the JSON formats of CMRC 2018 and DRCD; ids that are missing or repeat."""

# ruff: noqa: RUF001

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bertft.cli.commands.eval import score_predictions
from bertft.config.command_configs import EvalConfig
from bertft.config.data import DataConfig
from bertft.data.formats import detect_format
from bertft.data.propose_columns import propose_task
from bertft.data.question_ids import QuestionIds, shared_id
from bertft.data.readers.cmrc_json import find_answer
from bertft.data.schema import build_row_schema
from bertft.data.splits import load_splits, load_unlabelled
from bertft.errors import DataError

pytestmark = pytest.mark.usefixtures("read_both_ways")

PARAGRAPH = "陆远（笔名），1963年起在京任教；\n1990年 2月退休。"
CMRC = [
    {
        "context_id": "TRAIN_186",
        "context_text": PARAGRAPH,
        "qas": [
            {
                "query_text": "何时任教？",
                "query_id": "TRAIN_186_QUERY_0",
                "answers": ["1963年"],
            },
            {
                "query_text": "何时退休？",
                "query_id": "TRAIN_186_QUERY_1",
                "answers": ["1990年2月", "1990年 2月"],
            },
        ],
        "title": "陆远",
    },
    {
        "context_id": "TRAIN_54",
        "context_text": "安雅在伦敦工作，安雅是医生。",
        "qas": [{"query_text": "谁是医生？", "query_id": "TRAIN_54_QUERY_0", "answers": ["安雅"]}],
        "title": "安雅",
    },
]
DRCD = {
    "version": "1.3",
    "encoding": "UTF-8",
    "data": [
        {
            "title": "研究",
            "id": "1147",
            "paragraphs": [
                {
                    "context": "在歐洲，這種研究由兩位學者開創。",
                    "id": "1147-5",
                    "qas": [
                        {
                            "id": "1147-5-1",
                            "question": "研究在哪裡開創？",
                            "answers": [
                                {"id": "1", "text": "歐洲", "answer_start": 1},
                                {"id": "2", "text": "在歐洲", "answer_start": 0},
                            ],
                        }
                    ],
                }
            ],
        }
    ],
}


def config(**settings) -> DataConfig:
    return DataConfig(name="x", task="question_answering", **settings)


def read(path: Path, split: str = "validation", **settings):
    data = config(**{split: str(path)}, **settings)
    return dict(load_splits(data, (split,)).items())[split]


def write(path: Path, content, **kwargs) -> Path:
    path.write_text(json.dumps(content, ensure_ascii=False, **kwargs), encoding="utf-8")
    return path


def answers(rows) -> list[list[tuple[str, int]]]:
    pairs = zip(rows.column("label"), rows.column("start"), strict=True)
    return [list(zip(texts, starts, strict=True)) for texts, starts in pairs]


@pytest.mark.parametrize("indent", [None, 2])
def test_cmrc_files_are_read(tmp_path, indent):
    """The answer is the first occurrence; other white space is tolerated."""
    path = write(tmp_path / "cmrc2018_train.json", CMRC, indent=indent)
    rows = read(path, "train", unanswerable=False)
    ids = ["TRAIN_186_QUERY_0", "TRAIN_186_QUERY_1", "TRAIN_54_QUERY_0"]
    assert rows.column("id") == ids
    assert rows.column("context")[:2] == [PARAGRAPH, PARAGRAPH]
    assert answers(rows) == [
        [("1963年", PARAGRAPH.index("1963年"))],
        [("1990年 2月", PARAGRAPH.index("1990年 2月"))] * 2,
        [("安雅", 0)],
    ]
    assert rows.location(2) == f"{path}, question 3"
    # The official script compares with the texts of the file, whatever the context has.
    scored = read(path)
    assert scored.column("label")[1] == ["1990年 2月", "1990年2月"]
    assert scored.column("start")[1] == [PARAGRAPH.index("1990年 2月"), -1]
    dropped = {"white space of an answer differs from the context": 1}
    assert scored.accounting()["dropped"] == rows.accounting()["dropped"] == dropped
    assert (rows.bad.read, rows.bad.counts, rows.bad.notes) == (3, {}, [])


def test_an_answer_that_does_not_occur_is_a_bad_row(tmp_path):
    content = json.loads(json.dumps(CMRC))
    content[0]["qas"][0]["answers"] = ["1964年"]
    path = write(tmp_path / "a.json", content)
    with pytest.raises(DataError) as raised:
        read(path, "train")
    message = str(raised.value)
    assert f"{path}, question 1: question 'TRAIN_186_QUERY_0': the answer '1964年'" in message
    assert "does not occur in the context" in message and "data.on_bad_row=skip" in message
    rows = read(path, "train", on_bad_row="skip", max_skipped=1.0)
    assert len(rows) == 2 and rows.bad.counts == {"answer without an offset": 1}
    # Rows to score keep it: the official script counts the question.
    assert answers(read(path))[0] == [("1964年", -1)]


def test_cmrc_without_answers_is_predicted(tmp_path):
    content = json.loads(json.dumps(CMRC))
    for paragraph in content:
        for question in paragraph["qas"]:
            del question["answers"]
    rows = load_unlabelled(str(write(tmp_path / "a.json", content)), config())
    assert rows.columns == ["id", "question", "context", "line"] and len(rows) == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c[0].update(qas=None), r"\[0\] has no list 'qas' as in the format of CMRC"),
        (lambda c: c[1]["qas"].append(3), r"\[1\]\.qas\[1\] is not an object"),
        (
            lambda c: c[0]["qas"][1].pop("query_text"),
            r"question 2: \[0\]\.qas\[1\] has no question",
        ),
        (lambda c: c[1].pop("context_text"), r"question 3: \[1\]\.qas\[0\] has no context"),
        (lambda c: c[1].update(context_text=3), "question 3: .* number 3, not a string"),
        (lambda c: c[1]["qas"][0].update(answers=[3]), "the answer is the number 3"),
        (lambda c: c[1]["qas"][0].update(answers=[""]), "empty answer"),
        (lambda c: c[1]["qas"][0].update(answers=7), "answers is the number 7, not a list"),
    ],
)
def test_invalid_cmrc_files_are_reported(tmp_path, change, message):
    content = json.loads(json.dumps(CMRC))
    change(content)
    with pytest.raises(DataError, match=message):
        read(write(tmp_path / "a.json", content), "train", format="cmrc2018")


def test_the_format_is_detected_from_the_content(tmp_path):
    schema = build_row_schema(config())

    def detected(content) -> str:
        path = write(tmp_path / "a.json", content)
        return detect_format(path, schema, config(), "a.json").name

    assert detected(CMRC) == "cmrc2018" and detected(DRCD) == "squad"
    # Rows in which a column happens to have this name are not CMRC.
    assert detected([{"context_text": "a", "question": "b", "answer": "c"}]) == "json"
    classification = DataConfig(name="x", train=str(write(tmp_path / "b.json", CMRC)))
    assert propose_task(tmp_path / "b.json", classification) == ["data.task=question_answering"]


def test_drcd_is_read_as_squad(tmp_path):
    path = tmp_path / "DRCD_dev.json"
    path.write_text("\ufeff" + json.dumps(DRCD, ensure_ascii=False), encoding="utf-8")
    for split in ("train", "validation"):
        rows = read(path, split, scorer="cmrc2018")
        assert rows.column("id") == ["1147-5-1"]
        assert answers(rows) == [[("歐洲", 1), ("在歐洲", 0)]]


@pytest.mark.parametrize(
    ("context", "answer", "expected"),
    [
        ("a b a b", "a b", (0, "a b")),
        ("x a  b a b", "a b", (7, "a b")),  # an exact occurrence has precedence
        ("x a\n b", " ab ", (2, "a\n b")),
        ("x\u3000酒 店", "酒店", (2, "酒 店")),
        ("x a b", "a c", None),
        ("x a b", " \n", None),
        ("", "a", None),
    ],
)
def test_find_answer(context, answer, expected):
    assert find_answer(context, answer) == expected
    if expected is not None:
        start, text = expected
        assert context[start : start + len(text)] == text


def squad(*ids) -> dict:
    questions = [
        {"question": f"Who {number}?", "answers": [{"text": "Ada", "answer_start": 0}]}
        | ({} if name is None else {"id": name})
        for number, name in enumerate(ids)
    ]
    return {"data": [{"paragraphs": [{"context": "Ada wrote it.", "qas": questions}]}]}


def test_questions_without_ids_and_with_the_same_id(tmp_path):
    path = write(tmp_path / "a.json", squad("q1", None, "q1", "q1#2", 7, "7", "", "q1"))
    rows = read(path)
    expected = ["q1", "question-2", "q1#2", "q1#2#2", "7", "7#2", "question-7", "q1#3"]
    assert rows.column("id") == expected
    assert rows.bad.notes == [
        "2 questions without an id are named by the position in the data, as in question-1",
        "4 questions have the id of an earlier one and got a new id: q1 → q1#2",
    ]
    assert read(path, "train").column("id") == expected


def test_ids_are_unique_whatever_the_file_has():
    ids = QuestionIds()
    names = [
        ids.assign(name, number) for number, name in enumerate(["a", "a#2", "a", None, "a"], 1)
    ]
    assert names == ["a", "a#2", "a#3", "question-4", "a#4"]
    assert (ids.generated, ids.renamed) == (1, 2)
    assert shared_id("a#3", names) == "a"
    assert shared_id("a#x", names) is shared_id("b#2", names) is shared_id("a", names) is None


def test_predictions_of_repeated_ids(tmp_path, capsys):
    """The answer to an id counts for each question that has it, as in SQuAD 1.1's script."""
    path = write(tmp_path / "a.json", squad("q1", "q1", None, "q2"))
    predictions = tmp_path / "given.json"

    def score(content):
        predictions.write_text(json.dumps(content))
        result = score_predictions(
            EvalConfig(predictions=str(predictions), data=config(validation=str(path)))
        )
        return result[0]["exact"], result[2], capsys.readouterr().err

    exact, counts, warnings = score({"q1": "Ada", "question-3": "Ada", "q2": "Bob"})
    assert exact == 75.0 and counts["missing_predictions"] == counts["unknown_predictions"] == 0
    assert "1 question has the id of an earlier one and got a new id: q1 → q1#2" in warnings
    assert "1 question with the id of an earlier question; the one answer" in warnings
    exact, counts, warnings = score({"q1": "Ada", "q1#2": "Bob", "question-3": "Bob", "q2": "Ada"})
    assert exact == 50.0 and "the one answer" not in warnings
    exact, counts, warnings = score({"q1#2": "Ada"})
    assert exact == 25.0 and counts["missing_predictions"] == 3
