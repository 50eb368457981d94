"""Collects the facts of a model card from a run's manifest, its metrics and the merge check.

For a model that does not come from a run, only the task, the base model and the check are known.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import bertft
from bertft.config.command_configs import TrainConfig
from bertft.config.dataset_title import dataset_title
from bertft.config.method_components.low_rank import KINDS
from bertft.config.task_facts import join_words
from bertft.export.model_card import CardFacts, MergeCheck, SoupFacts, SplitFacts
from bertft.export.transformers_folder import read_license
from bertft.models.source import local_model_folder
from bertft.pipeline.adapter_folder import CONFIG_FILE
from bertft.pipeline.loaded_model import LoadedModel
from bertft.pipeline.manifest import package_versions
from bertft.runs.manifest import read_manifest
from bertft.runs.metrics_json import read_metrics_json
from bertft.utils.safe_files import read_json_object

__all__ = ["collect_card_facts", "used_method_settings"]

_PRUNING_SETTINGS = {"begin", "end", "interval", "beta1", "beta2"}  # of low_rank with adapt=true


def collect_card_facts(
    loaded: LoadedModel,
    name: str,
    check: MergeCheck,
    counts: Mapping[str, Any],
    *,
    pair: bool,
    library: str = "transformers",
    prefix_file: str | None = None,
    soup: SoupFacts | None = None,
) -> CardFacts:
    """The facts of ``loaded`` for the card in its new folder.

    Args:
        loaded: The model before export.
        name: Name of the new folder.
        check: Comparison of the logits before and after.
        counts: Parameter counts before folding. Those in metrics.json replace them for the best
            checkpoint of a finished run.
        pair: Whether the input is a pair of texts.
        library: The library that loads the new folder: "transformers", "peft" or "onnx".
        prefix_file: File or folder of the prefix, if it is not part of the model.
        soup: What was averaged, if the model is the average of several runs and ``loaded`` is based
            on the first one; its results and settings are then left out.
    """
    if loaded.run is None or loaded.config is None:
        return _facts_of_folder(loaded, name, check, counts, library)
    manifest = read_manifest(loaded.run)
    metrics: Mapping[str, Any] = (
        read_metrics_json(loaded.run.metrics_path) if loaded.run.is_finished else {}
    )
    is_best = soup is None and (metrics.get("best") or {}).get("step") == loaded.info.step
    method = used_method_settings(loaded.config)
    splits = {
        name: SplitFacts(
            Path(split["source"]).name if split["files"] else split["source"],
            split["rows"],
            split["fingerprint"],
        )
        for name, split in manifest["data"]["splits"].items()
        if soup is None or name in soup.splits
    }
    return CardFacts(
        name=name,
        task=loaded.info.task,
        auto_class=loaded.task_model.task.auto_class,
        base_model=loaded.task_model.source.hub_id or manifest["base"]["name"],
        method=method.pop("name") if soup is None else join_words(soup.methods),
        settings=method if soup is None else {},
        splits=splits,
        metric=loaded.task_model.task.metric,
        step=loaded.info.step if soup is None else None,
        validation=(metrics.get("validation") or {}) if is_best else {},
        counts=_card_counts(metrics["parameters"] if is_best else counts, soup),
        versions={"bertft": manifest["bertft"], **manifest["packages"]},
        labels=loaded.info.labels,
        pair=pair,
        max_length=loaded.info.max_length,
        test=metrics.get("test") if is_best else None,
        merge=check,
        library=library,
        prefix_file=prefix_file,
        license=read_license(local_model_folder(loaded.task_model.source)),
        dataset=loaded.config.data.hub,
        data_title=dataset_title(loaded.config.data),
        distillation=metrics.get("distillation") if is_best else None,
        calibration=loaded.calibration,
        soup=soup,
    )


def _card_counts(counts: Mapping[str, Any], soup: SoupFacts | None) -> Mapping[str, Any]:
    """An average has the size of the base; what its runs trained can differ."""
    return counts if soup is None else {"total": counts["total"]}


def used_method_settings(config: TrainConfig) -> dict[str, Any]:
    """The settings of the method that had an effect, without null: name, then groups.

    Left out are the settings of other kinds of a component, and the method's length and warm-up if
    ``trainer`` sets them.
    """
    settings = {key: value for key, value in asdict(config.method).items() if value is not None}
    trainer = config.trainer
    if trainer.epochs is not None or trainer.max_steps is not None:
        settings.pop("epochs")
    if trainer.warmup is not None:
        settings.pop("warmup")
    if low_rank := settings.get("low_rank"):
        used = KINDS[low_rank["kind"]].settings
        unused = {name for kind in KINDS.values() for name in kind.settings} - {*used}
        if not low_rank["adapt"]:
            unused |= _PRUNING_SETTINGS
        settings["low_rank"] = _without(low_rank, unused)
    if (prefix := settings.get("prefix")) and not prefix["mlp"]:
        settings["prefix"] = _without(prefix, {"mlp_hidden"})
    return settings


def _without(settings: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name not in names}


def _adapter_method(folder: Path) -> str:
    """The kind of an adapter in peft's format: "lora", "ia3" or "vera"."""
    return str(read_json_object(folder / CONFIG_FILE)["peft_type"]).lower()


def _facts_of_folder(
    loaded: LoadedModel, name: str, check: MergeCheck, counts: Mapping[str, Any], library: str
) -> CardFacts:
    task_model = loaded.task_model
    return CardFacts(
        name=name,
        task=loaded.info.task,
        auto_class=task_model.task.auto_class,
        base_model=task_model.source.hub_id or task_model.source.name,
        method=_adapter_method(loaded.folder) if loaded.is_adapter else "",
        settings={},
        splits={},
        metric=task_model.task.metric,
        step=None,
        validation={},
        counts={name: counts[name] for name in ("total", "method") if counts[name]},
        versions={"bertft": bertft.__version__, **package_versions()},
        labels=loaded.info.labels,
        max_length=loaded.info.max_length,
        merge=check,
        library=library,
        license=read_license(local_model_folder(task_model.source)),
        threshold=loaded.threshold,
        origin=loaded.folder.name,
    )
