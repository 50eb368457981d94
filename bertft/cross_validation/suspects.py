"""Labels that are probably wrong, by cleanlab, from probabilities of models without these rows.

    p_i     the probabilities of unit i (a row, or a word of a sentence), averaged over repetitions
    s_i     its score: the probability of its label; for several labels per row cleanlab's mean
    suspect: cleanlab's ``find_label_issues`` with its defaults (prune_by_noise_rate): the units of
    lowest s_i, as many per class as the confident joint estimates to be wrong

Northcutt, Jiang & Chuang 2021, Confident Learning: Estimating Uncertainty in Dataset Labels.
"""

from __future__ import annotations

import csv
import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np

from bertft.cross_validation.files import row_location
from bertft.cross_validation.result import CrossValidation
from bertft.tasks.class_probabilities import ClassProbabilities
from bertft.tasks.report_items import TableCell, TableItem
from bertft.utils.atomic_io import atomic_write_bytes

__all__ = [
    "SUSPECTS_FILE",
    "Suspect",
    "find_suspects",
    "has_cleanlab",
    "suspect_table",
    "write_suspects",
]

SUSPECTS_FILE = "suspects.csv"
_SHOWN = 100  # in the page


@dataclass(frozen=True)
class Suspect:
    """A label that is probably wrong.

    Attributes:
        line: the number of the row (``bertft.data.rows.encode_line``).
        row: its position among all rows.
        word: the word that has the label, in a task with a label per word.
        score: from 0 to 1; a low score is a probably wrong label.
    """

    line: int
    row: int
    word: str
    label: str
    suggestion: str
    score: float


def has_cleanlab() -> bool:
    """Whether the extra ``clean`` is installed."""
    return find_spec("cleanlab") is not None


def find_suspects(result: CrossValidation) -> list[Suspect] | None:
    """The suspect labels, the lowest score first; None for a task without classes.

    Requires cleanlab. Raises ValueError if it cannot judge the labels.
    """
    merged = _merge_repeats(result)
    if merged is None:
        return None
    lines, classes = merged
    rows = np.searchsorted(np.array(result.rows.column("line"), np.int64), lines)
    if classes.sizes is not None:
        search = _of_words
    elif classes.labels.ndim == 2:
        search = _of_label_sets
    else:
        search = _of_classes
    with warnings.catch_warnings():  # about classes with few rows
        warnings.simplefilter("ignore", UserWarning)
        try:
            suspects = search(result, lines, rows, classes)
        except (AssertionError, ArithmeticError, IndexError, TypeError) as error:
            raise ValueError(f"{type(error).__name__}: {error}") from error
    return sorted(suspects, key=lambda suspect: (suspect.score, suspect.line))


def _merge_repeats(result: CrossValidation) -> tuple[np.ndarray, ClassProbabilities] | None:
    """The lines of the predicted rows, ascending, and the mean probabilities of their units."""
    merged = []
    for repeat in range(1, result.repeats + 1):
        outputs = [fold.outputs for fold in result.folds if fold.repeat == repeat]
        parts = [output.classes for output in outputs if output.classes is not None]
        if len(parts) < len(outputs):
            return None
        lines = np.concatenate([output.lines for output in outputs])
        probabilities = np.concatenate([part.probabilities for part in parts])
        labels = np.concatenate([part.labels for part in parts])
        order = np.argsort(lines)
        sizes = None
        if parts[0].sizes is not None:
            sizes = np.concatenate([part.sizes for part in parts if part.sizes is not None])
            starts = np.cumsum(sizes) - sizes
            units = [np.arange(starts[row], starts[row] + sizes[row]) for row in order]
            sizes, order_of_units = sizes[order], np.concatenate(units)
        else:
            order_of_units = order
        classes = ClassProbabilities(probabilities[order_of_units], labels[order_of_units], sizes)
        merged.append((lines[order], classes))
    lines, first = merged[0]
    mean = np.mean([classes.probabilities.astype(np.float64) for _, classes in merged], 0)
    return lines, ClassProbabilities(mean, first.labels, first.sizes)


def _of_classes(
    result: CrossValidation, lines: np.ndarray, rows: np.ndarray, classes: ClassProbabilities
) -> list[Suspect]:
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    names = result.task.class_names or []
    labels, probabilities = classes.labels, classes.probabilities
    mask = find_label_issues(labels, probabilities, n_jobs=1)
    scores = get_label_quality_scores(labels, probabilities)
    best = probabilities.argmax(1)
    return [
        Suspect(
            int(lines[unit]),
            int(rows[unit]),
            "",
            names[labels[unit]],
            names[best[unit]],
            float(scores[unit]),
        )
        for unit in np.flatnonzero(mask)
    ]


