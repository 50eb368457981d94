"""Model cards: valid front matter, no path of the author's machine, code that runs."""

from __future__ import annotations

import dataclasses
import json
import re

import pytest
import torch
import yaml
from tokenizers import Tokenizer, pre_tokenizers, processors
from tokenizers.models import WordLevel
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

from bertft.export.markdown import escape_markdown
from bertft.export.model_card import CardFacts, MergeCheck, SplitFacts, render_model_card

FACTS = CardFacts(
    name="merged",
    task="classification",
    auto_class="AutoModelForSequenceClassification",
    base_model="google-bert/bert-base-chinese",
    method="svd_lora",
    settings={
        "rank": 8, "initial_rank": None,
        "low_rank": {"targets": ["query", "value"], "alpha": 16.0, "adapt": True, "dropout": 0.05},
    },
    splits={
        "train": SplitFacts("/home/somebody/数据/评论|新.csv", 9600, "ab12"),
        "validation": SplitFacts("sample sentiment/validation", 1200, "cd34"),
    },
    metric="accuracy",
    step=1250,
    validation={"loss": 0.21, "accuracy": 0.9123, "f1": 0.9, "f1_macro": 0.89, "matthews": 0.82},
    counts={
        "total": 109_483_778, "trainable": 296_642, "head": 1538, "method": 295_104,
        "kept": 221_328, "exported": 221_328,
    },
    versions={"bertft": "0.1.0", "torch": "2.13.0"},
    labels=["负面", "正面"],
    max_length=256,
)  # fmt: skip


def card(**changes):
    return render_model_card(dataclasses.replace(FACTS, **changes))


def front(text):
    matter = re.match(r"---\n(.*?)\n---\n", text, re.DOTALL)
    return yaml.safe_load(matter.group(1))


def test_front_matter_names_what_the_hub_reads():
    assert front(card(license="apache-2.0", dataset="org/set")) == {
        "license": "apache-2.0",
        "library_name": "transformers",
        "pipeline_tag": "text-classification",
        "base_model": "google-bert/bert-base-chinese",
        "base_model_relation": "finetune",
        "datasets": ["org/set"],
        "metrics": ["accuracy", "f1", "matthews_correlation"],
        "tags": ["bertft", "svd_lora"],
    }


def test_unknown_entries_are_left_out():
    known = front(card())
    assert not {"license", "datasets"} & set(known)


def test_only_the_best_checkpoint_was_selected():
    assert "step 1,250, selected by accuracy on validation." in card()
    assert "Checkpoint of step 1,250." in card(validation={})


def test_the_hub_can_read_it():
    hub = pytest.importorskip("huggingface_hub")
    data = hub.ModelCard(card(license="mit")).data
    assert (data.license, data.base_model) == ("mit", "google-bert/bert-base-chinese")
    assert data.pipeline_tag == "text-classification"


@pytest.mark.parametrize(
    "path",
    ["/home/somebody/models/mine", "~/models/mine", "../models/mine", r"C:\models\mine",
     "C:/models/mine", "./mine"],
)  # fmt: skip
def test_only_the_last_part_of_a_path_is_shown(path):
    text = card(base_model=path, settings={"distill": {"teacher": path}}, name=path)
    assert front(text)["base_model"] == "mine"
    assert "\n# mine\n" in text
    assert "| `distill.teacher` | `mine` |" in text
    assert "somebody" not in text
    assert "models" not in text.replace("AutoModel", "")


def test_the_body_has_results_data_and_method():
    text = card(
        test={"accuracy": 0.9, "loss": 0.3},
        merge=MergeCheck(64, 3.1e-6, {"accuracy": 0.875}, {"accuracy": 0.875}),
    )
    for line in (
        "Classes, in order: `负面`, `正面`.",
        "| metric | validation | test |",
        "| accuracy | 0.9123 | 0.9000 |",
        "| f1 | 0.9000 | – |",
        "| accuracy | 0.8750 | 0.8750 |",
        "| train | `评论\\|新.csv` | 9,600 | `ab12` |",
        "| validation | `sample sentiment/validation` | 1,200 | `cd34` |",
        "| `rank` | `8` |",
        "| `low_rank.targets` | `query, value` |",
        "| `low_rank.alpha` | `16` |",
        "| `low_rank.adapt` | `true` |",
        "| of these, added or changed by the method | 295,104 |",
        "| kept after pruning, without the head | 221,328 |",
        "bertft 0.1.0, torch 2.13.0",
    ):
        assert line in text.splitlines()
    assert "at most 3.1e-06 (max |Δlogit|)" in text
    assert "initial_rank" not in text


def test_a_distilled_model_has_a_table_of_teacher_and_student():
    distillation = {
        "metric": "accuracy", "agreement": 0.954,
        "teacher": {"value": 0.91, "parameters": 22_713_986, "bytes": 90_855_944,
                    "rows_per_second": 512.4,
                    "path": "/home/somebody/runs/teacher"},
        "student": {"value": 0.9, "parameters": 17_390_594, "rows_per_second": None},
    }  # fmt: skip
    text = card(distillation=distillation)
    agreement = "Teacher and student agree on 95.4% of the validation rows."
    assert f"Distilled from `teacher`. {agreement}" in text
    assert "| teacher | 0.9100 | 22,713,986 | 90.9 MB | 512 |" in text
    assert "| student | 0.9000 | 17,390,594 | – | – |" in text
    assert "somebody" not in text and "Distilled" not in card()


