"""Adapters that peft trained answer here as in peft, those that bertft wrote there as here."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, pre_tokenizers, processors
from tokenizers.models import WordLevel

from bertft.config.command_configs import MergeConfig
from bertft.config.data import DataConfig
from bertft.config.method import MethodConfig
from bertft.config.method_components.low_rank import LowRankConfig
from bertft.config.model import ModelConfig
from bertft.data.rows import BadRows, Rows
from bertft.errors import DataError, SystemResourceError, UsageError
from bertft.export.equivalence import score_rows
from bertft.export.peft_adapter import write_peft_adapter
from bertft.methods import build_components
from bertft.models.precision import choose_precision
from bertft.models.source import find_model_source
from bertft.models.tokenizer import load_tokenizer
from bertft.pipeline.check_rows import sample_check_rows
from bertft.pipeline.checkpoint import CheckpointInfo
from bertft.pipeline.loaded_model import LoadedModel
from bertft.pipeline.open_model import open_from_settings, open_model
from bertft.pipeline.task_model import build_task_model
from bertft.tasks.feature_tables import build_unlabelled_features
from bertft.tasks.task import build_task

peft = pytest.importorskip("peft")

VOCABULARY = 200
TASK = "classification"  # which an adapter of peft does not say
COMMON = {"vocab_size": VOCABULARY, "pad_token_id": 0, "initializer_range": 0.3}
SIZES = {
    **COMMON, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3,
    "intermediate_size": 40, "max_position_embeddings": 600,
}  # fmt: skip
FAMILIES = {
    "bert": SIZES,
    "roberta": {**SIZES, "type_vocab_size": 1},
    "distilbert": {
        **COMMON, "dim": 24, "n_layers": 2, "n_heads": 3, "hidden_dim": 40,
        "max_position_embeddings": 600,
    },
}  # fmt: skip
QUERY = {"bert": "query", "roberta": "query", "distilbert": "q_lin"}
VALUE = {"bert": "value", "roberta": "value", "distilbert": "v_lin"}
HEADS = {
    "SEQ_CLS": transformers.AutoModelForSequenceClassification,
    "TOKEN_CLS": transformers.AutoModelForTokenClassification,
    "QUESTION_ANS": transformers.AutoModelForQuestionAnswering,
}

# Sums of fp32 in another order: 1e-5 of logits whose size is about 1.
SAME_IN_FP32 = {"rtol": 1e-5, "atol": 1e-5}


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    """Family → a folder with an encoder that has no head, and its tokenizer."""
    folder = tmp_path_factory.mktemp("bases")
    words = sorted(
        {
            word
            for row in sample_check_rows("token_classification").column("text")
            for word in row.split()
        }
    )
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    table = {word: n for n, word in enumerate([*special, *words][:VOCABULARY])}
    for family, sizes in FAMILIES.items():
        backend = Tokenizer(WordLevel(table, "[UNK]"))
        backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        backend.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
        types = ["token_type_ids"] if family == "bert" else []
        transformers.PreTrainedTokenizerFast(
            tokenizer_object=backend, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]",
            sep_token="[SEP]", mask_token="[MASK]",
            model_input_names=["input_ids", *types, "attention_mask"],
        ).save_pretrained(folder / family)  # fmt: skip
        torch.manual_seed(0)
        config = transformers.AutoConfig.for_model(family, **sizes)
        transformers.AutoModel.from_config(config).save_pretrained(folder / family)
    return folder


def stir(model, only=""):
    """Move what trains, so that a reader that forgets some of it is off by much."""
    torch.manual_seed(5)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and only in name:
                parameter.add_(0.2 * torch.randn_like(parameter))
    return model.eval()


def whole_head(family):
    return ["classifier", "pre_classifier"] if family == "distilbert" else None


def trained_by_peft(base, family, folder, kind="SEQ_CLS", **settings):
    """A stirred peft model over ``base``, saved in ``folder`` as peft saves it."""
    torch.manual_seed(1)
    more = {} if kind == "QUESTION_ANS" else {"num_labels": 3}
    model = HEADS[kind].from_pretrained(base, **more)
    # DistilBERT's head and BERT's pooler are new: peft saves them if modules_to_save names them.
    head = whole_head(family) if kind == "SEQ_CLS" else None
    usual = {"r": 4, "target_modules": [QUERY[family], VALUE[family]], "modules_to_save": head}
    config = peft.LoraConfig(task_type=kind, **{**usual, **settings})
    theirs = stir(peft.get_peft_model(model, config))
    theirs.save_pretrained(folder)
    return theirs


def some_rows(task):
    """Sixteen made ones, of all kinds."""
    rows = sample_check_rows(task)
    return Rows(rows.table.take(list(range(0, len(rows), 4))), BadRows(rows.source))


def logits_of(model, saved, tokenizer=None):
    """What a peft model answers to ``some_rows``, a row at a time."""
    task = saved.task_model.task
    table = build_unlabelled_features(
        some_rows(task.name), task, tokenizer or saved.task_model.tokenizer, saved.info.max_length,
        None,
    )  # fmt: skip
    actual = []
    for number in range(len(table)):
        row = np.array([number])
        inputs = {
            name: torch.from_numpy(table.gather(name, row).astype(np.int64))[None]
            for name in ("input_ids", "token_type_ids")
            if name in table.columns
        }
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
        with torch.no_grad():
            out = model(**inputs)
        if task.name == "question_answering":
            actual.append(torch.stack([out.start_logits[0], out.end_logits[0]], -1))
        else:
            actual.append(out.logits if task.level == "sequence" else out.logits[0])
    return torch.cat(actual).numpy()


def ours(saved):
    return score_rows(saved, some_rows(saved.info.task))[0]


def merge_config(adapter, base=None, **changes):
    base = base and str(base)
    return MergeConfig(adapter=str(adapter), base=base, out="out", device="cpu", **changes)


KINDS = {
    "plain": {},
    "rslora": {"use_rslora": True, "lora_alpha": 3},
    "dora": {"use_dora": True},
    "biases": {"bias": "all"},
    "its biases": {"bias": "lora_only"},
    "all linear": {"target_modules": "all-linear"},
    "regex": {"target_modules": r".*layer\.1\..*(query|q_lin|key|k_lin)"},
}


BY_NAME = ("plain", "dora", "biases", "all linear")  # where families differ


@pytest.mark.parametrize(("family", "kind"), [
    (family, kind) for family in FAMILIES for kind in KINDS if family == "bert" or kind in BY_NAME
])  # fmt: skip
def test_what_peft_trained_gives_peft_s_logits(bases, tmp_path, family, kind):
    settings = KINDS[kind]
    theirs = trained_by_peft(bases / family, family, tmp_path / "adapter", **settings)
    saved = open_from_settings(merge_config(tmp_path / "adapter", task=TASK), "fp32")
    actual = ours(saved)
    expected = logits_of(theirs, saved)
    assert actual.shape == expected.shape == (16, 3)
    np.testing.assert_allclose(actual, expected, **SAME_IN_FP32)
    with theirs.disable_adapter():
        assert np.abs(logits_of(theirs, saved) - expected).max() > 0.05
    assert saved.task_model.fold() > 0
    np.testing.assert_allclose(ours(saved), expected, **SAME_IN_FP32)


@pytest.mark.parametrize("family", FAMILIES)
def test_ranks_and_scales_by_module(bases, tmp_path, family):
    settings = {
        "rank_pattern": {f"0.*{QUERY[family]}": 7},
        "alpha_pattern": {VALUE[family]: 3, f"^.*1.*{QUERY[family]}": 20},
    }
    theirs = trained_by_peft(bases / family, family, tmp_path / "adapter", **settings)
    saved = open_from_settings(merge_config(tmp_path / "adapter", task=TASK), "fp32")
    np.testing.assert_allclose(ours(saved), logits_of(theirs, saved), **SAME_IN_FP32)


@pytest.mark.parametrize("kind", ["TOKEN_CLS", "QUESTION_ANS"])
@pytest.mark.parametrize("family", FAMILIES)
def test_other_heads(bases, tmp_path, family, kind):
    """peft gives a model for question answering no token types, whatever the tokenizer gives."""
    theirs = trained_by_peft(bases / family, family, tmp_path / "adapter", kind)
    saved = open_from_settings(merge_config(tmp_path / "adapter"), "fp32")
    plain = load_tokenizer(ModelConfig(name="base", path=str(bases / family)))
    actual = ours(saved)
    np.testing.assert_allclose(actual, logits_of(theirs, saved, plain), **SAME_IN_FP32)
    if kind == "QUESTION_ANS":
        saved.task_model.tokenizer.save_pretrained(tmp_path / "kept")
        remaining = transformers.AutoTokenizer.from_pretrained(tmp_path / "kept")
        assert "token_type_ids" not in remaining("a", "a")


@pytest.mark.parametrize("config", [
    peft.IA3Config(task_type="SEQ_CLS"),
    peft.VeraConfig(task_type="SEQ_CLS", r=8, target_modules=["query", "value"]),
    peft.VeraConfig(task_type="SEQ_CLS", r=8, target_modules="all-linear", save_projection=False),
], ids=["ia3", "vera", "vera_by_seed"])  # fmt: skip
def test_other_types_of_adapters_are_read(bases, tmp_path, config):
    torch.manual_seed(1)
    config.modules_to_save = ["pooler"] if config.target_modules != "all-linear" else None
    base = HEADS["SEQ_CLS"].from_pretrained(bases / "bert", num_labels=3)
    theirs = stir(peft.get_peft_model(base, config))
    theirs.save_pretrained(tmp_path / "adapter")
    result = {"task": "multi_label", "labels": ["a", "b", "c"]}
    saved = open_from_settings(merge_config(tmp_path / "adapter", **result), "fp32")
    np.testing.assert_allclose(ours(saved), logits_of(theirs, saved), **SAME_IN_FP32)


def test_the_head_is_detected_by_the_class_if_the_task_type_is_not(bases, tmp_path):
    base = bases / "bert"
    model = transformers.AutoModelForTokenClassification.from_pretrained(base, num_labels=5)
    config = peft.LoraConfig(r=2, target_modules=["query"], modules_to_save=["classifier"])
    theirs = stir(peft.get_peft_model(model, config))
    theirs.save_pretrained(tmp_path / "adapter")
    content = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert content["task_type"] is None
    saved = open_model(str(tmp_path / "adapter"), precision="fp32", device="cpu")
    assert (saved.info.task, len(saved.info.labels)) == ("token_classification", 5)
    np.testing.assert_allclose(ours(saved), logits_of(theirs, saved), **SAME_IN_FP32)


def test_a_head_that_the_base_has_need_not_be_saved(bases, tmp_path):
    torch.manual_seed(3)
    names = {0: "one", 1: "two", 2: "three"}
    model = transformers.AutoModelForSequenceClassification.from_pretrained(
        bases / "bert", id2label=names, problem_type="multi_label_classification"
    )
    model.save_pretrained(tmp_path / "base")
    load_tokenizer(ModelConfig(name="b", path=str(bases / "bert"))).save_pretrained(
        tmp_path / "base"
    )
    theirs = stir(peft.get_peft_model(model, peft.LoraConfig(target_modules=["value"])))
    theirs.save_pretrained(tmp_path / "adapter")
    content = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    content["base_model_name_or_path"] = str(tmp_path / "base")
    (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps(content))
    saved = open_from_settings(merge_config(tmp_path / "adapter"), "fp32")
    assert (saved.info.task, saved.info.labels) == ("multi_label", ["one", "two", "three"])
    np.testing.assert_allclose(ours(saved), logits_of(theirs, saved), **SAME_IN_FP32)
    (tmp_path / "base").rename(tmp_path / "moved")
    with pytest.raises(UsageError, match=r"there is no folder .*base"):
        open_from_settings(merge_config(tmp_path / "adapter"), "fp32")
    again = open_from_settings(merge_config(tmp_path / "adapter", tmp_path / "moved"), "fp32")
    np.testing.assert_array_equal(ours(again), ours(saved))


def test_what_a_head_means_is_not_guessed(bases, tmp_path):
    theirs = trained_by_peft(bases / "bert", "bert", tmp_path / "adapter")
    for opened in (
        lambda: open_from_settings(merge_config(tmp_path / "adapter"), "fp32"),
        lambda: open_model(str(tmp_path / "adapter"), precision="fp32", device="cpu"),
    ):
        with pytest.raises(UsageError, match=r"whether the 3 outputs .*task=multi_label"):
            opened()
    result = {"task": "multi_label", "labels": ["a", "b", "c"]}
    saved = open_from_settings(merge_config(tmp_path / "adapter", **result), "fp32")
    assert (saved.info.task, saved.info.labels) == ("multi_label", ["a", "b", "c"])
    config = saved.task_model.model.config  # which merge writes
    assert config.problem_type == "multi_label_classification" and config.id2label[2] == "c"
    np.testing.assert_allclose(ours(saved), logits_of(theirs, saved), **SAME_IN_FP32)
    with pytest.raises(UsageError, match="has 2 names, but the model has 3 outputs"):
        open_from_settings(
            merge_config(tmp_path / "adapter", task="multi_label", labels=["a", "b"]), "fp32"
        )


def test_a_stated_problem_type_is_respected(bases, tmp_path):
    model = transformers.AutoModelForSequenceClassification.from_pretrained(
        bases / "bert", id2label={0: "x", 1: "y"}, problem_type="multi_label_classification"
    )
    model.save_pretrained(tmp_path / "base")
    load_tokenizer(ModelConfig(name="b", path=str(bases / "bert"))).save_pretrained(
        tmp_path / "base"
    )
    theirs = stir(peft.get_peft_model(model, peft.LoraConfig(target_modules=["value"])))
    theirs.save_pretrained(tmp_path / "adapter")
    data = DataConfig(name="files")  # whose task is classification by default
    with pytest.raises(
        UsageError, match=r"head of the model was trained for multi_label.*data.task=multi_label"
    ):
        open_from_settings(merge_config(tmp_path / "adapter", tmp_path / "base"), "fp32", data)


def test_names_of_a_plain_folder_are_the_user_s(bases, tmp_path):
    def folder(**settings):
        torch.manual_seed(3)
        model = transformers.AutoModelForSequenceClassification.from_pretrained(
            bases / "bert", **settings
        )
        model.save_pretrained(tmp_path / "plain")
        load_tokenizer(ModelConfig(name="b", path=str(bases / "bert"))).save_pretrained(
            tmp_path / "plain"
        )
        return str(tmp_path / "plain")

    def names(path, labels, **settings):
        data = DataConfig(name="files", labels=labels, **settings)
        saved = open_model(path, precision="fp32", device="cpu", data=data)
        return saved.info.labels

    path = folder(num_labels=2)
    assert names(path, None) == ["LABEL_0", "LABEL_1"]
    assert names(path, ["pos", "neg"]) == names(path, {1: "neg", 0: "pos"}) == ["pos", "neg"]
    assert names(path, ["pos", "neg"], task="multi_label") == ["pos", "neg"]
    for labels in (["pos"], {1: "pos", 2: "neg"}):
        with pytest.raises(UsageError, match=r"data\.labels: "):
            names(path, labels)
    path = folder(id2label={0: "pos", 1: "neg"})
    assert names(path, ["neg", "pos"]) == ["pos", "neg"]  # the outputs keep their order
    assert names(path, {1: "pos", 2: "neg"}) == ["pos", "neg"]
    with pytest.raises(UsageError, match=r"the model has no class good \(classes: pos, neg"):
        names(path, ["neg", "good"])


METHODS = {
    "lora": {},
    "rslora": {"use_rslora": True, "alpha": 5.0},
    "dora": {"use_dora": True},
    "svd_lora": {"kind": "svd_lora"},
}
OURS = {
    "SEQ_CLS": ("classification", ["no", "yes", "so so"]),
    "TOKEN_CLS": ("token_classification", ["O", "B-x", "I-x"]),
    "QUESTION_ANS": ("question_answering", None),
}


def trained_here(base, family, kind, changes):
    """A run's model over ``base``, stirred; of svd_lora one module has rank 0, one rank 1."""
    name, labels = OURS[kind]
    data = DataConfig(name="data", task=name, stride=17, max_answer_length=9)
    task = build_task(data, labels)
    settings = ModelConfig(name="base", path=str(base))
    method = MethodConfig(
        name="method", rank=4, low_rank=LowRankConfig(targets=["query", "value"], **changes)
    )
    torch.manual_seed(0)
    tokenizer = load_tokenizer(settings)
    adapted = build_task_model(
        find_model_source(str(base)), settings, build_components(method), task, tokenizer,
        choose_precision("fp32", torch.device("cpu")),
    )  # fmt: skip
    stir(adapted.model)
    triplets = [
        parameter for name, parameter in adapted.model.named_parameters() if name.endswith(".E")
    ]
    with torch.no_grad():
        for triplet, left in zip(triplets, (0, 1), strict=False):
            triplet[left:] = 0.0
    assert bool(triplets) == (changes.get("kind") == "svd_lora")
    return LoadedModel(adapted, data, CheckpointInfo(name, labels, 120, 3), base)


