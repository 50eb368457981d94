"""Tasks are found by name, from configurations and from transformers folders."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from bertft.config.registry import TASKS
from bertft.errors import UsageError
from bertft.tasks.shared.sequence_task import class_names_in_config
from bertft.tasks.task import BaseTask, build_task, detect_task


def test_every_task_keeps_the_contract(settings):
    assert {"classification", "multi_label", "regression"} <= set(TASKS.names())
    for name in TASKS.names():
        task = build_task(settings(task=name), ["a", "b"])
        assert isinstance(task, BaseTask)
        assert task.name == name
        assert task.metric == task.default_metric
        assert task.default_metric in task.metric_names
        assert json.loads(json.dumps(task.cache_key()))[0] == name


def test_classes_are_part_of_the_key(settings):
    keys = [build_task(settings(), labels).cache_key() for labels in (["a", "b"], ["b", "a"])]
    assert keys[0] != keys[1]


def test_unknown_task(settings):
    with pytest.raises(UsageError, match=r"data\.task: unknown task 'regresion'.*regression"):
        build_task(settings(task="regresion"), None)


def test_unknown_metric(settings):
    with pytest.raises(UsageError) as caught:
        build_task(settings(task="regression", metric="pearsonn"), None)
    assert caught.value.where == "data.metric"
    assert "'pearson'" in str(caught.value)
    assert "pearson, spearman, mse, loss" in str(caught.value)


def test_the_schema_admits_the_tasks_without_torch():
    code = (
        "import sys; from bertft.config.data import DataConfig;"
        "from bertft.config.registry import TASKS;"
        "assert DataConfig.__dataclass_fields__['task'].metadata['choices'] == TASKS.names();"
        "assert not {'torch', 'transformers', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", ["classification", "multi_label", "regression"])
def test_a_saved_model_is_detected(name, tiny_bert, tmp_path, settings):
    labels = None if name == "regression" else [f"类{number}" for number in range(12)]
    tiny_bert(build_task(settings(task=name), labels)).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    assert detect_task(config) == (name, labels)


@pytest.mark.parametrize(
    ("id2label", "expected"),
    [
        (None, ("classification", ["LABEL_0", "LABEL_1"])),
        ({"0": "no", "1": "yes", "2": "maybe"}, ("classification", ["no", "yes", "maybe"])),
        ({"0": "LABEL_0"}, ("regression", None)),
    ],
)
def test_a_folder_without_a_problem_type_is_detected(id2label, expected):
    heads = ["RobertaForSequenceClassification"]
    assert detect_task({"architectures": heads, "id2label": id2label}) == expected


@pytest.mark.parametrize("config", [{}, {"architectures": ["BertModel"]}])
def test_a_folder_without_a_head(config):
    with pytest.raises(
        UsageError,
        match=r"does not have a head of a supported task.*classification, masked_lm, multi_label",
    ):
        detect_task(config)


@pytest.mark.parametrize("order", [1, -1])
def test_a_folder_that_names_several_heads(order):
    """The order of the tasks does not choose one of them."""
    heads = ["BertForSequenceClassification", "BertForTokenClassification"][::order]
    with pytest.raises(UsageError, match=r"several heads \(BertFor.*Keep the class that"):
        detect_task({"architectures": heads})
    encoder = {"architectures": ["BertForTokenClassification", "BertModel"][::order]}
    assert detect_task(encoder)[0] == "token_classification"


@pytest.mark.parametrize(
    "names", [{"a": "x"}, {0: "x", 2: "y"}, ["x", "y"], {None: "x"}, {0: "x", "0": "y"}]
)
def test_names_that_do_not_name_each_output(names):
    config = {"architectures": ["BertForSequenceClassification"], "id2label": names}
    with pytest.raises(UsageError, match="the keys of id2label are not 0, 1, 2"):
        detect_task(config)


@pytest.mark.parametrize(
    ("id2label", "label2id", "expected"),
    [
        ({0: "LABEL_0", 1: "LABEL_1"}, {"pos": 1, "neg": 0}, ["neg", "pos"]),
        (None, {"pos": 0, "neg": 1}, ["pos", "neg"]),
        ({0: "LABEL_0", 1: "LABEL_1"}, {"pos": 1, "also": 1}, ["LABEL_0", "LABEL_1"]),
        ({0: "neg", 1: "pos"}, {"LABEL_0": 0, "LABEL_1": 1}, ["neg", "pos"]),
        ({0: "neg", 1: "pos"}, {"pos": 1}, ["neg", "pos"]),
        ({0: "neg", 1: "pos"}, {"pos": [1]}, ["neg", "pos"]),
        ({0: False, 1: True}, None, ["false", "true"]),
        ({0: 1, 1: 2.0}, None, ["1", "2"]),
        ({0: " neg", 1: "pos "}, None, ["neg", "pos"]),
    ],
)
def test_names_of_outputs(id2label, label2id, expected):
    assert class_names_in_config({"id2label": id2label, "label2id": label2id}) == expected


@pytest.mark.parametrize(
    ("id2label", "label2id", "words"),
    [
        ({0: "neg", 1: "pos"}, {"neg": 1, "pos": 0}, "'neg', but label2id gives .* output 1"),
        ({0: "x", 1: "x"}, None, "several outputs the name 'x'"),
        ({0: None, 1: "x"}, None, "output 0 in id2label has no valid name: it is empty"),
        ({0: ["x"], 1: "y"}, None, "output 0 in id2label has no valid name: the label is"),
        ({0: " ", 1: "y"}, None, "output 0 in id2label has no valid name: it is empty"),
    ],
)
def test_names_that_contradict_each_other(id2label, label2id, words):
    with pytest.raises(UsageError, match=words):
        class_names_in_config({"id2label": id2label, "label2id": label2id})
