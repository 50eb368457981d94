"""Report items of token classification: scores per type, confused types, example sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from bertft.data.rows import Rows
from bertft.tasks.report_items import ReportItem, TableCell, TableItem, clip_text
from bertft.tasks.shared.metrics import confusion_matrix
from bertft.tasks.shared.report import confusion_item, example_tables, format_row_location
from bertft.tasks.token_classification.metrics import EntityCounts, entity_types
from bertft.tasks.token_classification.tag_schemes import OUTSIDE, Tag, extract_entities

__all__ = ["TagPredictions", "format_entities", "tag_report_items"]


@dataclass(frozen=True)
class TagPredictions:
    """Predictions for sentences, whose words are concatenated."""

    tags: Sequence[Tag]  # [C], of the classes
    sentence_rows: Sequence[int]  # [S], the row of each sentence
    sizes: np.ndarray  # [S], words per sentence
    targets: np.ndarray  # [words], the true classes
    probabilities: np.ndarray  # [words, C]


def format_entities(entities: Sequence[tuple[str, int, int]], rows: Rows, row: int) -> str:
    """``entities`` (type, first and last word) of a row with their texts, or "none"."""
    text, starts, stops = (rows.value(name, row) for name in ("text", "starts", "stops"))
    return (
        ", ".join(f"{kind}: {text[starts[first] : stops[last]]}" for kind, first, last in entities)
        or "none"
    )


def tag_report_items(predictions: TagPredictions, rows: Rows) -> Iterator[ReportItem]:
    """Scores per entity type, the confusion matrix of words, example sentences."""
    tags, targets = predictions.tags, predictions.targets
    predicted, confidence = predictions.probabilities.argmax(1), predictions.probabilities.max(1)
    stops = np.cumsum(predictions.sizes)
    starts = stops - predictions.sizes
    sentences = [
        slice(start, stop) for start, stop in zip(starts.tolist(), stops.tolist(), strict=True)
    ]
    entities_by_sentence = [
        [
            extract_entities([tags[class_index] for class_index in classes[words].tolist()])
            for classes in (targets, predicted)
        ]
        for words in sentences
    ]
    counts = EntityCounts()
    for gold_entities, predicted_entities in entities_by_sentence:
        counts.add(gold_entities, predicted_entities)
    sorted_types = entity_types(tags)
    yield TableItem(
        "entities",
        "Scores per entity type",
        "Whole entities, counted as conlleval does.",
        head=("type", "precision", "recall", "F1", "true", "predicted"),
        rows=[
            *(
                (kind, *counts.scores(kind), counts.gold[kind], counts.predicted[kind])
                for kind in sorted_types
            ),
            ("all", *counts.scores(), counts.gold.total(), counts.predicted.total()),
        ],
        strong=(len(sorted_types),),
    )
    names = [*sorted_types, OUTSIDE]
    type_of_class = np.array([names.index(kind or OUTSIDE) for _, kind in tags])
    yield confusion_item(
        confusion_matrix(type_of_class[targets], type_of_class[predicted], len(names)),
        names,
        "words",
    )

    def make_line(sentence: int) -> list[TableCell]:
        row = int(predictions.sentence_rows[sentence])
        entity_texts = [
            clip_text(format_entities(entities, rows, row))
            for entities in entities_by_sentence[sentence]
        ]
        text = clip_text(rows.value("text", row))
        return [format_row_location(rows, row), text, *entity_texts]

    error_confidence = np.where(targets == predicted, 0.0, confidence)
    yield from example_tables(
        ("row", "sentence", "true entities", "predicted entities"),
        make_line,
        (
            np.array([error_confidence[words].sum() or -np.inf for words in sentences]),
            "Sentences with the most wrong words, weighted by the confidence of the predictions.",
        ),
        (
            np.array([-confidence[words].min() for words in sentences]),
            "Sentences with the words of the lowest confidence.",
        ),
    )