@pytest.mark.parametrize(("method", "kind"), [
    (method, kind) for method in METHODS for kind in OURS
    if kind == "SEQ_CLS" or method in ("lora", "svd_lora")
])  # fmt: skip
@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_written_gives_the_same_logits_in_peft_and_here(
    bases, tmp_path, family, method, kind
):
    changes = METHODS[method]
    saved = trained_here(bases / family, family, kind, changes)
    expected = ours(saved)
    tensors = write_peft_adapter(tmp_path, saved)
    more = {} if kind == "QUESTION_ANS" else {"num_labels": 3}
    theirs = peft.PeftModel.from_pretrained(
        HEADS[kind].from_pretrained(bases / family, **more), tmp_path
    ).eval()
    np.testing.assert_allclose(logits_of(theirs, saved), expected, **SAME_IN_FP32)
    content = json.loads((tmp_path / "adapter_config.json").read_text())
    assert content["base_model_name_or_path"] == str(bases / family)
    if changes.get("kind") == "svd_lora":
        assert len(content["target_modules"]) == 3 and 1 in content["rank_pattern"].values()
    assert not [name for name, tensor in tensors.items() if 0 in tensor.shape]

    again = open_from_settings(merge_config(tmp_path), "fp32")
    assert again.info == replace(saved.info, step=0)
    np.testing.assert_allclose(ours(again), expected, **SAME_IN_FP32)
    if kind == "QUESTION_ANS":
        assert again.prediction_settings == {
            **saved.prediction_settings,
            "stride": 17,
            "max_answer_length": 9,
        }


