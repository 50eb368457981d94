"""One answer per row, in order, whatever the number of rows and wherever batches end.

The model answers with a number that only its own row has, so that one lost, moved or given twice
is found; reading, tokenising, batching, and writing are the command's own.
"""

from __future__ import annotations

import io
import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from bertft.cli.commands import predict
from bertft.config.command_configs import PredictConfig
from bertft.config.data import DataConfig
from bertft.errors import DataError
from bertft.models.precision import Precision
from bertft.tasks.task import build_task
from bertft.training import evaluate

_SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
_TEXTS = [*_SPECIALS, *"0123456789", "x"]
_CONTEXT = "x 0 x"


def _tokenizer() -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.WordLevel({token: at for at, token in enumerate(_TEXTS)}, "[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split("", "isolated")]
    )
    backend.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]",
        sep_token="[SEP]", model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )  # fmt: skip


class Reading:
    """Logits from the digits of a row: of the sequence its number, of each token its digit."""

    def __init__(self, level: str, width: int) -> None:
        self.level, self.width, self.model = level, width, torch.nn.Module()

    def __call__(self, batch) -> torch.Tensor:
        if self.level == "token":
            return (batch.input_ids[:, None] - 4.0).expand(-1, self.width)
        numbers = []
        for ids in batch.input_ids.split(batch.lengths.tolist()):
            digits = [str(token_id - 4) for token_id in ids.tolist() if 4 <= token_id < 14]
            numbers.append(float("".join(digits)))
        return torch.tensor(numbers)[:, None].expand(-1, self.width)


@pytest.fixture
def ask(monkeypatch, capsys):
    """``ask(task, objects)``: what predict writes for them, and what it says."""
    tokenizer = _tokenizer()

    def run(name: str, rows: list, **settings) -> tuple[list[dict], str]:
        data = DataConfig(name="x", task=name, stride=4)
        task = build_task(data, None)
        runner = Reading(task.level, 2 if task.level == "token" else 1)
        adapted = SimpleNamespace(
            task=task, tokenizer=tokenizer, runner=runner,
            precision=Precision("fp32", torch.device("cpu")),
        )  # fmt: skip
        facts = SimpleNamespace(max_length=24)
        saved = SimpleNamespace(task_model=adapted, data=data, info=facts, unnamed_tags_message="")
        monkeypatch.setattr(predict, "open_from_settings", lambda *_, **__: saved)
        content = "".join(json.dumps(row) + "\n" for row in rows).encode()
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
        predict.run(PredictConfig(run="x", **settings), None)
        result = capsys.readouterr()
        return [json.loads(line) for line in result.out.splitlines()], result.err

    return run


def _row(number: int) -> dict:
    """Of another length than its neighbours', so that batches put rows in another order."""
    return {"text": f"{'x ' * (number * 7 % 11)}{number}"}


@pytest.mark.parametrize("budget", [1, 24, 4_096])
def test_every_row_has_its_own_answer(ask, monkeypatch, budget):
    monkeypatch.setattr(evaluate, "token_budget", lambda _: budget)
    for count in (1, 99, 100, 101, 102, 1_000):
        actual, result = ask("regression", [_row(number) for number in range(count)])
        assert [answer["score"] for answer in actual] == list(range(count))
        assert f"stdin: {count:,} row{'s' * (count > 1)} read = {count:,} used" in result


def test_a_bad_row_has_an_error_at_its_place(ask):
    rows = [_row(number) for number in range(300)]
    for bad in (0, 1, 98, 99, 100, 101, 255, 256, 299):
        rows[bad] = [{"text": ""}, {"text": 7}, [bad]][bad % 3]
    actual, result = ask("regression", rows, on_bad_row="skip")
    assert [answer["line"] for answer in actual] == list(range(1, 301))
    for number, answer in enumerate(actual):
        if "text" in rows[number] and rows[number] == _row(number):
            assert answer == {"line": number + 1, "score": number}
        else:
            assert answer["score"] is None and answer["error"]
    assert "300 rows read = 291 used + 9 skipped" in result


def test_all_rows_may_be_bad(ask):
    actual, _ = ask("regression", [{"text": ""}] * 101, on_bad_row="skip")
    assert [answer["error"] for answer in actual] == ["empty text"] * 101


def test_a_column_with_the_name_of_a_setting_keeps_its_name(ask):
    with pytest.raises(DataError) as raised:
        ask("regression", [{"id": 7, "data": {"text": "a long text"}}] * 9)
    message = str(raised.value)
    assert "columns: column 'text' not found (columns: 'id', 'data', 'data.text')" in message
    assert "data.text=" not in message
    assert raised.value.proposed_settings in ([], ["columns=data.text"])


def test_an_error_in_a_setting_has_its_name_in_predict(ask):
    with pytest.raises(DataError, match="unknown encoding 'utf9'") as raised:
        ask("regression", [_row(0)], encoding="utf9")
    assert raised.value.where == "encoding"


def test_a_text_next_to_a_file_names_a_column(ask, tmp_path):
    (tmp_path / "a.csv").write_text("id,review\n1,good\n")
    for setting in ("columns", "text"):
        with pytest.raises(DataError, match=f"{setting}: column 'A film' not found") as raised:
            ask("regression", [], input=str(tmp_path / "a.csv"), **{setting: "A film"})
        assert f"Set {setting}=<column>" in raised.value.hint
        assert ("to predict a text, leave out input" in raised.value.hint) == (setting == "text")


def test_questions_of_many_windows(ask):
    """The number is the question's id; contexts of one to many windows."""
    rows = [
        {"id": number, "question": "0", "context": _CONTEXT * (1 + number * 7 % 13)}
        for number in range(102)
    ]
    rows[50]["question"] = "0 " * 30  # leaves no room for its context
    rows[60]["context"], rows[61]["question"] = "", 7
    del rows[62]["id"], rows[62]["question"]
    actual, result = ask("question_answering", rows, on_bad_row="skip")
    assert [answer["line"] for answer in actual] == list(range(1, 103))
    assert "id" not in actual[62] and actual[62]["error"] == "empty question"
    # An answer of its own or an error in its place: each row is found by its id.
    assert [int(answer["id"]) for answer in actual if "id" in answer] == [
        number for number in range(102) if number != 62
    ]
    assert [answer["line"] - 1 for answer in actual if "error" in answer] == [50, 60, 61, 62]
    assert "the question is too long" in actual[50]["error"] and actual[50]["answer"] is None
    assert "1 × question longer than the window" in result


def test_an_answer_lost_on_its_way_is_a_bug(ask, monkeypatch):
    from bertft.tasks.regression import RegressionTask

    whole = RegressionTask.decode_predictions
    monkeypatch.setattr(RegressionTask, "decode_predictions", lambda *args: list(whole(*args))[1:])
    with pytest.raises(RuntimeError, match="100 rows read, but 99 predictions written"):
        ask("regression", [_row(number) for number in range(100)])


def test_the_reading_model_itself():
    batch = SimpleNamespace(
        input_ids=torch.tensor([2, 5, 6, 3, 2, 9, 3]), lengths=torch.tensor([4, 3])
    )
    np.testing.assert_array_equal(Reading("sequence", 1)(batch)[:, 0], [12, 5])
