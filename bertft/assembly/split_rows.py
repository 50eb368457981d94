"""The labelled rows of a split, as a saved model's run or an eval's ``data`` names them."""

from __future__ import annotations

from collections.abc import Callable

from bertft.assembly.saved import Saved
from bertft.data.classes import mapping_note
from bertft.data.rows import Rows
from bertft.data.sources import load
from bertft.errors import UsageError

__all__ = ["recorded_fingerprint", "split_rows"]


def split_rows(saved: Saved, split: str, report: Callable[[str], None] | None = None) -> Rows:
    """The rows of ``split``; their labels are classes of the model, by name.

    ``report`` gets what is worth knowing about them. UsageError if there are none, or none with
    labels.
    """
    # Of a run's training rows, those that validation was cut from are not part.
    need = ("train", "validation") if split == "train" and saved.run is not None else (split,)
    splits = load(saved.data, need, model_classes=saved.adapted.task.labels)
    rows = dict(splits.items()).get(split)
    for note in [*splits.form.notes(), mapping_note(splits.form.mapping)]:
        if report is not None and note:
            report(note)
    if rows is None or (saved.adapted.task.supervised and not rows.labelled):
        raise UsageError(
            f"there is no {split} split" if rows is None else f"the {split} split has no labels",
            where="split", hint=f"Give data.{split}=<file> with labels, or another split",
        )  # fmt: skip
    return rows


def recorded_fingerprint(saved: Saved, split: str) -> str | None:
    """Which rows the run recorded as those of ``split``, if it knew any."""
    assert saved.run is not None
    told = saved.run.read_manifest()["data"]["splits"].get(split)
    return None if told is None else str(told["fingerprint"])