@pytest.fixture
def adapter(bases, tmp_path):
    """A folder of a good adapter, and a function that changes its configuration."""
    folder = tmp_path / "adapter"
    trained_by_peft(bases / "bert", "bert", folder, modules_to_save=["classifier", "pooler"])

    def change(**changes):
        content = json.loads((folder / "adapter_config.json").read_text())
        (folder / "adapter_config.json").write_text(json.dumps({**content, **changes}))
        return folder

    return change


@pytest.mark.parametrize(("changes", "words"), [
    ({"peft_type": "PREFIX_TUNING"}, "peft_type PREFIX_TUNING are not supported"),
    ({"peft_type": "OFT"}, "peft_type OFT are not supported"),
    ({"peft_type": ["LORA"]}, "peft_type .* are not supported"),
    ({"peft_type": {}}, "peft_type {} are not supported"),
    ({"peft_type": None}, "peft_type None are not supported"),
    ({"init_lora_weights": "pissa_niter_4"}, "changed the base weights"),
    ({"arrow_config": {"top_k": 3}}, "arrow_config is not supported"),
    ({"task_type": "CAUSAL_LM"}, "'CAUSAL_LM' is not supported"),
    ({"task_type": None, "auto_mapping": {"base_model_class": "BertModel"}}, "None is not"),
    ({"base_model_name_or_path": ""}, "base_model_name_or_path is missing"),
    ({"base_model_name_or_path": "/no/where"}, "there is no folder /no/where"),
    ({"base_model_name_or_path": "~nobody-9/folder"}, "base of the adapter .*no such user or home"),
    ({"lora_alpha": "much"}, "invalid value for 'lora_alpha' or 'alpha_pattern'"),
    ({"alpha_pattern": {"(": 3}}, "invalid value for 'lora_alpha' or 'alpha_pattern'"),
])  # fmt: skip
def test_what_cannot_be_read_reports_it_and_where(adapter, changes, words):
    folder = adapter(**changes)
    kind = UsageError if "folder" in words or "home" in words else DataError
    with pytest.raises(kind, match=words) as content:
        open_from_settings(merge_config(folder, task=TASK), "fp32")
    assert content.value.where == str(folder / "adapter_config.json")


