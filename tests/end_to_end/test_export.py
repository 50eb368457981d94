"""``bertft export``: peft loads what a run left, and bertft reads it back like any other model."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from small_runs import answers, read, run_bertft

peft = pytest.importorskip("peft")

TEXTS = ["the film was superb, book 12", "the meal was horrid, room 3", "a plot"]
METHODS = [
    ("classification", "method=lora", "trainer.learning_rate=2e-2"),
    ("pair", "method=svd_lora", "trainer.learning_rate=2e-2"),
    ("regression", "method=lora", "method.low_rank.use_dora=true"),
    ("multi_label", "method=lora", "method.low_rank.start=principal"),
    ("classification", "method=ia3"),
    ("classification", "method=vera"),
]


def rows(task):
    texts = [{"one": text, "two": "the room was fine"} for text in TEXTS]
    if task != "pair":
        texts = [{"text": text} for text in TEXTS]
    return "".join(json.dumps(row) + "\n" for row in texts)


def numbers(actual):
    """Scores of answers, whatever the task."""
    content = [answer.get("scores", answer.get("score")) for answer in actual]
    return np.array(
        [list(value.values()) if isinstance(value, dict) else [value] for value in content]
    )


@pytest.fixture
def exported(trained, tmp_path):
    def make(task, *words):
        run, out = trained(task, *words), tmp_path / "an adapter"
        result = run_bertft("export", f"run={run}", f"out={out}")
        assert result.status == 0, result
        assert "max |Δlogit|" in result.out and result.err == ""
        return run, out

    return make


@pytest.mark.parametrize("words", METHODS, ids=lambda words: f"{words[0]} {words[-1]}")
def test_every_reader_answers_as_the_run(exported, words):
    run, out = exported(*words)
    task = words[0]
    # The adapter computes in fp32: what the run answers in its own precision may be bf16.
    run_answers = answers(run_bertft("predict", f"run={run}", "precision=fp32", stdin=rows(task)))
    columns = ["text=[one,two]"] if task == "pair" else []
    again = answers(run_bertft("predict", f"run={out}", *columns, stdin=rows(task)))
    np.testing.assert_allclose(numbers(again), numbers(run_answers), atol=1e-6)
    assert [answer.get("label") for answer in again] == [
        answer.get("label") for answer in run_answers
    ]

    count = read(out / "bertft.json")["labels"]
    model = peft.AutoPeftModelForSequenceClassification.from_pretrained(
        out, num_labels=len(count) if count else 1
    ).eval()
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(out)
    second = ["the room was fine"] if task == "pair" else []
    with torch.no_grad():
        logits = torch.cat(
            [model(**tokenizer(text, *second, return_tensors="pt")).logits for text in TEXTS]
        ).double()
    kinds = {"regression": lambda x: x, "multi_label": torch.sigmoid}
    expected = kinds.get(task, lambda x: x.softmax(-1))(logits).numpy()
    np.testing.assert_allclose(numbers(run_answers), expected, atol=2e-6)
    card = (out / "README.md").read_text()
    assert "library_name: peft" in card and "an adapter in PEFT's format" in card


def test_eval_takes_it(exported, tmp_path):
    run, out = exported(*METHODS[0])
    data = [f"data.{split}={run.parent / split}.csv" for split in ("train", "validation")]
    folder = f"hydra.run.dir={tmp_path / 'scores'}"
    result = run_bertft("eval", f"run={out}", "data=files", *data, folder)
    assert result.status == 0, result
    content = read(tmp_path / "scores" / "metrics.json")["validation"]
    result = run_bertft("eval", f"run={run}", "precision=fp32", f"hydra.run.dir={tmp_path / 'own'}")
    assert result.status == 0, result
    best = read(tmp_path / "own" / "metrics.json")["validation"]
    assert content.keys() == best.keys()
    assert content["accuracy"] == best["accuracy"] and abs(content["loss"] - best["loss"]) < 1e-5


@pytest.mark.parametrize(("words", "message"), [
    (("classification", "method=prefix"), "merge RUN <folder> prefix=separate"),
    (("classification", "method=bitfit"), "weights of the base model"),
    (("classification", "method=head"), "the run has no adapter"),
    (("classification", "method=lora", "method.ia3={}"), "one kind of adapter"),
])  # fmt: skip
def test_methods_that_no_adapter_holds_are_refused(trained, tmp_path, words, message):
    result = run_bertft("export", f"run={trained(*words)}", f"out={tmp_path / 'out'}")
    assert result.refused and message in result.err
    assert not (tmp_path / "out").exists()


def test_its_base_is_found_from_any_folder(trained, tmp_path, monkeypatch):
    """A relative path would be taken for a name on the Hub, from another folder."""
    run, out = trained(*METHODS[0]), tmp_path / "adapter"
    monkeypatch.chdir(run.parent)
    result = run_bertft("export", f"run={run.name}", f"out={out}")
    assert result.status == 0, result
    assert read(out / "adapter_config.json")["base_model_name_or_path"] == str(run / "base")
    monkeypatch.chdir(tmp_path)
    assert len(answers(run_bertft("predict", "run=adapter", stdin=rows("classification")))) == 3


def test_a_relative_base_that_is_not_there_is_not_looked_for_on_the_hub(exported):
    _, out = exported(*METHODS[0])
    content = read(out / "adapter_config.json")
    named = {**content, "base_model_name_or_path": "run/base"}
    (out / "adapter_config.json").write_text(json.dumps(named))
    result = run_bertft("predict", f"run={out}", stdin=rows("classification"))
    assert result.refused and "the base folder run/base does not exist" in result.err
    assert "base=<folder>" in result.err


def test_an_adapter_is_refused_where_it_does_not_say_its_base(exported):
    _, out = exported(*METHODS[0])
    content = read(out / "adapter_config.json")
    (out / "adapter_config.json").write_text(
        json.dumps({**content, "base_model_name_or_path": None})
    )
    result = run_bertft("predict", f"run={out}", stdin=rows("classification"))
    assert result.refused and "base_model_name_or_path is missing" in result.err


def test_pickled_weights_are_refused(exported):
    _, out = exported(*METHODS[0])
    shutil.move(out / "adapter_model.safetensors", out / "adapter_model.bin")
    result = run_bertft("predict", f"run={out}", stdin=rows("classification"))
    assert result.refused and "is pickled and may run code" in result.err.replace("\n", " ")


def test_what_peft_saved_itself_answers_with_its_base_s_classes(trained, tmp_path):
    """Without bertft.json: the head determines the task and the classes."""
    run = trained("classification", "method=lora", "trainer.learning_rate=2e-2")
    result = run_bertft("merge", f"run={run}", f"out={tmp_path / 'base'}")
    assert result.status == 0, result
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    base = AutoModelForSequenceClassification.from_pretrained(tmp_path / "base")
    torch.manual_seed(0)
    model = peft.get_peft_model(base, peft.LoraConfig(task_type="SEQ_CLS", target_modules=["key"]))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.5)
    model.eval().save_pretrained(tmp_path / "theirs")
    actual = answers(
        run_bertft("predict", f"run={tmp_path / 'theirs'}", stdin=rows("classification"))
    )
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "base")
    with torch.no_grad():
        logits = [model(**tokenizer(text, return_tensors="pt")).logits[0] for text in TEXTS]
    expected = torch.stack(logits).softmax(-1).numpy()
    np.testing.assert_allclose(numbers(actual), expected, atol=2e-6)
    assert set(actual[0]["scores"]) == {"neg", "pos"}


def test_the_masks_of_the_run_are_those_of_the_check(tmp_path):
    """A masked-LM run with settings of its own: the adapter and the merged folder keep them."""
    lines = [f"{n} the film was good , the book dull and unbelievably long" for n in range(40)]
    (tmp_path / "notes.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    data = ("data=text", f"data.train={tmp_path / 'notes.txt'}", "data.mlm_probability=0.4")
    run = tmp_path / "run"
    result = run_bertft(
        "train", "model=tiny", "method=lora", *data, "data.whole_words=true", "trainer.max_steps=2",
        "trainer.threads=1", "trainer.precision=fp32", "report=false", f"hydra.run.dir={run}",
    )  # fmt: skip
    assert result.status == 0, result
    for words in (("export", "format=peft"), ("merge",)):
        out = tmp_path / words[0]
        result = run_bertft(*words, f"run={run}", f"out={out}")
        assert result.status == 0 and "max |Δlogit|" in result.out, result
        assert read(out / "bertft.json")["answering"] == {
            "mlm_probability": 0.4,
            "whole_words": True,
        }
    # Rows of another file are masked as the run's were, whichever folder answers.
    scores = {}
    for name in ("run", "merge"):
        words = (f"run={tmp_path / name}", "data=text", f"data.validation={tmp_path / 'notes.txt'}")
        folder = tmp_path / f"scores-{name}"
        result = run_bertft("eval", *words, "precision=fp32", f"hydra.run.dir={folder}")
        assert result.status == 0, result
        scores[name] = read(folder / "metrics.json")["validation"]
    assert scores["merge"] == pytest.approx(scores["run"], rel=1e-5, abs=1e-4)
    words = (f"run={run}", "data=text", f"data.validation={tmp_path / 'notes.txt'}")
    masking = ("data.mlm_probability=0.4", "data.whole_words=true")
    result = run_bertft(
        "eval", *words, *masking, "precision=fp32", f"hydra.run.dir={tmp_path / 'own'}"
    )
    assert read(tmp_path / "own" / "metrics.json")["validation"] == scores["run"]
