"""The Hub's loader on local folders: the same code path, without a network."""

from __future__ import annotations

import shutil

import datasets
import pytest

from bertft.config.data import DataConfig
from bertft.data.splits import load_splits
from bertft.errors import DataError, SystemResourceError, UsageError


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


@pytest.fixture
def folder(tmp_path) -> str:
    path = tmp_path / "reviews"
    path.mkdir()
    names = datasets.ClassLabel(names=["negative", "positive"])
    features = datasets.Features({"label": names, "sentence": datasets.Value("string")})
    for split, labels in (("train", [1, 0] * 20), ("validation", [0, 1]), ("test", [-1, -1])):
        rows = {
            "label": labels,
            "sentence": [f"{split} 酒店 {work_folder}" for work_folder in range(len(labels))],
        }
        dataset = datasets.Dataset.from_dict(rows, features)
        dataset.to_parquet(str(path / f"{split}-00000-of-00001.parquet"))
    return str(path)


def config(folder: str, **settings) -> DataConfig:
    given = {"text": "sentence", "train": "train", "validation": "validation", **settings}
    return DataConfig(name="reviews", source="hub", hub=folder, **given)


def test_names_come_from_the_data_set(folder):
    splits = load_splits(config(folder, test="test"))
    assert splits.class_names == ["negative", "positive"]
    assert splits.validation.column("text") == ["validation 酒店 0", "validation 酒店 1"]
    assert splits.validation.column("label") == ["negative", "positive"]
    assert len(splits.train) == 40
    assert not splits.test.has_labels


def test_own_names_replace_them(folder):
    splits = load_splits(config(folder, labels=["bad", "good"]))
    assert splits.class_names == ["bad", "good"]
    assert splits.validation.column("label") == ["bad", "good"]


def test_the_same_names_in_another_order_are_an_order(folder):
    splits = load_splits(config(folder, labels=["positive", "negative"]))
    assert splits.class_names == ["positive", "negative"]
    assert splits.validation.column("label") == ["negative", "positive"]


def test_validation_is_held_out_if_it_is_missing(folder):
    splits = load_splits(config(folder, validation=None))
    assert splits.validation_from_train
    assert (len(splits.train), len(splits.validation)) == (36, 4)


def test_a_column_that_does_not_exist(folder):
    with pytest.raises(DataError, match=r"column 'text' not found.*'sentence'"):
        load_splits(config(folder, text="text"))


def test_a_split_that_does_not_exist(folder):
    with pytest.raises(DataError, match=r"data\.validation: .*no split 'dev'"):
        load_splits(config(folder, validation="dev"))


def test_a_data_set_that_cannot_be_had(tmp_path):
    with pytest.raises(SystemResourceError) as caught:
        load_splits(config(str(tmp_path / "nowhere")))
    assert caught.value.status == 4
    assert "data=files" in str(caught.value)


def test_no_id_is_wrong_use():
    with pytest.raises(UsageError, match=r"data\.hub"):
        load_splits(config(""))


def test_questions_with_nested_answers(tmp_path):
    """As SQuAD lies on the Hub: answers are lists in a struct, and other columns stand beside."""
    (tmp_path / "squad").mkdir()
    rows = {
        "id": ["a", "b"],
        "title": ["t", "t"],
        "context": ["Ada wrote it.", "Nobody sang."],
        "question": ["Who wrote it?", "Who wrote it?"],
        "answers": [{"text": ["Ada"], "answer_start": [0]}, {"text": [], "answer_start": []}],
    }
    features = datasets.Features(
        {
            **{name: datasets.Value("string") for name in ("id", "title", "context", "question")},
            "answers": {
                "text": datasets.List(datasets.Value("string")),
                "answer_start": datasets.List(datasets.Value("int32")),
            },
        }
    )
    made = datasets.Dataset.from_dict(rows, features)
    made.to_parquet(str(tmp_path / "squad" / "validation-00000-of-00001.parquet"))
    data = DataConfig(
        name="squad_v2", source="hub", task="question_answering", hub=str(tmp_path / "squad"),
        train="train", validation="validation",
    )  # fmt: skip
    actual = load_splits(data, ("validation",)).validation
    assert actual.column("question") == rows["question"] and actual.column("id") == ["a", "b"]
    assert actual.column("label") == [["Ada"], []] and actual.column("start") == [[0], []]


def test_next_to_a_file_of_the_user_s_own_nothing_is_fetched(folder, tmp_path, monkeypatch):
    """A preset names the Hub's splits: what the user did not give is cut from train, or absent."""
    monkeypatch.setattr("bertft.data.hub.open_hub_split", None)
    local = tmp_path / "local.csv"
    lines = [f"text {number},{'negative' if number % 2 else 'positive'}" for number in range(40)]
    local.write_text("\n".join(["sentence,label", *lines]), encoding="utf-8")
    actual = load_splits(config(folder, label="label", train=str(local), test="test"))
    assert actual.validation_from_train and actual.test is None
    assert len(actual.train) + len(actual.validation) == 40
    assert {actual.train.source, actual.validation.source} == {str(local)}
    only = load_splits(config(folder, label="label", validation=str(local)), ("validation",))
    assert len(only.validation) == 40 and only.train is None
    with pytest.raises(UsageError, match="no training file"):
        load_splits(config(folder, label="label", validation=str(local)))


@pytest.mark.parametrize("name", ["pandas", "../reviews", "nobody/nothing", "https://a.b/c", "own"])
def test_a_recorded_data_set_is_not_fetched(folder, name, monkeypatch, tmp_path):
    """Nor is a folder read, or one of the readers of datasets let loose on the current one."""
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.HfApi.hf_hub_download", None)  # nothing may call it
    shutil.copytree(folder, tmp_path / "own")
    (tmp_path / "own" / "README.md").write_text("---\nconfigs: []\n---\n")  # may name other files
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="in the local cache") as caught:
        load_splits(config(name), cached_only=True)
    assert f"bertft eval RUN data.hub={name}, then repeat" in str(caught.value)
    assert datasets.config.HF_HUB_OFFLINE is False


def test_a_recorded_data_set_is_found_in_the_cache(folder, tmp_path):
    """As datasets leaves it there: <cache>/<owner>___<name>/<subset>/<version>/<hash>."""
    assert load_splits(config(folder), cached_only=True).class_names == ["negative", "positive"]
    (tmp_path / "cache" / "reviews").rename(tmp_path / "cache" / "owner___reviews")
    splits = load_splits(config("owner/reviews"), cached_only=True)
    assert splits.validation.column("text") == ["validation 酒店 0", "validation 酒店 1"]
