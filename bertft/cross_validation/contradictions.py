"""Rows with the same text, or nearly, and different labels: at least one label is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bertft.data.near_duplicates import find_near_duplicates
from bertft.data.row_findings import TextColumns, label_values
from bertft.data.rows import Rows
from bertft.tasks.report_items import TableCell, TableItem

__all__ = ["Contradiction", "contradiction_table", "find_contradictions"]

_MAX_ROWS = 20_000  # rows whose near-duplicates are searched
_SHOWN = 50


@dataclass(frozen=True)
class Contradiction:
    """Two rows by number; ``is_exact``: their texts are equal except for case and spaces."""

    first: int
    second: int
    is_exact: bool


def find_contradictions(
    rows: Rows, text_fields: Sequence[str], with_near: bool = True
) -> list[Contradiction]:
    """Pairs of rows with different labels: exact duplicates, then near-duplicates.

    ``with_near=False`` is for labels that are parts of the text, such as entities and answers:
    nearly the same text has other ones.

    A row is paired with the first earlier row whose text is equal and whose label differs, and
    with one near-duplicate. In a file of more than 20,000 rows, near-duplicates of an even sample
    of the rows are searched. Empty for rows without a text or a label.
    """
    texts = TextColumns(rows, text_fields)
    if not texts.names or "label" not in rows.columns:
        return []
    labels, gap = label_values(rows.arrow_column("label"))
    rows_by_hash: dict[int, list[int]] = {}
    exact = []
    for row, text_hash in enumerate(texts.hashes.tolist()):
        earlier = rows_by_hash.setdefault(text_hash, [])
        other = next((one for one in earlier if abs(labels[one] - labels[row]) > gap), None)
        if other is not None:
            exact.append(Contradiction(other, row, True))
        if other is None or len(earlier) < 2:
            earlier.append(row)
    return exact + (_near(texts, labels, gap) if with_near else [])


def _near(texts: TextColumns, labels: np.ndarray, gap: float) -> list[Contradiction]:
    step = -(-len(labels) // _MAX_ROWS) or 1
    hashes = texts.hashes
    all_texts = (row for chunk in texts.iter_chunks() for row in chunk)
    queries = [row for number, row in enumerate(all_texts) if number % step == 0]

    def is_candidate(query: int, reference: int) -> bool:
        row = query * step
        is_earlier = row < reference or reference % step != 0  # each pair of queries once
        differs = abs(labels[row] - labels[reference]) > gap
        return bool(is_earlier and differs and hashes[row] != hashes[reference])

    found = find_near_duplicates(queries, texts.iter_chunks(), is_candidate)
    return [
        Contradiction(min(query * step, reference), max(query * step, reference), False)
        for query, (reference, _) in sorted(found.items())
    ]


def contradiction_table(rows: Rows, found: Sequence[Contradiction]) -> TableItem:
    """The first contradictions, for the page."""
    exact = sum(pair.is_exact for pair in found)
    texts = TextColumns(rows, ("text", "text_pair"))
    cells: list[list[TableCell]] = []
    for pair in found[:_SHOWN]:
        cells.append(["exact" if pair.is_exact else "near"])
        for row in (pair.first, pair.second):
            label = rows.value("label", row)
            label = ", ".join(label) if isinstance(label, list) else str(label)
            cells[-1] += [texts.quote(row), label or "none"]
    more = f" The first {_SHOWN} are shown." if len(found) > _SHOWN else ""
    return TableItem(
        "contradictions",
        "Duplicates with different labels",
        f"Pairs with the same text except for case and spaces: {exact:,}. With nearly the same"
        f" text: {len(found) - exact:,}.{more}",
        head=("texts", "row", "label", "row", "label"),
        rows=cells,
        kinds=("word", "text", "word", "text", "word"),
    )