def test_a_separate_prefix_has_a_warning():
    assert "prefix" not in card()
    text = card(prefix_file="prefix")
    assert "> **This model needs its prefix, which is in `prefix`.**" in text
    assert "plain transformers ignores it" in text
    assert "this is a plain transformers model" not in text


def test_class_names_are_escaped():
    text = card(labels=["a`b", "c|d", "<b>", *map(str, range(100))])
    assert "`` a`b ``, `c|d`, `<b>`, `0`" in text
    assert ", and 53 more." in text


def test_names_are_neither_template_nor_code():
    labels = ["{{ 7 * 7 }}", 'x"]; print("']
    text = card(labels=labels, library="onnx", name="{% raw %}", threshold=0.5)
    assert "`{{ 7 * 7 }}`" in text and "49" not in text and "# {% raw %}" in text
    assert f"labels = {json.dumps(labels)}" in python(text)
    compile(python(text), "card", "exec")


def test_a_folder_with_a_space_is_quoted():
    assert "bertft predict 'run=my model' input=" in card(name="my model")


@pytest.mark.parametrize(
    ("auto_class", "tag", "code"),
    [
        ("AutoModelForTokenClassification", "token-classification", 'pipeline("token-class'),
        ("AutoModelForQuestionAnswering", "question-answering", "QuestionAnswering.from_pretr"),
        ("AutoModelForMaskedLM", "fill-mask", 'pipeline("fill-mask"'),
    ],
)
def test_a_task_of_another_package_gets_the_tag_and_the_code_of_its_head(auto_class, tag, code):
    text = card(auto_class=auto_class, task="another", labels=None)
    assert front(text)["pipeline_tag"] == tag
    assert code in python(text)
    compile(python(text), "card", "exec")


def python(text):
    return re.search(r"```python\n(.*?)\n```", text, re.DOTALL).group(1)


