"""``adapter=``: eval, predict and merge with one that peft saved, predict with an exported one."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch
import yaml
from small_runs import answers, read, run_bertft
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from bertft.samples import load_sample

peft = pytest.importorskip("peft")

TEXTS = ["the film was superb, book 12", "the meal was horrid, room 3", "a plot"]
LINES = "".join(json.dumps({"text": text}) + "\n" for text in TEXTS)


@pytest.fixture(scope="session")
def theirs(trained, tmp_path_factory):
    """A base with a head, and an adapter of it that peft left: folders, and peft's logits."""
    run, folder = trained("classification", "method=lora"), tmp_path_factory.mktemp("peft")
    result = run_bertft("merge", f"run={run}", f"out={folder / 'base'}")
    assert result.status == 0, result
    base = AutoModelForSequenceClassification.from_pretrained(folder / "base")
    torch.manual_seed(0)
    config = peft.LoraConfig(task_type="SEQ_CLS", target_modules="all-linear", use_dora=True)
    model = peft.get_peft_model(base, config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.3)
    model.eval().save_pretrained(folder / "adapter")
    tokenizer = AutoTokenizer.from_pretrained(folder / "base")
    with torch.no_grad():
        logits = [model(**tokenizer(text, return_tensors="pt")).logits[0] for text in TEXTS]
    return folder / "base", folder / "adapter", torch.stack(logits)


def probabilities(actual):
    return np.array([list(answer["scores"].values()) for answer in actual])


def test_predict_answers_as_peft_does(theirs):
    _, adapter, logits = theirs
    actual = answers(run_bertft("predict", f"adapter={adapter}", stdin=LINES))
    np.testing.assert_allclose(probabilities(actual), logits.softmax(-1), atol=2e-6)
    assert set(actual[0]["scores"]) == {"neg", "pos"}
    assert answers(run_bertft("predict", f"run={adapter}", stdin=LINES)) == actual


def test_merge_folds_it_and_states_what_it_was_compared_on(theirs, work_dir):
    base, adapter, logits = theirs
    result = run_bertft("merge", f"adapter={adapter}", "out=merged")
    assert result.status == 0 and result.err == "", result
    first, second = result.out.splitlines()
    assert first == "folded the updates of 13 weight matrices into merged"
    assert re.search(r"^max \|Δlogit\| (\S+) on 64 sample rows$", second)
    model = AutoModelForSequenceClassification.from_pretrained(work_dir / "merged").eval()
    tokenizer = AutoTokenizer.from_pretrained(work_dir / "merged")
    with torch.no_grad():
        plain = [model(**tokenizer(text, return_tensors="pt")).logits[0] for text in TEXTS]
    np.testing.assert_allclose(torch.stack(plain), logits, atol=1e-5)
    card = (work_dir / "merged" / "README.md").read_text(encoding="utf-8")
    front = yaml.safe_load(card.split("---")[1])
    assert front["tags"] == ["bertft", "lora"] and "metrics" not in front
    assert "Converted with bertft from `adapter`, an adapter of base" in card
    assert "metrics are not recorded" in card and "## Data" not in card
    assert (
        "On 64 sample rows, the logits before and after merging" in card
        and str(base.parent) not in card
    )


@pytest.mark.parametrize("precision", [[], ["precision=bf16"]], ids=["not given", "bf16"])
def test_eval_scores_it(theirs, trained, work_dir, precision):
    _, adapter, _ = theirs
    rows = trained("classification", "method=lora").parent / "validation.csv"
    words = (f"data.validation={rows}", "hydra.run.dir=scores", *precision)
    assert run_bertft("eval", f"adapter={adapter}", *words).status == 0
    content = read(work_dir / "scores" / "metrics.json")["validation"]
    actual = answers(run_bertft("predict", f"adapter={adapter}", f"input={rows}", *precision))
    labels = [line.rpartition(",")[2] for line in rows.read_text().splitlines()[1:]]
    right = [answer["label"] == label for answer, label in zip(actual, labels, strict=True)]
    assert content["accuracy"] == pytest.approx(np.mean(right))
    result = run_bertft("eval", f"adapter={adapter}")
    assert result.refused and "records no data" in result.err


