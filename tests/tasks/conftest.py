"""Tiny tokenizers and a tiny encoder, so that a task runs from texts to answers in a second."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE, WordPiece
from tokenizers.trainers import BpeTrainer
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

from bertft.config.data import DataConfig
from bertft.data.batch import Batch, collate
from bertft.data.features import FeatureTable, featurize
from bertft.data.rows import BadRows, Rows
from bertft.tasks.task import BaseTask

WORDS = ["a", "film", "good", "bad", "dull", "the", "plot", "un", "##s", "##ly", "##true", *",.!"]
HAN = [*"很好看的电影"]
BERT_SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


@pytest.fixture(scope="session")
def bert_tokenizer() -> PreTrainedTokenizerFast:
    """WordPiece over a handful of pieces; Chinese characters stand alone, as in BERT's own."""
    vocabulary = {token: number for number, token in enumerate(BERT_SPECIALS + WORDS + HAN)}
    backend = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


@pytest.fixture(scope="session")
def roberta_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE with RoBERTa's four special tokens in a pair and no token types."""
    backend = Tokenizer(BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.train_from_iterator(
        ["a good film", "the plot is dull", "很好看的电影"] * 3,
        BpeTrainer(
            vocab_size=330,
            special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        ),
    )
    backend.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<s>",
        eos_token="</s>",
        cls_token="<s>",
        sep_token="</s>",
        unk_token="<unk>",
        pad_token="<pad>",
        mask_token="<mask>",
        model_input_names=["input_ids", "attention_mask"],
    )


@pytest.fixture
def tiny_bert(bert_tokenizer: PreTrainedTokenizerFast) -> Callable[[BaseTask], Any]:
    """A random two-layer BERT with the task's head, in eval mode."""

    def build(task: BaseTask) -> BertForSequenceClassification:
        torch.manual_seed(0)
        config = BertConfig(
            vocab_size=len(bert_tokenizer),
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=64,
            initializer_range=0.5,  # wide, so that rows get different answers
            **task.head_config(),
        )
        return BertForSequenceClassification(config).eval()

    return build


@pytest.fixture
def settings() -> Callable[..., DataConfig]:
    return lambda **changes: DataConfig(name="test", **changes)


@pytest.fixture
def features() -> Callable[..., FeatureTable]:
    """``features(task, tokenizer, text=[...], label=[...])``: the rows as the task encodes them."""

    def build(task: BaseTask, tokenizer: Any, **columns: Any) -> FeatureTable:
        size = len(columns["text"])
        table = pa.table({**columns, "line": pa.array(range(1, size + 1))})
        return featurize(Rows(table, BadRows("here")), task.make_encoder(tokenizer, 16), [], None)

    return build


@pytest.fixture
def batch_of(features: Callable[..., FeatureTable]) -> Callable[..., Batch]:
    """All rows, encoded, as one batch."""

    def build(task: BaseTask, tokenizer: Any, **columns: Any) -> Batch:
        table = features(task, tokenizer, **columns)
        return collate(table, np.arange(len(table)), task.label_columns)

    return build


class Labelled:
    """Stands for a feature table of which only the labels matter."""

    def __init__(self, labels: Sequence[Any] | np.ndarray) -> None:
        self.labels = np.asarray(labels)

    def __len__(self) -> int:
        return len(self.labels)

    def gather(self, name: str, indices: np.ndarray) -> np.ndarray:
        return self.read_column(name)[indices]

    def read_column(self, name: str) -> np.ndarray:
        assert name == "labels"
        return self.labels


@pytest.fixture
def labelled() -> type[Labelled]:
    return Labelled


@pytest.fixture
def logits_of(bert_tokenizer: PreTrainedTokenizerFast) -> Callable[..., np.ndarray]:
    """What transformers computes, row by row: ``logits_of(model, texts[, pairs])``."""

    @torch.no_grad()
    def run(model: Any, *texts: list[str]) -> np.ndarray:
        rows = (bert_tokenizer(*row, return_tensors="pt") for row in zip(*texts, strict=True))
        return torch.cat([model(**row).logits for row in rows]).numpy()

    return run
