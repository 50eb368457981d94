"""The labelled rows of a split, as a saved model's run or an eval's ``data`` names them."""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import nullcontext

from bertft.assembly.manifest import read_manifest, recorded_data
from bertft.assembly.recorded_rows import check_recorded, only_recorded
from bertft.assembly.saved import Saved
from bertft.data.classes import mapping_note
from bertft.data.rows import Rows
from bertft.data.sources import load
from bertft.errors import UsageError

__all__ = ["split_rows"]


def split_rows(
    saved: Saved,
    split: str,
    report: Callable[[str], None] | None = None,
    typed: Collection[str] = (),
) -> Rows:
    """The rows of ``split``; their labels are classes of the model, by name.

    ``report`` gets what is worth knowing about them. ``typed``: the settings of the command line,
    which alone can name other rows than the run recorded, or have them fetched. UsageError if there
    are none, or none with labels; DataError where recorded rows changed.
    """
    if saved.unnamed_tags:
        raise UsageError(
            saved.unnamed_tags, where="data.labels",
            hint="Name them in the order of the outputs: data.labels=[O,B-PER,I-PER,...]",
        )  # fmt: skip
    # Of a run's training rows, those that validation was cut from are not part.
    need = ("train", "validation") if split == "train" and saved.run is not None else (split,)
    data, manifest = saved.data, None
    if saved.run is not None and "data" not in typed:
        manifest = read_manifest(saved.run)
        data = recorded_data(data, manifest, typed)

    def prove() -> None:
        assert saved.config is not None and manifest is not None
        own = recorded_data(saved.config.data, manifest)
        found = load(own, need, model_classes=saved.adapted.task.labels, cached_only=True)
        check_recorded(found, manifest, own)

    with only_recorded(data, typed, prove) if manifest is not None else nullcontext():
        splits = load(
            data, need, model_classes=saved.adapted.task.labels,
            cached_only=manifest is not None and "data.hub" not in typed,
        )  # fmt: skip
    if manifest is not None:
        check_recorded(splits, manifest, data, typed)
    for note in [*splits.form.notes(), mapping_note(splits.form.mapping)]:
        if report is not None and note:
            report(note)
    rows = dict(splits.items()).get(split)
    if rows is None or (saved.adapted.task.supervised and not rows.labelled):
        raise UsageError(
            f"there is no {split} split" if rows is None else f"the {split} split has no labels",
            where="split", hint=f"Give data.{split}=<file> with labels, or another split",
        )  # fmt: skip
    return rows
