"""Report items of masked language modelling: the worst texts, the tokens with the highest loss.

    perplexity of a feature = exp(mean loss at its masked positions)

The total loss of a token shows what the encoder has not learned yet about a domain: it is high for
rare tokens that are never predicted and for frequent tokens that are often missed.
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
    """Tables of the worst predictions and of the tokens with the highest total loss.

    Args:
        outputs: loss, whether the prediction is correct, and predicted token, [masked tokens, 3].
        masked_positions: per feature, positions of its masked tokens.
        decode: token ids → text.
    """
    all_features = np.arange(len(features))
    sizes = features.sizes("input_ids", all_features)
    starts = np.cumsum(sizes) - sizes
    ids, rows = features.gather("input_ids", all_features), features.gather("row", all_features)
    masked_ids = [
        ids[start + positions] for start, positions in zip(starts, masked_positions, strict=True)
    ]
    counts = np.asarray([len(positions) for positions in masked_positions])
    losses, hits = outputs[:, :2].astype(np.float64).T
    feature_of_token = np.repeat(all_features, counts)
    total_loss = np.bincount(feature_of_token, losses, len(all_features))
    correct = np.bincount(feature_of_token, hits, len(all_features))

    def make_line(feature: int) -> list[TableCell]:
        row = int(rows[feature])
        tokens = " ".join(decode([token]).strip() for token in masked_ids[feature].tolist())
        return [
            format_row_location(features.rows, row),
            format_row_text(features.rows, row),
            clip_text(tokens, 120),
            int(correct[feature]),
            float(np.exp(total_loss[feature] / counts[feature])),
        ]

    mean_loss = np.where(counts > 0, total_loss / np.maximum(counts, 1), -np.inf)
    yield from example_tables(
        ("row", "text", "masked tokens", "correct", "perplexity"),
        make_line,
        (mean_loss, "Texts with the highest mean loss of their masked tokens."),
        None,
    )
    yield _token_table(np.concatenate(masked_ids), losses, hits, decode)


def _token_table(
    tokens: np.ndarray,
    losses: np.ndarray,
    hits: np.ndarray,
    decode: Callable[[Sequence[int]], str],
) -> TableItem:
    distinct_tokens, token_indices = np.unique(tokens, return_inverse=True)
    counts, total_loss = np.bincount(token_indices), np.bincount(token_indices, losses)
    order = np.argsort(-total_loss, kind="stable")[:MAX_EXAMPLES]
    accuracy = np.bincount(token_indices, hits) / counts
    return TableItem(
        "tokens",
        "Tokens with the highest loss",
        "Tokens with the largest share of the total loss.",
        head=("token", "masked", "accuracy", "mean loss", "share of total loss"),
        rows=[
            [
                clip_text(decode([int(distinct_tokens[index])]).strip(), 40),
                int(counts[index]),
                Percent(accuracy[index]),
                float(total_loss[index] / counts[index]),
                Percent(total_loss[index] / max(total_loss.sum(), 1e-300)),
            ]
            for index in order
        ],
    )