def test_a_base_that_the_hub_would_have_to_give(adapter, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    folder = adapter(base_model_name_or_path="somebody/no-such-encoder")
    with pytest.raises(SystemResourceError, match="base of the adapter cannot be read") as content:
        open_from_settings(merge_config(folder, task=TASK), "fp32")
    assert "base=<folder or Hub id>" in content.value.hint


def test_another_base_does_not_fit(adapter, bases, tmp_path):
    folder = adapter()
    with pytest.raises(DataError, match=r"the model has no \S+ of shape"):
        open_from_settings(merge_config(folder, bases / "roberta", task=TASK), "fp32")
    config = transformers.BertConfig(**{**SIZES, "hidden_size": 48})
    transformers.BertModel(config).save_pretrained(tmp_path / "wide")
    load_tokenizer(ModelConfig(name="b", path=str(bases / "bert"))).save_pretrained(
        tmp_path / "wide"
    )
    with pytest.raises(
        DataError, match="the shapes of the saved head do not match the base"
    ) as content:
        open_from_settings(merge_config(folder, tmp_path / "wide", task=TASK), "fp32")
    assert content.value.where == str(folder)


def test_weights_in_pickle_are_not_read(adapter):
    folder = adapter()
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    with pytest.raises(DataError, match=r"only adapter_model\.bin") as content:
        open_from_settings(merge_config(folder, task=TASK), "fp32")
    assert "pickled" in content.value.hint and content.value.where == str(folder)


def test_a_head_that_nobody_has(bases, tmp_path):
    """Without modules_to_save, older releases of peft save one of DistilBERT's two layers."""
    folder = tmp_path / "adapter"
    trained_by_peft(bases / "distilbert", "distilbert", folder)
    remaining = load_file(folder / "adapter_model.safetensors")
    remaining = {name: tensor for name, tensor in remaining.items() if "pre_classifier" not in name}
    save_file(remaining, folder / "adapter_model.safetensors")
    with pytest.raises(DataError, match=r"weights for pre_classifier\.bias") as content:
        open_from_settings(merge_config(folder, task=TASK), "fp32")
    assert "modules_to_save" in content.value.hint


def test_an_embedding_that_was_enlarged(bases, tmp_path):
    """The tokenizer of the adapter has ids that the base on disk does not know."""
    folder = tmp_path / "adapter"
    model = HEADS["SEQ_CLS"].from_pretrained(bases / "bert", num_labels=3)
    model.resize_token_embeddings(VOCABULARY + 2)
    config = peft.LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["query"])
    peft.get_peft_model(model, config).save_pretrained(folder, save_embedding_layers=True)
    with pytest.raises(DataError, match="enlarged from 200 to 202 tokens") as content:
        open_from_settings(merge_config(folder, task=TASK), "fp32")
    assert "base.resize_token_embeddings(202)" in content.value.hint
    assert content.value.where == str(folder)