def _of_label_sets(
    result: CrossValidation, lines: np.ndarray, rows: np.ndarray, classes: ClassProbabilities
) -> list[Suspect]:
    """The suggestion changes the labels that are suspect alone."""
    from cleanlab.multilabel_classification.filter import find_multilabel_issues_per_class
    from cleanlab.multilabel_classification.rank import get_label_quality_scores

    names, separator = result.task.class_names or [], result.config.data.label_separator
    probabilities = classes.probabilities
    given = [np.flatnonzero(row).tolist() for row in classes.labels]
    per_class = np.asarray(find_multilabel_issues_per_class(given, probabilities, n_jobs=1))
    scores = get_label_quality_scores(given, probabilities)
    suggested = classes.labels ^ per_class

    def join(row: np.ndarray) -> str:
        return separator.join(names[number] for number in np.flatnonzero(row))

    return [
        Suspect(
            int(lines[unit]),
            int(rows[unit]),
            "",
            join(classes.labels[unit]),
            join(suggested[unit]),
            float(scores[unit]),
        )
        for unit in np.flatnonzero(per_class.any(1))
    ]


def _of_words(
    result: CrossValidation, lines: np.ndarray, rows: np.ndarray, classes: ClassProbabilities
) -> list[Suspect]:
    from cleanlab.token_classification.filter import find_label_issues

    assert classes.sizes is not None
    names, ends = result.task.class_names or [], np.cumsum(classes.sizes)
    labels = [part.tolist() for part in np.split(classes.labels, ends[:-1])]
    probabilities = np.split(classes.probabilities, ends[:-1])
    suspects = []
    for sentence, word in find_label_issues(labels, probabilities, n_jobs=1):
        row, label = int(rows[sentence]), labels[sentence][word]
        values = probabilities[sentence][word]
        start, stop = (result.rows.value(name, row)[word] for name in ("starts", "stops"))
        suspects.append(
            Suspect(
                int(lines[sentence]),
                row,
                result.rows.value("text", row)[start:stop],
                names[label],
                names[int(values.argmax())],
                float(values[label]),
            )
        )
    return suspects


def write_suspects(result: CrossValidation, suspects: Sequence[Suspect]) -> None:
    """Write suspects.csv, which data.drop_rows reads: one line per suspect label."""
    fields = _text_fields(result)
    has_words = any(suspect.word for suspect in suspects)
    has_files = bool(result.rows.bad.files)
    text = io.StringIO(newline="")
    table = csv.writer(text)
    words = ["word"] if has_words else []
    table.writerow(
        [*(["file"] if has_files else []), "line", *fields, *words, "label", "suggestion", "score"]
    )
    for suspect in suspects:
        texts = [result.rows.value(name, suspect.row) for name in fields]
        table.writerow(
            [
                *row_location(result, suspect.line).values(),
                *texts,
                *([suspect.word] if has_words else []),
                suspect.label,
                suspect.suggestion,
                f"{suspect.score:.4g}",
            ]
        )
    atomic_write_bytes(result.folder / SUSPECTS_FILE, text.getvalue().encode())


def suspect_table(result: CrossValidation, suspects: Sequence[Suspect]) -> TableItem:
    """The first suspects, for the page."""
    fields = _text_fields(result)
    has_words = any(suspect.word for suspect in suspects)
    rows: list[list[TableCell]] = [
        [
            result.rows.bad.location(suspect.line).rpartition("/")[2],
            " ⏐ ".join(str(result.rows.value(name, suspect.row)) for name in fields),
            *([suspect.word] if has_words else []),
            suspect.label or "none",
            suspect.suggestion or "none",
            suspect.score,
        ]
        for suspect in suspects[:_SHOWN]
    ]
    more = f" The first {_SHOWN} are shown." if len(suspects) > _SHOWN else ""
    return TableItem(
        "suspects",
        "Suspect labels",
        f"cleanlab finds {len(suspects):,} labels that may be wrong; all are in {SUSPECTS_FILE}."
        " Score: the predicted probability of the label (multi_label: cleanlab's mean over the"
        f" labels); the lowest scores are the most suspect.{more} A suspect label can be right:"
        " read the rows before you change them.",
        head=("row", "text", *(["word"] if has_words else []), "label", "suggestion", "score"),
        rows=rows,
        kinds=("word", "text", *(["word"] if has_words else []), "word", "word", "number"),
    )


def _text_fields(result: CrossValidation) -> list[str]:
    return [name for name in ("text", "text_pair") if name in result.rows.columns]
