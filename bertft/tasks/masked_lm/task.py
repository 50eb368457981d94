"""Adapt an encoder to a domain: predict masked tokens of texts without labels.

    ℓ = Σ_i −log softmax(z_i)_{x_i}        over the masked positions i and the whole vocabulary

The masked positions are drawn again in every epoch, as a function of (seed, epoch, feature), so
that a resumed run uses the same ones. The head runs only on the masked positions. In validation
they depend on data.seed. Metrics: perplexity, exp of the mean loss; accuracy; the mean loss.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bertft.data.batch import Batch, BatchSeed
from bertft.data.features import EncodeFunction, FeatureTable
from bertft.errors import DataError, UsageError
from bertft.tasks.masked_lm.encoding import (
    MaskingVocabulary,
    choose_positions,
    encode_text_chunks,
    mask_tokens,
)
from bertft.tasks.masked_lm.report import masking_report_items
from bertft.tasks.report_items import ReportItem
from bertft.tasks.shared.logits import softmax
from bertft.tasks.shared.losses import to_loss_precision
from bertft.tasks.task import BaseTask

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["MaskedLMTask"]

_MAX_GUESSES = 5  # predictions per mask


class MaskedLMTask(BaseTask):
    """Features: ``word``, ragged like ``input_ids``.

    A head that the checkpoint has trains like the encoder, not as a new module.
    """

    name = "masked_lm"
    prediction_fields = ("masks",)
    max_prediction_rows = 256  # a mask has one logit per token of the vocabulary
    auto_class = "AutoModelForMaskedLM"
    level = "token"
    label_columns = ("word",)
    default_metric = "perplexity"
    prediction_settings = ("mlm_probability", "whole_words")
    has_fixed_inputs = False
    trains_new_head = False
    needs_labels = False

    @property
    def metric_names(self) -> tuple[str, ...]:
        return ("perplexity", "accuracy", "loss")

    def head_config(self) -> dict[str, Any]:
        return {}

    def cache_key(self) -> list[Any]:
        return [self.name]

    def make_encoder(self, tokenizer: PreTrainedTokenizerBase, max_length: int) -> EncodeFunction:
        if tokenizer.mask_token_id is None:
            raise UsageError(
                "the tokenizer has no mask token",
                where="model.tokenizer",
                hint="Choose an encoder that was pretrained with masked tokens",
            )
        if self.config.whole_words and not getattr(tokenizer, "is_fast", False):
            raise UsageError(
                "the tokenizer has no word boundaries",
                where="data.whole_words",
                hint="Set data.whole_words=false",
            )
        special_ids = np.asarray(sorted(tokenizer.all_special_ids))
        ordinary_ids = np.setdiff1d(np.arange(len(tokenizer)), special_ids)
        self.vocabulary = MaskingVocabulary(tokenizer.mask_token_id, special_ids, ordinary_ids)

        def decode(token_ids: Sequence[int]) -> str:
            return str(tokenizer.decode(list(token_ids)))

        def encode(rows: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
            return encode_text_chunks(tokenizer, rows["text"], max_length)

        self._decode_tokens = decode
        return encode

    def train_transform(self, batch: Batch, seed: BatchSeed) -> Batch:
        """Mask tokens: ``labels`` [K] are the original tokens at ``selected_tokens`` [K]."""
        original_ids = batch.input_ids.numpy()
        ids, words = original_ids.copy(), batch.labels["word"].numpy()
        masked_chunks: list[np.ndarray] = []
        start = 0
        for feature, length in zip(
            batch.feature_indices.tolist(), batch.lengths.tolist(), strict=True
        ):
            feature_slice = slice(start, start + length)
            generator = seed.feature_generator(feature)
            positions = self._choose_positions(
                original_ids[feature_slice], words[feature_slice], generator
            )
            mask_tokens(ids[feature_slice], positions, self.vocabulary, generator)
            masked_chunks.append(start + positions)
            start += length
        positions = np.concatenate(masked_chunks)
        return replace(
            batch,
            input_ids=torch.from_numpy(ids),
            labels={"labels": torch.from_numpy(original_ids[positions])},
            selected_tokens=torch.from_numpy(positions),
        )

    def _choose_positions(
        self, ids: np.ndarray, words: np.ndarray, generator: np.random.Generator
    ) -> np.ndarray:
        return choose_positions(
            ids,
            words,
            self.vocabulary,
            self.config.mlm_probability,
            self.config.whole_words,
            generator,
        )

    def predict_transform(self, batch: Batch) -> Batch:
        return replace(
            batch, selected_tokens=torch.nonzero(batch.input_ids == self.vocabulary.mask)[:, 0]
        )

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        return F.cross_entropy(to_loss_precision(logits), batch.labels["labels"], reduction="sum")

    def distillation_mask(self, batch: Batch) -> None:
        """None: every masked token, because there are logits only for these."""
        return

    def count_distillation_terms(self, batch: Batch) -> int:
        return self.count_loss_terms(batch)

    def reduce_outputs(self, logits: Tensor, batch: Batch) -> Tensor:
        """[K, 3]: loss, whether the prediction is correct, predicted id (exact up to 2²⁴)."""
        labels, guesses = batch.labels["labels"], logits.argmax(-1)
        losses = F.cross_entropy(to_loss_precision(logits), labels, reduction="none")
        return torch.stack(
            [losses, *(column.to(losses.dtype) for column in (guesses == labels, guesses))], -1
        )

    def prediction_agreement(
        self, outputs_a: np.ndarray, outputs_b: np.ndarray, features: FeatureTable
    ) -> float:
        """Fraction of masked tokens with the same prediction; from ``reduce_outputs``."""
        return float((outputs_a[:, 2] == outputs_b[:, 2]).mean())

    def compute_metrics(self, logits: np.ndarray, features: FeatureTable) -> dict[str, float]:
        """All metrics from ``reduce_outputs``; NaN if a loss is not finite.

        Raises DataError if there are no masked tokens.
        """
        if len(logits) == 0:
            raise DataError(
                "there are no tokens to mask",
                where=features.rows.source,
                hint="Every token is special or unknown. Use texts in the script of the tokenizer",
            )
        if not np.isfinite(logits).all():
            return self.undefined_metrics()
        loss, accuracy = logits[:, :2].astype(np.float64).mean(0).tolist()
        return {"perplexity": float(np.exp(loss)), "accuracy": accuracy, "loss": loss}

    def decode_predictions(
        self, logits: np.ndarray, features: FeatureTable
    ) -> Iterator[dict[str, Any]]:
        """``masks``: the most probable tokens of each mask, with their probabilities."""
        rows = features.read_column("row")
        feature_rows = np.repeat(rows, features.lengths)
        feature_rows = feature_rows[features.read_column("input_ids") == self.vocabulary.mask]
        for number in np.unique(rows):
            masks = []
            for token_logits in logits[feature_rows == number]:
                probabilities = softmax(token_logits[None])[0]
                top_tokens = np.argsort(-probabilities, kind="stable")[:_MAX_GUESSES].tolist()
                masks.append(
                    [
                        {
                            "token": self._decode_tokens([token]).strip(),
                            "score": float(probabilities[token]),
                        }
                        for token in top_tokens
                    ]
                )
            yield {"masks": masks}

    def report_items(self, logits: np.ndarray, features: FeatureTable) -> Iterator[ReportItem]:
        """From ``reduce_outputs``; the masked positions are drawn again, as in every evaluation."""
        cuts = np.cumsum(features.lengths)[:-1]
        ids = np.split(features.read_column("input_ids"), cuts)
        words = np.split(features.read_column("word"), cuts)
        seed = BatchSeed(self.config.seed)
        positions = [
            self._choose_positions(feature_ids, feature_words, seed.feature_generator(feature))
            for feature, (feature_ids, feature_words) in enumerate(zip(ids, words, strict=True))
        ]
        if len(logits):
            yield from masking_report_items(logits, positions, features, self._decode_tokens)
