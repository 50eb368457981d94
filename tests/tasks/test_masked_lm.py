"""Masked language modelling: what is hidden, where the head runs, and that layouts agree."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch
from transformers import BertConfig, BertForMaskedLM

from bertft.config.choices import LAYOUTS
from bertft.data.batch import BatchSeed, collate
from bertft.data.features import featurize
from bertft.data.rows import BadRows, Rows
from bertft.errors import DataError
from bertft.models.precision import Precision
from bertft.models.runner import EncoderRunner
from bertft.tasks.masked_lm.encoding import MaskingVocabulary, choose_positions, mask_tokens
from bertft.tasks.task import build_task, detect_task
from bertft.training.evaluate import evaluate, predict_logits

TEXTS = ["a good film, the plot untruely dull", "bad plots!", "the film " * 9, "很好看的电影"]
CPU = Precision("fp32", torch.device("cpu"))


@pytest.fixture
def task(settings):
    return build_task(settings(task="masked_lm", mlm_probability=0.3), None)


@pytest.fixture
def table(task, bert_tokenizer):
    rows = Rows(pa.table({"text": TEXTS, "line": [1, 2, 3, 4]}), BadRows("here"))
    return featurize(rows, task.make_encoder(bert_tokenizer, 9), [], None)


@pytest.fixture
def model(bert_tokenizer):
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(bert_tokenizer), hidden_size=16, num_hidden_layers=2,
        num_attention_heads=2, intermediate_size=32, max_position_embeddings=64,
        initializer_range=0.3,
    )  # fmt: skip
    return BertForMaskedLM(config).eval()


def whole(task, table):
    return collate(table, np.arange(len(table)), task.label_columns)


def test_every_token_is_in_one_feature(task, table, bert_tokenizer):
    ids = table.gather("input_ids", np.arange(len(table)))
    content = ids[~np.isin(ids, bert_tokenizer.all_special_ids)]
    texts = [token for text in TEXTS for token in bert_tokenizer(text)["input_ids"][1:-1]]
    assert content.tolist() == texts
    assert max(table.lengths) <= 9
    assert table.gather("row", np.arange(len(table))).tolist() == [0, 0, 1, 2, 2, 2, 3]


def test_masked_tokens_depend_on_seed_epoch_and_feature_alone(task, table):
    batch, draw = whole(task, table), BatchSeed(3, 1)
    one = task.train_transform(batch, draw)
    assert torch.equal(one.input_ids, task.train_transform(batch, draw).input_ids)
    ids = batch.input_ids
    assert torch.equal(ids[one.selected_tokens], one.labels["labels"])
    remaining = torch.ones(len(ids), dtype=torch.bool)
    remaining[one.selected_tokens] = False
    assert torch.equal(one.input_ids[remaining], ids[remaining])
    # Alone or in another batch, a feature is hidden alike.
    for feature in range(len(table)):
        alone = task.train_transform(collate(table, np.array([feature]), task.label_columns), draw)
        start = int(batch.lengths[:feature].sum())
        assert torch.equal(alone.input_ids, one.input_ids[start : start + len(alone.input_ids)])
    others = [
        task.train_transform(batch, other)
        for other in (BatchSeed(3, 2), BatchSeed(4, 1), BatchSeed(3))
    ]
    assert not any(torch.equal(one.selected_tokens, other.selected_tokens) for other in others)


def test_shares_of_masked_random_and_unchanged_tokens():
    vocabulary = MaskingVocabulary(4, np.arange(5), np.arange(5, 1000))
    ids, words = np.arange(5, 1000).repeat(20), np.arange(995 * 20)
    generator = np.random.default_rng(0)
    places = choose_positions(ids, words, vocabulary, 0.15, False, generator)
    assert len(places) == round(0.15 * len(ids)) and (np.diff(places) > 0).all()
    after = ids.copy()
    mask_tokens(after, places, vocabulary, generator)
    masked, same = (after[places] == 4).mean(), (after[places] == ids[places]).mean()
    assert masked == pytest.approx(0.8, abs=0.02)
    assert same == pytest.approx(0.1, abs=0.02)
    swapped = after[places][(after[places] != 4) & (after[places] != ids[places])]
    assert set(swapped) <= set(range(5, 1000))


def test_whole_words_are_masked():
    vocabulary = MaskingVocabulary(4, np.arange(5), np.arange(5, 99))
    words = np.array([-1, 0, 0, 0, 1, 2, 2, 3, 4, 4, -1])
    ids = np.array([2, *range(10, 19), 3])
    for seed in range(20):
        places = choose_positions(ids, words, vocabulary, 0.3, True, np.random.default_rng(seed))
        chosen = set(words[places])
        assert set(places) == {at for at, word in enumerate(words) if word in chosen}
        assert len(places) >= 3 and -1 not in chosen
    assert (
        len(choose_positions(ids[:1], words[:1], vocabulary, 0.3, True, np.random.default_rng(0)))
        == 0
    )


def test_layouts_agree_and_the_head_on_selected_tokens_equals_the_full_head(task, table, model):
    model.double()
    batch = task.train_transform(whole(task, table), BatchSeed(0, 0))
    actual = {}
    for layout in LAYOUTS:
        model_copy = copy.deepcopy(model)  # a runner leaves its hook on the model
        runner = EncoderRunner(model_copy, "token", layout)
        logits = runner(batch)
        everywhere = runner(replace(batch, selected_tokens=None))
        assert logits.shape == (task.count_loss_terms(batch), model.config.vocab_size)
        torch.testing.assert_close(logits, everywhere[batch.selected_tokens], atol=1e-12, rtol=0)
        loss = task.loss(logits, batch)
        loss.backward()
        actual[layout] = loss.detach(), [p.grad for p in model_copy.parameters()]
    for layout in ("unpadded", "packed"):
        assert abs(actual[layout][0] - actual["padded"][0]) < 1e-10
        for one, other in zip(actual[layout][1], actual["padded"][1], strict=True):
            torch.testing.assert_close(one, other, atol=1e-10, rtol=1e-10)


def test_perplexity_equals_the_loss_of_transformers_and_is_reproducible(task, table, model):
    runner = EncoderRunner(copy.deepcopy(model), "token")
    actual = evaluate(runner, task, table, CPU)
    assert actual == evaluate(runner, task, table, CPU)
    batch = task.train_transform(whole(task, table), BatchSeed(task.config.seed))
    losses = []
    model.set_attn_implementation("eager")
    starts = (batch.lengths.cumsum(0) - batch.lengths).tolist()
    for start, length in zip(starts, batch.lengths.tolist(), strict=True):
        ids = batch.input_ids[start : start + length]
        logits = model(input_ids=ids[None]).logits[0]
        for at, label in zip(batch.selected_tokens.tolist(), batch.labels["labels"], strict=True):
            if start <= at < start + length:
                losses.append(float(-logits[at - start].detach().log_softmax(-1)[label]))
    assert actual["loss"] == pytest.approx(np.mean(losses), abs=1e-5)
    assert actual["perplexity"] == pytest.approx(np.exp(actual["loss"]))
    assert task.is_better(actual["perplexity"], actual["perplexity"] + 1)


def test_rows_without_maskable_tokens_are_an_error(task, model, bert_tokenizer):
    unknown = Rows(pa.table({"text": ["😀 😎", "😀"], "line": [1, 2]}), BadRows("smileys.txt"))
    table = featurize(unknown, task.make_encoder(bert_tokenizer, 9), [], None)
    with pytest.raises(DataError, match="no tokens to mask") as content:
        evaluate(EncoderRunner(model, "token"), task, table, CPU)
    assert content.value.where == "smileys.txt"


def test_distillation_uses_the_masked_positions(task, table, model):
    batch = task.train_transform(whole(task, table), BatchSeed(0, 0))
    logits = EncoderRunner(model, "token")(batch).detach()
    assert task.count_distillation_terms(batch) == len(logits) == len(batch.selected_tokens)
    assert float(task.distillation_loss(logits, logits, batch, 2.0)) == pytest.approx(0, abs=1e-4)
    other = logits.flip(-1)
    p, q = ((values / 2).double().softmax(-1) for values in (other, logits))
    wanted = 4 * (p * (p / q).log()).sum()
    assert float(task.distillation_loss(logits, other, batch, 2.0)) == pytest.approx(float(wanted))


def test_a_trained_head_over_a_frozen_half_precision_decoder(task, table, model):
    """The decoder of a new head is the frozen word embeddings; its bias trains in fp32."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith("cls."))
    whole_precision = task.train_transform(whole(task, table), BatchSeed(0, 0))
    wanted = EncoderRunner(copy.deepcopy(model), "token")(whole_precision)
    Precision("bf16", torch.device("cpu")).place_model(model, base_trains=False)
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert model.get_output_embeddings().weight.dtype == torch.bfloat16
    logits = EncoderRunner(model, "token")(whole_precision)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, wanted, atol=0.1, rtol=0.1)
    task.loss(logits, whole_precision).backward()
    assert all(p.grad is not None for n, p in model.named_parameters() if n.startswith("cls."))


