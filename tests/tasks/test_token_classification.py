"""Token classification: loss, layouts, metrics and spans, from words to answers."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest
import torch
from transformers import BertConfig, BertForTokenClassification, pipeline

from bertft.data.batch import collate
from bertft.data.features import featurize
from bertft.data.rows import BadRows, Rows
from bertft.models.precision import Precision
from bertft.models.runner import EncoderRunner
from bertft.tasks.shared.word_splitting import join_words
from bertft.tasks.task import build_task, detect_task
from bertft.training.evaluate import evaluate, predict_logits

LABELS = ["O", "B-film", "I-film", "B-plot", "I-plot"]
SENTENCES = [
    (["the", "good", "film", "."], ["O", "B-film", "I-film", "O"]),
    (["plots"], ["B-plot"]),
    (["a", "dull", "untruely", "bad", "plot", "!", "the", "film", "good", "a"],
     ["O", "O", "O", "B-plot", "I-plot", "O", "B-film", "I-film", "O", "O"]),
    (["很", "好", "film"], ["O", "B-film", "I-film"]),
]  # fmt: skip


@pytest.fixture
def task(settings):
    return build_task(settings(task="token_classification"), LABELS)


@pytest.fixture
def model(task, bert_tokenizer):
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(bert_tokenizer), hidden_size=16, num_hidden_layers=2,
        num_attention_heads=2, intermediate_size=32, max_position_embeddings=64,
        initializer_range=0.5, **task.head_config(),
    )  # fmt: skip
    return BertForTokenClassification(config).double().eval()


def rows_of(sentences, labelled=True):
    made = [join_words(words) for words, _ in sentences]
    columns = {
        "text": [text for text, _ in made],
        "starts": [[a for a, _ in bounds] for _, bounds in made],
        "stops": [[b for _, b in bounds] for _, bounds in made],
        "line": list(range(1, len(made) + 1)),
    }
    if labelled:
        columns["label"] = [tags for _, tags in sentences]
    return Rows(pa.table(columns), BadRows("here"))


@pytest.fixture
def table(task, bert_tokenizer):
    return featurize(rows_of(SENTENCES), task.make_encoder(bert_tokenizer, 9), [], None)


def test_layouts_agree_in_loss_and_gradients(task, model, table):
    """So does transformers' own loss over each window."""
    batch = collate(table, np.arange(len(table)), task.label_columns)
    actual = {}
    for layout in ("padded", "unpadded"):
        model.zero_grad()
        loss = task.loss(EncoderRunner(model, "token", layout)(batch), batch)
        loss.backward()
        actual[layout] = loss.detach(), [p.grad.clone() for p in model.parameters()]
    assert abs(actual["unpadded"][0] - actual["padded"][0]) < 1e-10
    for one, other in zip(actual["unpadded"][1], actual["padded"][1], strict=True):
        torch.testing.assert_close(one, other, atol=1e-10, rtol=1e-10)
    total = torch.tensor(0.0, dtype=torch.float64)
    model.set_attn_implementation("eager")
    for number in range(len(table)):
        batch = collate(table, np.array([number]), task.label_columns)
        labels = batch.labels["labels"]
        logits = model(input_ids=batch.input_ids[None]).logits[0]
        remaining = labels != -100
        total += torch.nn.functional.cross_entropy(
            logits[remaining], labels[remaining], reduction="sum"
        )
    assert abs(total - actual["padded"][0]) < 1e-10


def test_every_word_is_one_term(task, table):
    assert len(table) > len(SENTENCES)
    batch = collate(table, np.arange(len(table)), task.label_columns)
    assert task.count_loss_terms(batch) == sum(len(words) for words, _ in SENTENCES)


def perfect(task, table):
    labels = table.gather("labels", np.arange(len(table)))
    logits = np.random.default_rng(0).normal(size=(len(labels), len(LABELS))).astype(np.float32)
    logits[np.flatnonzero(labels >= 0), labels[labels >= 0]] = 20
    return logits


