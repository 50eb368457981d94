"""The facts of a model card, from a run's manifest, its metrics and the check of the merge.

For a model that does not come from a run, only its task, its base and the check are known.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import bertft
from bertft.export.model_card import CardFacts, MergeCheck, SplitFacts
from bertft.export.transformers_folder import read_license
from bertft.models.source import local_model_folder
from bertft.pipeline.loaded_model import LoadedModel
from bertft.pipeline.manifest import read_manifest
from bertft.runs.metrics_json import read_metrics_json

__all__ = ["collect_card_facts"]


def collect_card_facts(
    loaded: LoadedModel,
    name: str,
    check: MergeCheck,
    counts: Mapping[str, Any],
    *,
    pair: bool,
    library: str = "transformers",
    prefix_file: str | None = None,
) -> CardFacts:
    """The facts of ``loaded`` under the name of its new folder.

    ``counts`` are the parameter counts before folding. For the best checkpoint of a finished run,
    those of its metrics.json are used instead.
    """
    if loaded.run is None or loaded.config is None:
        return _facts_of_folder(loaded, name, check, counts, library)
    manifest = read_manifest(loaded.run)
    metrics: Mapping[str, Any] = (
        read_metrics_json(loaded.run.metrics_path) if loaded.run.is_finished else {}
    )
    is_best = (metrics.get("best") or {}).get("step") == loaded.info.step
    method = {key: each for key, each in asdict(loaded.config.method).items() if each is not None}
    splits = {
        split: SplitFacts(
            Path(each["source"]).name if each["files"] else each["source"],
            each["rows"],
            each["fingerprint"],
        )
        for split, each in manifest["data"]["splits"].items()
    }
    return CardFacts(
        name=name,
        task=loaded.info.task,
        auto_class=loaded.task_model.task.auto_class,
        base_model=manifest["base"]["name"],
        method=method.pop("name"),
        settings=method,
        splits=splits,
        metric=loaded.task_model.task.metric,
        step=loaded.info.step,
        validation=(metrics.get("validation") or {}) if is_best else {},
        counts=metrics["parameters"] if is_best else counts,
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
        distillation=metrics.get("distillation") if is_best else None,
        calibration=loaded.calibration,
    )


def _facts_of_folder(
    loaded: LoadedModel, name: str, check: MergeCheck, counts: Mapping[str, Any], library: str
) -> CardFacts:
    task_model = loaded.task_model
    return CardFacts(
        name=name,
        task=loaded.info.task,
        auto_class=task_model.task.auto_class,
        base_model=task_model.source.name,
        method="lora" if loaded.is_adapter else "",
        settings={},
        splits={},
        metric=task_model.task.metric,
        step=None,
        validation={},
        counts={each: counts[each] for each in ("total", "method") if counts[each]},
        versions={
            "bertft": bertft.__version__,
            **{name: metadata.version(name) for name in ("torch", "transformers")},
        },
        labels=loaded.info.labels,
        max_length=loaded.info.max_length,
        merge=check,
        library=library,
        license=read_license(local_model_folder(task_model.source)),
        threshold=loaded.threshold,
        origin=loaded.folder.name,
    )