def test_an_adapter_is_no_base(adapter):
    folder = adapter()
    with pytest.raises(UsageError, match="contains an adapter, not a model") as content:
        find_model_source(str(folder))
    assert f"bertft merge adapter={folder} out=<folder>" in content.value.hint


def test_an_update_of_an_embedding(bases, tmp_path):
    folder = tmp_path / "adapter"
    trained_by_peft(bases / "bert", "bert", folder, target_modules=["word_embeddings", "query"])
    with pytest.raises(DataError, match="embedding"):
        open_from_settings(merge_config(folder, task=TASK), "fp32")


def test_a_folder_that_holds_no_adapter_or_holds_it_deeper(bases, tmp_path):
    with pytest.raises(UsageError, match=r"has no adapter_config\.json") as content:
        open_from_settings(merge_config(bases / "bert"), "fp32")
    assert content.value.where == "adapter" and "run=" in content.value.hint
    trained_by_peft(bases / "bert", "bert", tmp_path / "all" / "named")
    with pytest.raises(UsageError, match="has no adapter") as content:
        open_from_settings(merge_config(tmp_path / "all"), "fp32")
    assert f"adapter={tmp_path / 'all'}/named" in content.value.hint
    with pytest.raises(UsageError, match="there is no folder") as content:
        open_from_settings(merge_config(tmp_path / "all" / "name"), "fp32")
    assert "Did you mean 'named'?" in content.value.hint