def test_predictions_list_the_most_probable_tokens_per_mask(task, model, bert_tokenizer):
    texts = ["the [MASK] film", "no mask", "[MASK] [MASK]"]
    rows = Rows(pa.table({"text": texts, "line": [1, 2, 3]}), BadRows("here"))
    table = featurize(rows, task.make_encoder(bert_tokenizer, 9), [], None)
    runner = EncoderRunner(copy.deepcopy(model), "token")
    logits = predict_logits(runner, table, CPU, transform=task.predict_transform)
    answers = list(task.decode_predictions(logits, table))
    assert [len(answer["masks"]) for answer in answers] == [1, 0, 2]
    model.set_attn_implementation("eager")
    inputs = bert_tokenizer(texts[0], return_tensors="pt", return_token_type_ids=False)
    scores = model(**inputs).logits[0, 2].softmax(-1)
    (best,) = answers[0]["masks"]
    assert best[0]["token"] == bert_tokenizer.decode([int(scores.argmax())]).strip()
    assert best[0]["score"] == pytest.approx(float(scores.max()), abs=1e-6)
    assert [guess["score"] for guess in best] == sorted(
        (guess["score"] for guess in best), reverse=True
    )


def test_a_folder_with_this_head_is_detected():
    assert detect_task({"architectures": ["RobertaForMaskedLM"]}) == ("masked_lm", None)