def test_metrics_over_windows(task, table):
    logits = perfect(task, table)
    actual = task.compute_metrics(logits, table)
    assert tuple(actual) == task.metric_names
    assert (actual["f1"], actual["strict/f1"], actual["accuracy"]) == (1, 1, 1)
    assert (actual["film/support"], actual["plot/support"]) == (3, 2)
    # Two words of eighteen wrong: an entity begun by I (only strictly lost), one too many.
    word = table.gather("word", np.arange(len(table)))
    first = np.flatnonzero(word == 1)[0]
    logits[first] = np.eye(5)[2] * 20
    logits[np.flatnonzero(word == 0)[1]] = np.eye(5)[1] * 20
    actual = task.compute_metrics(logits, table)
    assert actual["accuracy"] == pytest.approx(16 / 18)
    assert (actual["precision"], actual["recall"]) == (4 / 5, 4 / 5)
    assert (actual["strict/precision"], actual["strict/recall"]) == (3 / 4, 3 / 5)
    assert (actual["film/precision"], actual["plot/recall"]) == (3 / 4, 1 / 2)


def test_models_agree_on_words(task, table):
    """Whatever they say of the other tokens."""
    logits = perfect(task, table)
    other = logits.copy()
    words = np.asarray(table.gather("word", np.arange(len(table)))) >= 0
    other[~words] = -other[~words]
    assert task.prediction_agreement(logits, other, table) == 1.0
    first = np.flatnonzero(words)[0]
    other[first] = -other[first]
    assert task.prediction_agreement(logits, other, table) == 1 - 1 / words.sum()


def test_no_finite_logits_never_win(task, table):
    logits = np.full_like(perfect(task, table), np.nan)
    actual = task.compute_metrics(logits, table)
    assert np.isnan(actual["f1"]) and not task.is_better(actual["f1"], None)


def test_spans_have_the_characters_of_the_text(task, table):
    answers = list(task.decode_predictions(perfect(task, table), table))
    assert [answer["text"] for answer in answers] == table.rows.column("text")
    spans = [[(s["label"], s["text"]) for s in answer["spans"]] for answer in answers]
    assert spans == [
        [("film", "good film")], [("plot", "plots")],
        [("plot", "bad plot"), ("film", "the film")], [("film", "好 film")],
    ]  # fmt: skip
    for answer in answers:
        for span in answer["spans"]:
            assert answer["text"][span["start"] : span["end"]] == span["text"]
            assert 0.99 < span["score"] <= 1
    json.dumps(answers)


def test_the_evaluation_does_not_depend_on_layout_or_budget(task, model, table):
    precision = Precision("fp32", torch.device("cpu"))
    wanted = evaluate(EncoderRunner(model, "token", "padded"), task, table, precision)
    runner = EncoderRunner(model, "token", "unpadded")
    actual = evaluate(runner, task, table, precision)
    assert actual == pytest.approx(wanted, abs=1e-6)
    small = predict_logits(runner, table, precision, max_tokens=10)
    np.testing.assert_allclose(small, predict_logits(runner, table, precision), atol=1e-5)


def test_a_saved_folder_is_detected_and_a_pipeline_predicts_the_same_entities(
    task, model, bert_tokenizer, tmp_path
):
    model.float().save_pretrained(tmp_path)
    bert_tokenizer.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    assert detect_task(config) == ("token_classification", LABELS)
    rows = rows_of(SENTENCES, labelled=False)
    table = featurize(rows, task.make_encoder(bert_tokenizer, 32), [], None)
    precision = Precision("fp32", torch.device("cpu"))
    logits = predict_logits(EncoderRunner(model, "token"), table, precision)
    ours = list(task.decode_predictions(logits, table))
    theirs = pipeline("token-classification", str(tmp_path), aggregation_strategy="first")
    seen = 0
    for answer in ours:
        actual = {(entity["start"], entity["end"]) for entity in theirs(answer["text"])}
        # The pipeline separates two entities only at B, and calls a change of type a new one too.
        for span in answer["spans"]:
            assert (span["start"], span["end"]) in actual
            seen += 1
    assert seen


@pytest.mark.parametrize("labels", [["LABEL_0", "LABEL_1"], ["O", "PER", "LOC"]])
def test_classes_without_a_scheme_are_runs_of_words(labels, settings, table):
    task = build_task(settings(task="token_classification"), labels)
    assert task.scheme == "io"
    assert task.metric in task.metric_names
