"""Report of masked language modelling: the hardest features, the tokens with the largest loss.

    perplexity of a feature = exp(mean loss of its masked tokens)

The total loss of a token shows what the encoder has yet to learn about a domain: a rare word that
is never predicted can count as much as a frequent one that is often missed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from bertft.data.features import FeatureTable
from bertft.tasks.report_items import Percent, ReportItem, TableCell, TableItem, clip_text
from bertft.tasks.shared.report import (
    MAX_EXAMPLES,
    example_tables,
    format_row_location,
    format_row_text,
)

__all__ = ["masking_report_items"]


def masking_report_items(
    outputs: np.ndarray,
    masked_positions: Sequence[np.ndarray],
    features: FeatureTable,
    decode: Callable[[Sequence[int]], str],
) -> Iterator[ReportItem]:
    """The hardest features, and the tokens with the largest loss.

    ``outputs`` [K, 3]: loss, correct, prediction. ``masked_positions``: those of each feature, K in
    all.
    """
    all_features = np.arange(len(features))
    sizes = features.sizes("input_ids", all_features)
    starts = np.cumsum(sizes) - sizes
    ids, numbers = features.gather("input_ids", all_features), features.gather("row", all_features)
    masked = [
        ids[start + positions] for start, positions in zip(starts, masked_positions, strict=True)
    ]
    counts = np.asarray([len(positions) for positions in masked_positions])
    loss, hits = outputs[:, :2].astype(np.float64).T
    feature_of_token = np.repeat(all_features, counts)
    total = np.bincount(feature_of_token, loss, len(all_features))
    correct = np.bincount(feature_of_token, hits, len(all_features))

    def line(feature: int) -> list[TableCell]:
        row = int(numbers[feature])
        words = " ".join(decode([token]).strip() for token in masked[feature].tolist())
        return [
            format_row_location(features.rows, row),
            format_row_text(features.rows, row),
            clip_text(words, 120),
            int(correct[feature]),
            float(np.exp(total[feature] / counts[feature])),
        ]

    mean = np.where(counts > 0, total / np.maximum(counts, 1), -np.inf)
    yield from example_tables(
        ("row", "text", "masked", "correct", "perplexity"),
        line,
        (mean, "The masked tokens, and how many of them were predicted correctly."),
        None,
    )
    yield _token_table(np.concatenate(masked), loss, hits, decode)


def _token_table(
    tokens: np.ndarray, loss: np.ndarray, hits: np.ndarray, decode: Callable[[Sequence[int]], str]
) -> TableItem:
    distinct_tokens, token_numbers = np.unique(tokens, return_inverse=True)
    times, total = np.bincount(token_numbers), np.bincount(token_numbers, loss)
    order = np.argsort(-total, kind="stable")[:MAX_EXAMPLES]
    shares = np.bincount(token_numbers, hits) / times
    return TableItem(
        "tokens",
        "Tokens with the largest loss",
        "The tokens with the largest share of the total loss.",
        head=("token", "masked", "correct", "mean loss", "share of loss"),
        rows=[
            [
                clip_text(decode([int(distinct_tokens[token_index])]).strip(), 40),
                int(times[token_index]),
                Percent(shares[token_index]),
                float(total[token_index] / times[token_index]),
                Percent(total[token_index] / max(total.sum(), 1e-300)),
            ]
            for token_index in order
        ],
    )
