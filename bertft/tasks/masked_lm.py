"""Adapt an encoder to a domain: guess hidden tokens of texts without labels.

    ℓ = Σ_i −log softmax(z_i)_{x_i}        over the hidden places i, of the whole vocabulary

What is hidden is drawn anew in every epoch, as a function of (seed, epoch, feature): a run that
goes on sees what it would have seen. The head runs at the hidden places alone. In validation
they depend on data.seed. Metrics: perplexity, exp of the mean loss; accuracy; the mean loss.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bertft.data.batch import Batch
from bertft.errors import DataError, UsageError
from bertft.runs.exhibits import Exhibit
from bertft.tasks.masking.encoding import encode_plain
from bertft.tasks.masking.exhibits import exhibits
from bertft.tasks.masking.hide import Vocabulary, choose, hide
from bertft.tasks.shared.scores import precise, softmax
from bertft.tasks.task import BaseTask, Draw, Encoder

__all__ = ["Task"]

_GUESSES = 5  # told of each mask


class Task(BaseTask):
    """Features: ``word``, ragged as ``input_ids``. A head of the base trains as the base does."""

    name = "masked_lm"
    answer_fields = ("masks",)
    auto_class = "AutoModelForMaskedLM"
    level = "token"
    label_columns = ("word",)
    default_metric = "perplexity"
    answer_settings = ("mlm_probability", "whole_words")
    fixed_inputs = False
    fresh_head = False
    supervised = False

    @classmethod
    def carried_by(cls, model_config: Mapping[str, Any]) -> bool:
        heads = model_config.get("architectures") or []
        return any(head.endswith("ForMaskedLM") for head in heads)

    @property
    def metric_names(self) -> tuple[str, ...]:
        return ("perplexity", "accuracy", "loss")

    def model_settings(self) -> dict[str, Any]:
        return {}

    def key(self) -> list[Any]:
        return [self.name]

    def encoder(self, tokenizer: Any, max_length: int) -> Encoder:
        if tokenizer.mask_token_id is None:
            raise UsageError(
                "the tokenizer has no mask token", where="model.tokenizer",
                hint="Take an encoder that was trained on masked tokens",
            )  # fmt: skip
        if self.config.whole_words and not getattr(tokenizer, "is_fast", False):
            raise UsageError(
                "this tokenizer does not tell words apart", where="data.whole_words",
                hint="Leave it out",
            )  # fmt: skip
        special = np.asarray(sorted(tokenizer.all_special_ids))
        ordinary = np.setdiff1d(np.arange(len(tokenizer)), special)
        self.vocabulary = Vocabulary(tokenizer.mask_token_id, special, ordinary)
        self._spell = tokenizer.decode

        def encode(rows: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
            return encode_plain(tokenizer, rows["text"], max_length)

        return encode

    def drawn(self, batch: Batch, draw: Draw) -> Batch:
        """``labels`` [K] are the tokens that were at the ``chosen`` places [K]."""
        given = batch.input_ids.numpy()
        ids, words = given.copy(), batch.labels["word"].numpy()
        share, whole = self.config.mlm_probability, self.config.whole_words
        chosen: list[np.ndarray] = []
        start = 0
        for feature, length in zip(batch.index.tolist(), batch.lengths.tolist(), strict=True):
            own = slice(start, start + length)
            generator = draw.generator(feature)
            places = choose(given[own], words[own], self.vocabulary, share, whole, generator)
            hide(ids[own], places, self.vocabulary, generator)
            chosen.append(start + places)
            start += length
        places = np.concatenate(chosen)
        return replace(
            batch,
            input_ids=torch.from_numpy(ids),
            labels={"labels": torch.from_numpy(given[places])},
            chosen=torch.from_numpy(places),
        )

    def asking(self, batch: Batch) -> Batch:
        return replace(batch, chosen=torch.nonzero(batch.input_ids == self.vocabulary.mask)[:, 0])

    def terms(self, batch: Batch) -> int:
        return len(batch.labels["labels"])

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        return F.cross_entropy(precise(logits), batch.labels["labels"], reduction="sum")

    def soft_places(self, batch: Batch) -> None:
        """All that there are logits of: the chosen ones."""
        return

    def soft_terms(self, batch: Batch) -> int:
        return self.terms(batch)

    def outputs(self, logits: Tensor, batch: Batch) -> Tensor:
        """[K, 3]: loss, whether the guess is right, and the guess (fp32 holds ids to 2²⁴)."""
        labels, guesses = batch.labels["labels"], logits.argmax(-1)
        losses = F.cross_entropy(precise(logits), labels, reduction="none")
        return torch.stack(
            [losses, *(each.to(losses.dtype) for each in (guesses == labels, guesses))], -1
        )

    def agreement(self, one: np.ndarray, other: np.ndarray, features: Any) -> float:
        """Share of hidden tokens for which both guess the same; from ``outputs``."""
        return float((one[:, 2] == other[:, 2]).mean())

    def metrics(self, logits: np.ndarray, features: Any) -> dict[str, float]:
        """From ``outputs``; NaN, which never wins, of infinite losses. DataError of no token."""
        if len(logits) == 0:
            raise DataError(
                "there is no token to guess", where=features.rows.source,
                hint="Every token is special or unknown: take texts in the tokenizer's script",
            )  # fmt: skip
        if not np.isfinite(logits).all():
            return dict.fromkeys(self.metric_names, float("nan"))
        loss, right = logits[:, :2].astype(np.float64).mean(0).tolist()
        return {"perplexity": float(np.exp(loss)), "accuracy": right, "loss": loss}

    def answers(self, logits: np.ndarray, features: Any) -> Iterator[dict[str, Any]]:
        """``masks``: for each mask of the text its likeliest tokens, each with its probability."""
        rows = features.whole("row")
        owner = np.repeat(rows, features.lengths)
        owner = owner[features.whole("input_ids") == self.vocabulary.mask]
        for number in np.unique(rows):
            masks = []
            for each in logits[owner == number]:
                probabilities = softmax(each[None])[0]
                best = np.argsort(-probabilities, kind="stable")[:_GUESSES].tolist()
                masks.append(
                    [
                        {
                            "token": self._spell([token]).strip(),
                            "score": float(probabilities[token]),
                        }
                        for token in best
                    ]
                )
            yield {"masks": masks}

    def exhibits(self, logits: np.ndarray, features: Any) -> Iterator[Exhibit]:
        """From ``outputs``; what was hidden is drawn again, as it is the same in any evaluation."""
        cuts = np.cumsum(features.lengths)[:-1]
        ids = np.split(features.whole("input_ids"), cuts)
        words = np.split(features.whole("word"), cuts)
        draw, settings = Draw(self.config.seed), self.config
        places = [
            choose(
                own, of, self.vocabulary, settings.mlm_probability, settings.whole_words,
                draw.generator(feature),
            )
            for feature, (own, of) in enumerate(zip(ids, words, strict=True))
        ]  # fmt: skip
        if len(logits):
            yield from exhibits(logits, places, features, self._spell)