def test_a_merge_that_would_answer_otherwise_writes_nothing(theirs, work_dir, monkeypatch):
    from bertft.pipeline.task_model import TaskModel

    monkeypatch.setattr(TaskModel, "fold", lambda self: 0)
    monkeypatch.setattr("bertft.export.merge.save_model_folder", _without_adapter)
    result = run_bertft("merge", f"adapter={theirs[1]}", "out=merged")
    assert result.status == 3 and "the merged model would give different logits" in result.err, (
        result
    )
    assert list(work_dir.iterdir()) == []


def _without_adapter(folder, model, tokenizer):
    """The base's weights alone."""
    from bertft.export.transformers_folder import save_model_folder
    from bertft.methods.low_rank import fold
    from bertft.models.linear_layers import replace_modules

    layers = fold.low_rank_layers(model)
    replace_modules(model, {layer: layer.unwrap() for layer in layers.values()})
    save_model_folder(folder, model, tokenizer)


def test_another_place_of_the_base(theirs, work_dir):
    base, adapter, _ = theirs
    content = read(adapter / "adapter_config.json")
    (work_dir / "moved").mkdir()
    for file in adapter.iterdir():
        (work_dir / "moved" / file.name).write_bytes(file.read_bytes())
    (work_dir / "moved" / "adapter_config.json").write_text(
        json.dumps({**content, "base_model_name_or_path": "/gone/base"})
    )
    result = run_bertft("predict", "adapter=moved", stdin=LINES)
    assert result.refused and "there is no folder /gone/base" in result.err
    assert "base=<folder or Hub id>" in result.err and "adapter_config.json" in result.err
    actual = answers(run_bertft("predict", "adapter=moved", f"base={base}", stdin=LINES))
    assert actual == answers(run_bertft("predict", f"adapter={adapter}", stdin=LINES))


SETTINGS = (
    "data.stride=16", "data.max_length=72", "data.max_answer_length=4",
    "data.no_answer_threshold=0.35",
)  # fmt: skip


def test_an_exported_adapter_answers_questions_as_the_run_did(trained, work_dir):
    run = trained("question_answering", "method=svd_lora", "trainer.learning_rate=3e-2", *SETTINGS)
    result = run_bertft("export", f"run={run}", "out=adapter")
    assert result.status == 0, result
    assert read(work_dir / "adapter" / "bertft.json")["answering"] == {
        "stride": 16, "unanswerable": True, "max_answer_length": 4, "no_answer_threshold": 0.35,
        "scorer": "squad",
    }  # fmt: skip
    content = load_sample("qa", "validation")
    rows = [dict(zip(content, row, strict=True)) for row in zip(*content.values(), strict=True)]
    lines = "".join(json.dumps(row) + "\n" for row in rows[:24])
    expected, actual = (
        answers(run_bertft("predict", f"{name}={folder}", "precision=fp32", stdin=lines))
        for name, folder in (("run", run), ("adapter", "adapter"))
    )
    for mine, other in zip(expected, actual, strict=True):
        assert mine["answer"] == other["answer"]
        assert mine["score"] == pytest.approx(other["score"], abs=1e-5)
    (work_dir / "dev.jsonl").write_text(lines, encoding="utf-8")
    for number, word in enumerate((f"run={run}", "adapter=adapter")):
        words = ("data.validation=dev.jsonl", "precision=fp32", f"hydra.run.dir={number}")
        assert run_bertft("eval", word, *words).status == 0
    first, second = (
        read(work_dir / folder_name / "metrics.json")["validation"] for folder_name in "01"
    )
    assert second == pytest.approx(first, abs=1e-4)


@pytest.mark.parametrize(("words", "message"), [
    (("merge", "out=m"), "run: is missing. Set run=<run folder> or adapter=<folder>"),
    (("predict", "run=a", "adapter=b"), "run: cannot be combined with adapter"),
    (("eval", "run=a", "adapter=b"), "run: cannot be combined with adapter"),
    (
        ("eval", "adapter=b", "predictions=p.json", "data=squad"),
        "adapter: cannot be combined with predictions",
    ),
    (("predict", "run=a", "base=b"), "base: is only supported together with adapter"),
    (("export", "adapter=a", "out=b"), "format: the adapter already is in peft's format"),
    (("merge", "adapter=gone", "out=m"), "adapter: there is no folder gone. Set adapter=<folder"),
    (("predict", "run=gone"), "run: there is no folder gone. Set run=<run folder, merged folder"),
    (("predict", "adapter=."), "adapter: . has no adapter_config.json"),
])  # fmt: skip
def test_what_cannot_be_meant(words, message):
    result = run_bertft(*words)
    assert result.refused and message in result.err, result
