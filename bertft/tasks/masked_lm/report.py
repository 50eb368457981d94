"""What the report shows of guesses at hidden tokens: the hardest features, the costliest tokens.

    perplexity of a feature = exp(mean loss at its hidden places)

A token's total loss says what the encoder has still to learn of a domain: rare words that are
never guessed and frequent ones that are often missed weigh alike.
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
    """``outputs`` [K, 3]: loss, hit, guess; ``masked_positions``: of each feature those hidden, K
    in all.
    """
    all_features = np.arange(len(features))
    sizes = features.sizes("input_ids", all_features)
    starts = np.cumsum(sizes) - sizes
    ids, numbers = features.gather("input_ids", all_features), features.gather("row", all_features)
    hidden = [
        ids[start + positions] for start, positions in zip(starts, masked_positions, strict=True)
    ]
    counts = np.asarray([len(own) for own in masked_positions])
    loss, hits = outputs[:, :2].astype(np.float64).T
    owner = np.repeat(all_features, counts)
    total = np.bincount(owner, loss, len(all_features))
    correct = np.bincount(owner, hits, len(all_features))

    def line(place: int) -> list[TableCell]:
        row = int(numbers[place])
        words = " ".join(decode([token]).strip() for token in hidden[place].tolist())
        return [
            format_row_location(features.rows, row),
            format_row_text(features.rows, row),
            clip_text(words, 120),
            int(correct[place]),
            float(np.exp(total[place] / counts[place])),
        ]

    mean = np.where(counts > 0, total / np.maximum(counts, 1), -np.inf)
    yield from example_tables(
        ("row", "text", "hidden", "guessed", "perplexity"),
        line,
        (mean, "The hidden tokens, of which so many were guessed."),
        None,
    )
    yield _token_table(np.concatenate(hidden), loss, hits, decode)


def _token_table(
    tokens: np.ndarray, loss: np.ndarray, hits: np.ndarray, decode: Callable[[Sequence[int]], str]
) -> TableItem:
    distinct_tokens, token_numbers = np.unique(tokens, return_inverse=True)
    times, total = np.bincount(token_numbers), np.bincount(token_numbers, loss)
    order = np.argsort(-total, kind="stable")[:MAX_EXAMPLES]
    shares = np.bincount(token_numbers, hits) / times
    return TableItem(
        "tokens",
        "Costliest tokens",
        "Those with the greatest share of the whole loss.",
        head=("token", "hidden", "guessed", "mean loss", "of the loss"),
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
