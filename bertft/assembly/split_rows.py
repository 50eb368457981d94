"""The labelled rows of a split, as a saved model's run or an eval's ``data`` names them."""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import nullcontext

from bertft.assembly.manifest import read_manifest, recorded_data
from bertft.assembly.recorded_rows import check_recorded_rows, only_recorded
from bertft.assembly.saved import LoadedModel
from bertft.data.classes import format_mapping_note
from bertft.data.rows import Rows
from bertft.data.sources import load_splits
from bertft.errors import UsageError

__all__ = ["load_split"]


def load_split(
    loaded: LoadedModel,
    split: str,
    log: Callable[[str], None] | None = None,
    cli_settings: Collection[str] = (),
) -> Rows:
    """The rows of ``split``; their labels are classes of the model, by name.

    ``log`` gets what is worth knowing about them. ``cli_settings``: the settings of the command line,
    which alone can name other rows than the run recorded, or have them fetched. UsageError if there
    are none, or none with labels; DataError where recorded rows changed.
    """
    if loaded.unnamed_tags:
        raise UsageError(
            loaded.unnamed_tags, where="data.labels",
            hint="Name them in the order of the outputs: data.labels=[O,B-PER,I-PER,...]",
        )  # fmt: skip
    # Of a run's training rows, those that validation was cut from are not part.
    needed_splits = ("train", "validation") if split == "train" and loaded.run is not None else (split,)
    data, manifest = loaded.data, None
    if loaded.run is not None and "data" not in cli_settings:
        manifest = read_manifest(loaded.run)
        data = recorded_data(data, manifest, cli_settings)

    def prove() -> None:
        assert loaded.config is not None and manifest is not None
        own = recorded_data(loaded.config.data, manifest)
        found = load_splits(own, needed_splits, model_classes=loaded.task_model.task.class_names, cached_only=True)
        check_recorded_rows(found, manifest, own)

    with only_recorded(data, cli_settings, prove) if manifest is not None else nullcontext():
        splits = load_splits(
            data, needed_splits, model_classes=loaded.task_model.task.class_names,
            cached_only=manifest is not None and "data.hub" not in cli_settings,
        )  # fmt: skip
    if manifest is not None:
        check_recorded_rows(splits, manifest, data, cli_settings)
    for note in [*splits.schema.notes(), format_mapping_note(splits.schema.label_mapping)]:
        if log is not None and note:
            log(note)
    rows = dict(splits.items()).get(split)
    if rows is None or (loaded.task_model.task.needs_labels and not rows.has_labels):
        raise UsageError(
            f"there is no {split} split" if rows is None else f"the {split} split has no labels",
            where="split", hint=f"Give data.{split}=<file> with labels, or another split",
        )  # fmt: skip
    return rows
