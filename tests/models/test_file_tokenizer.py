"""A tokenizer from its file alone gives the tokens of the one that trains."""

from __future__ import annotations

import json
import shutil

import pytest

from bertft.config.model import ModelConfig
from bertft.errors import UsageError
from bertft.models.file_tokenizer import load_file_tokenizer
from bertft.models.model_config import max_input_length, read_model_config
from bertft.models.source import find_model_source
from bertft.models.tokenizer import load_tokenizer, unknown_id
from bertft.tasks.masked_lm.encoding import encode_text_chunks
from bertft.tasks.question_answering.encoding import encode_windows
from bertft.tasks.shared.encoding import encode_texts
from bertft.tasks.token_classification.encoding import encode_words

TEXTS = ["A good film!", "很好看的电影", "unaffable naïve café " * 30, "the plot [SEP] x"]
PAIRS = ["dull", "a bore " * 40, "", "well , well"]
MINILM = ModelConfig(name="minilm", path="all-MiniLM-L6-v2")


@pytest.fixture(scope="module")
def both():
    return load_file_tokenizer(MINILM), load_tokenizer(MINILM)


def same(ours, theirs, columns):
    for name in columns:
        assert [list(row) for row in ours[name]] == [list(row) for row in theirs[name]]


def test_texts_and_pairs(both):
    for pairs in (None, PAIRS):
        same(*(encode_texts(t, TEXTS, pairs, 24) for t in both), ["input_ids"])


def test_words_windows_and_chunks(both):
    rows = {"text": ["Ada lives in Hamburg"], "starts": [[0, 4, 10, 13]], "stops": [[3, 9, 12, 20]]}
    same(*(encode_words(t, rows, None, 16) for t in both), ["input_ids", "word"])
    same(*(encode_text_chunks(t, TEXTS, 16) for t in both), ["input_ids", "word"])
    windows = [encode_windows(t, ["Who?"], [TEXTS[2]], 32, 4).input_ids for t in both]
    assert windows[0].values.tolist() == windows[1].values.tolist()


def test_facts_of_the_tokenizer(both):
    ours, theirs = both
    assert ours.unk_token_id == unknown_id(theirs)
    assert (ours.sep_token, ours.mask_token_id) == (theirs.sep_token, theirs.mask_token_id)
    assert set(ours.all_special_ids) == set(theirs.all_special_ids)
    config = read_model_config(find_model_source(MINILM.path))
    assert ours.max_input_length == max_input_length(config, theirs)


def test_a_folder_without_a_tokenizer_file(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    assert load_file_tokenizer(ModelConfig(name="m", path=str(tmp_path))) is None
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(UsageError, match="is not a tokenizer"):
        load_file_tokenizer(ModelConfig(name="m", path=str(tmp_path)))


def test_a_model_that_is_not_on_this_machine(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    assert load_file_tokenizer(ModelConfig(name="m", path="nobody/no-such-model")) is None


def test_the_tokenizer_of_a_run(tmp_path):
    source = find_model_source(MINILM.path).load
    folder = tmp_path / "run" / "checkpoints" / "step-8"
    folder.mkdir(parents=True)
    for name in ("config.yaml", "manifest.json"):
        (tmp_path / "run" / name).write_text("{}")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(f"{source}/{name}", folder / name)
    (folder / "config.json").write_text(json.dumps({"model_type": "bert"}))
    tokenizer = load_file_tokenizer(ModelConfig(name="m", path=str(tmp_path / "run")))
    assert tokenizer("good")["input_ids"] == load_file_tokenizer(MINILM)("good")["input_ids"]