@pytest.mark.parametrize("name_part", ["lora_A", "lora_B", "classifier"])
@pytest.mark.parametrize("dtype", [torch.complex64, torch.int8])
def test_tensors_that_are_no_floating_point_numbers(adapter, name_part, dtype):
    file = adapter() / "adapter_model.safetensors"
    tensors = load_file(file)
    name = next(name for name in sorted(tensors) if name_part in name)
    save_file({**tensors, name: tensors[name].to(dtype)}, file)
    with pytest.raises(DataError, match=r"has dtype (complex64|int8), expected a floating-point"):
        open_from_settings(merge_config(adapter()), "fp32")


def test_a_base_that_contradicts_itself(bases, tmp_path):
    shutil.copytree(bases / "bert", tmp_path / "base")
    file = tmp_path / "base" / "config.json"
    names = {
        "id2label": {"0": "no", "1": "yes", "2": "maybe"},
        "label2id": {"no": 1, "yes": 0, "maybe": 2},
    }
    trained_by_peft(bases / "bert", "bert", tmp_path / "adapter")
    file.write_text(json.dumps({**json.loads(file.read_text()), **names}))
    command = merge_config(tmp_path / "adapter", tmp_path / "base", task="classification")
    with pytest.raises(UsageError, match="but label2id gives this name to output 1"):
        open_from_settings(command, "fp32")
    names["id2label"] = {str(number): f"LABEL_{number}" for number in range(3)}
    file.write_text(json.dumps({**json.loads(file.read_text()), **names}))
    assert open_from_settings(command, "fp32").info.labels == ["yes", "no", "maybe"]


@pytest.mark.parametrize("change", [
    {"task": "poetry"}, {"labels": "yes"}, {"labels": ["a", "b", "a"]}, {"labels": ["a", " "]},
    {"max_length": 0}, {"answering": {"colour": "red"}},
    {"answering": []},
])  # fmt: skip
def test_bertft_json_of_another_form(bases, tmp_path, change):
    write_peft_adapter(tmp_path, trained_here(bases / "bert", "bert", "SEQ_CLS", {}))
    facts = json.loads((tmp_path / "bertft.json").read_text())
    (tmp_path / "bertft.json").write_text(json.dumps({**facts, **change}))
    with pytest.raises(DataError, match=r"invalid value for|has invalid content|unknown task"):
        open_from_settings(merge_config(tmp_path), "fp32")