def test_the_report_shows_the_masked_tokens(task, table, model, bert_tokenizer):
    """The draw is that of the evaluation: counts, hits and losses add up to the metrics."""
    remaining = []
    metrics = evaluate(
        EncoderRunner(copy.deepcopy(model), "token"), task, table, CPU, on_outputs=remaining.append
    )
    batch = task.train_transform(whole(task, table), BatchSeed(task.config.seed))
    worst, tokens = task.report_items(remaining[0], table)
    assert sum(row[1] for row in tokens.rows) == len(remaining[0]) == len(batch.selected_tokens)
    assert sum(row[1] * row[2] for row in tokens.rows) == pytest.approx(remaining[0][:, 1].sum())
    loss = sum(row[1] * row[3] for row in tokens.rows) / len(remaining[0])
    assert loss == pytest.approx(metrics["loss"])
    assert sum(row[4] for row in tokens.rows) == pytest.approx(1)
    assert [row[4] for row in worst.rows] == sorted((row[4] for row in worst.rows), reverse=True)
    content = {row[1]: row[2] for row in worst.rows}
    labels = batch.labels["labels"].numpy()
    owner = np.repeat(np.arange(len(table)), batch.lengths)[batch.selected_tokens]
    last = int(table.gather("row", np.arange(len(table)))[owner[-1]])
    masked_tokens = [
        bert_tokenizer.decode([label]).strip() for label in np.asarray(labels)[owner == owner[-1]]
    ]
    assert content[TEXTS[last]] == " ".join(masked_tokens)