PROBLEMS = {
    "classification": "single_label_classification",
    "multi_label": "multi_label_classification",
    "regression": "regression",
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A function that writes a tiny model of a task into the working directory."""
    monkeypatch.chdir(tmp_path)

    def write(task, name="my model"):
        words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "A", "text", "to", "score", ".", "second"]
        backend = Tokenizer(WordLevel({word: n for n, word in enumerate(words)}, "[UNK]"))
        backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        backend.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
        PreTrainedTokenizerFast(
            tokenizer_object=backend, unk_token="[UNK]", pad_token="[PAD]",
            cls_token="[CLS]", sep_token="[SEP]",
            model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        ).save_pretrained(name)  # fmt: skip
        labels = ["分数"] if task == "regression" else ["负面", "正面", "中"]
        torch.manual_seed(0)
        model = BertForSequenceClassification(
            BertConfig(
                vocab_size=10, hidden_size=8, num_hidden_layers=1, num_attention_heads=2,
                intermediate_size=16, max_position_embeddings=32, problem_type=PROBLEMS[task],
                id2label=dict(enumerate(labels)), label2id={x: n for n, x in enumerate(labels)},
            )
        )  # fmt: skip
        with torch.no_grad():
            model.classifier.weight.mul_(100)
            model.bert.embeddings.token_type_embeddings.weight.mul_(100)
        return model.eval(), None if task == "regression" else labels

    return write


FITTED = {
    "step": 1250, "rows": 1200, "temperature": 1.5, "threshold": 0.31, "bins": 15,
    "ece": {"before": 0.08, "after": 0.02}, "loss": {"before": 0.4, "after": 0.3},
    "tuned": {"metric": "f1", "before": 0.7, "after": 0.75},
}  # fmt: skip


def test_calibration_is_described():
    text = card(calibration=FITTED)
    for line in (
        "The logits are divided by a temperature of 1.5. `正面` is predicted if its probability is"
        " at least 0.31. Both were fitted on the validation rows, so metrics on validation are"
        " optimistic; metrics on test are not. The calibration error uses 15 bins. The"
        " temperature is folded into the weights of the head.",
        "| expected calibration error | 0.0800 | 0.0200 |",
        "| loss | 0.4000 | 0.3000 |",
        "| f1 with the threshold | 0.7000 | 0.7500 |",
    ):
        assert line in text.splitlines()
    assert "A plain transformers pipeline does not apply the threshold" in text
    per_label = card(
        calibration={**FITTED, "temperature": None, "threshold": {"a|b": 0.25, "c": 0.5}}
    )
    assert "temperature" not in per_label
    assert "| `a\\|b` | 0.25 |" in per_label and "| `c` | 0.5 |" in per_label
    assert "threshold" not in card() and "temperature" not in card()
    temperature_only = card(calibration={**FITTED, "threshold": None})
    assert "threshold" not in temperature_only and "temperature of 1.5" in temperature_only


def logits(model, pair):
    ids = [[2, 4, 5, 6, 7, 8, 3] + ([4, 9, 5, 1, 1, 8, 3] if pair else [])]
    types = [[0] * 7 + [1] * (len(ids[0]) - 7)]
    with torch.no_grad():
        return model(input_ids=torch.tensor(ids), token_type_ids=torch.tensor(types)).logits[0]


def expected(task, labels, values):
    if task == "regression":
        return float(values[0])
    if task == "multi_label":
        return [name for name, value in zip(labels, values, strict=True) if value >= 0]
    probabilities = values.softmax(-1)
    return labels[int(probabilities.argmax())], float(probabilities.max())


@pytest.mark.parametrize("task", PROBLEMS)
@pytest.mark.parametrize("pair", [False, True], ids=["single", "pair"])
def test_the_code_runs_and_gives_the_prediction_of_the_model(folder, capsys, task, pair):
    model, labels = folder(task)
    model.save_pretrained("my model")
    text = card(name="/where/ever/my model", task=task, labels=labels, pair=pair, max_length=32)
    exec(compile(python(text), "card", "exec"), {})
    out = capsys.readouterr().out.strip()
    expected_output = expected(task, labels, logits(model, pair))
    if task == "classification":
        name, value = re.search(r"'label': '(\S+)', 'score': ([\d.e-]+)", out).groups()
        assert (name, pytest.approx(float(value), abs=1e-5)) == expected_output
    elif task == "multi_label":
        assert out == str(expected_output)
    else:
        assert float(out) == pytest.approx(expected_output, abs=1e-5)


@pytest.mark.parametrize("library", ["transformers", "peft"])
@pytest.mark.parametrize("task", ["classification", "multi_label"])
@pytest.mark.parametrize("above", [False, True])
def test_the_code_applies_the_threshold(folder, capsys, task, above, library):
    model, labels = folder(task, "merged")
    if task == "classification":
        labels = ["负面", "正面"]
        model.config.id2label, model.num_labels = dict(enumerate(labels)), 2
        model.classifier = torch.nn.Linear(8, 2)
    model.save_pretrained("merged")
    values = logits(model, pair=False)
    p = values.sigmoid() if task == "multi_label" else values.softmax(-1)
    shift = -1e-3 if above else 1e-3  # just below or just above the probability
    threshold = float(p[1]) + shift
    if task == "multi_label":
        threshold = {
            name: float(probability) + shift for name, probability in zip(labels, p, strict=True)
        }
    text = card(
        name="merged", task=task, labels=labels, max_length=32,
        calibration={**FITTED, "threshold": threshold},
    )  # fmt: skip
    if library == "peft":
        lines = python(card(
            name="merged", library="peft", task=task, labels=labels, max_length=32,
            calibration={**FITTED, "threshold": threshold},
        ))  # fmt: skip
        # Loads the base model instead of an adapter; the code after the logits is the same.
        plain = "from transformers import AutoModelForSequenceClassification as AutoPeftModel"
        lines = re.sub("from peft import .*", plain + "ForSequenceClassification", lines)
        text = f"```python\n{lines.replace(', num_labels=' + str(len(labels)), '')}\n```"
    exec(compile(python(text), "card", "exec"), {})
    out = capsys.readouterr().out.strip()
    if task == "multi_label":
        assert out == str(labels if above else [])
    else:
        assert out.startswith(labels[int(above)])


@pytest.mark.parametrize("task", PROBLEMS)
def test_the_code_of_an_adapter_runs_and_gives_its_prediction(folder, capsys, task):
    peft = pytest.importorskip("peft")
    model, labels = folder(task, "base")
    model.save_pretrained("base")
    _, labels = folder(task, "adapter")
    adapted = peft.get_peft_model(
        BertForSequenceClassification.from_pretrained("base"),
        peft.LoraConfig(
            task_type="SEQ_CLS", r=2, target_modules=["query", "value"],
            modules_to_save=["classifier"], init_lora_weights=False,
        ),
    ).eval()  # fmt: skip
    adapted.save_pretrained("adapter")
    text = card(name="adapter", library="peft", task=task, labels=labels, max_length=32)
    assert front(text)["library_name"] == "peft"
    assert front(text)["base_model_relation"] == "adapter"
    exec(compile(python(text), "card", "exec"), {})
    out = capsys.readouterr().out.strip().splitlines()[-1]
    expected_output = expected(task, labels, logits(adapted, pair=False))
    if task == "classification":
        name, value = out.split()
        assert (name, pytest.approx(float(value), abs=1e-5)) == expected_output
    elif task == "multi_label":
        assert out == str(expected_output)
    else:
        assert float(out) == pytest.approx(expected_output, abs=1e-5)


def test_the_title_names_base_data_and_method():
    title = "bert-base-chinese fine-tuned on tickets with svd_lora"
    assert f"\n# {escape_markdown(title)}\n" in card(data_title="tickets")
    assert "\n# merged\n" in card()  # the data is unknown
