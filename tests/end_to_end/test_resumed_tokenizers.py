"""A run that is resumed keeps its tokenizer byte for byte, of whatever kind and class it is.

transformers chooses the class of a tokenizer by files next to it, and does not always write what
it read: made here are those of the families whose classes differ.
"""

from __future__ import annotations

import json
import signal

import pytest
import tokenizers
from small_runs import crash, outcome, write_task
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

LOOP = (
    "train", "trainer.threads=1", "trainer.batch_size=8", "trainer.max_steps=4",
    "trainer.evaluate_every=2", "trainer.precision=fp32", "quiet=true", "report=false",
    "method=full", "resume=auto",
)  # fmt: skip
SIZES = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
         "intermediate_size": 32, "max_position_embeddings": 130}  # fmt: skip
TEXTS = [
    "the film was good, plot 12",
    "the meal was awful, room 7",
    "a lovely song 345",
    "dull",
] * 9


def bpe(first, last, extra):
    """Byte-level BPE: RoBERTa's and DeBERTa's."""
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    names = [first, "<pad>" if first == "<s>" else "[PAD]", last, *extra]
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=names, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    ids = {name: tokenizer.token_to_id(name) for name in names}
    if first == "<s>":
        tokenizer.post_processor = processors.RobertaProcessing(
            (last, ids[last]), (first, ids[first])
        )
    else:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{first} $A {last}", pair=f"{first} $A {last} $B:1 {last}:1",
            special_tokens=[(first, ids[first]), (last, ids[last])],
        )  # fmt: skip
    return tokenizer


def unigram(first, last, names, normalizer=None):
    """Pieces as SentencePiece draws them: XLM-R's and DeBERTa-v2's."""
    tokenizer = tokenizers.Tokenizer(models.Unigram())
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=120, special_tokens=names, unk_token=names[3], show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    ids = {name: tokenizer.token_to_id(name) for name in names}
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}", pair=f"{first} $A {last} $B:1 {last}:1",
        special_tokens=[(first, ids[first]), (last, ids[last])],
    )  # fmt: skip
    return tokenizer


def roberta_like():
    return bpe("<s>", "</s>", ["<unk>", "<mask>"])


XLM = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
DEBERTA = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"]
BRACKETS = {"cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]", "pad_token": "[PAD]",
            "mask_token": "[MASK]"}  # fmt: skip
ANGLES = {"bos_token": "<s>", "eos_token": "</s>", "cls_token": "<s>", "sep_token": "</s>",
          "unk_token": "<unk>", "pad_token": "<pad>", "mask_token": "<mask>"}  # fmt: skip
# What makes the tokenizer, what its configuration states, the model's settings.
KINDS = {
    "roberta": (
        roberta_like, {**ANGLES, "tokenizer_class": "RobertaTokenizer"},
        {"model_type": "roberta", "pad_token_id": 1},
    ),
    "xlm-roberta": (
        lambda: unigram("<s>", "</s>", XLM), {**ANGLES, "tokenizer_class": "XLMRobertaTokenizer"},
        {"model_type": "xlm-roberta", "pad_token_id": 1},
    ),
    # The class would normalise otherwise: the tokenizer is built from the file.
    "xlm-roberta lower": (
        lambda: unigram("<s>", "</s>", XLM, normalizers.Lowercase()),
        {**ANGLES, "tokenizer_class": "XLMRobertaTokenizerFast"},
        {"model_type": "xlm-roberta", "pad_token_id": 1},
    ),
    "deberta": (
        lambda: bpe("[CLS]", "[SEP]", ["[UNK]", "[MASK]"]),
        {**BRACKETS, "tokenizer_class": "DebertaTokenizer"},
        {"model_type": "deberta", "pad_token_id": 1, "type_vocab_size": 0},
    ),
    "deberta-v2": (
        lambda: unigram("[CLS]", "[SEP]", DEBERTA),
        {**BRACKETS, "tokenizer_class": "DebertaV2Tokenizer"},
        {"model_type": "deberta-v2", "pad_token_id": 0, "type_vocab_size": 0},
    ),
    # A tokenizer of another family than the model, and one of no class.
    "roberta's for bert": (
        roberta_like, {**ANGLES, "tokenizer_class": "RobertaTokenizer"},
        {"model_type": "bert", "pad_token_id": 1},
    ),
    "no class": (
        lambda: unigram("[CLS]", "[SEP]", DEBERTA), BRACKETS,
        {"model_type": "electra", "pad_token_id": 0},
    ),
}  # fmt: skip


def written(folder, make, stated):
    folder.mkdir()
    make().save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 128, **stated}))
    return folder


# In the normal run a kind of each mechanism; all of them both ways with -m long.
SHORT = (("roberta", "a folder"), ("xlm-roberta lower", "a folder"), ("deberta-v2", "sizes"))
CASES = [
    pytest.param(kind, loaded, marks=() if (kind, loaded) in SHORT else pytest.mark.long)
    for kind in KINDS
    for loaded in ("sizes", "a folder")
]


@pytest.mark.parametrize(("kind", "loaded"), CASES)
def test_the_tokenizer_is_kept_byte_for_byte(work_dir, kind, loaded):
    make, stated, model = KINDS[kind]
    folder = written(work_dir / "base", make, stated)
    if loaded == "a folder":
        from transformers import AutoConfig, AutoModel

        sizes = {**SIZES, **model, "vocab_size": make().get_vocab_size()}
        config = AutoConfig.for_model(sizes.pop("model_type"), **sizes)
        AutoModel.from_config(config).save_pretrained(folder)
        base = [f"model.path={folder}"]
    else:
        sizes = (f"model.architecture.{name}={value}" for name, value in {**SIZES, **model}.items())
        base = ["model=tiny", f"model.tokenizer={folder}", *sizes]
    words = [*LOOP, *base, *write_task(work_dir, "pair")]
    (whole,) = crash([([*words, "hydra.run.dir=whole"], None)])
    assert whole["status"] == 0, whole
    expected = outcome(work_dir / "whole")
    jobs = []
    for name in ("create .step-2", "create .step-4"):
        turn = next(n for n, line in enumerate(whole["points"], 1) if line.startswith(name))
        run = f"hydra.run.dir={name[-1]}"
        jobs += [([*words, run], f"SIGKILL:{turn}"), ([*words, run], None)]
    content = crash(jobs)
    assert [job["status"] for job in content] == [-signal.SIGKILL, 0] * 2, content
    for name in ("2", "4"):
        actual = outcome(work_dir / name)
        unlike = [
            file_name for file_name in expected if actual.get(file_name) != expected[file_name]
        ]
        assert actual == expected, f"killed before step {name}: {unlike}"
