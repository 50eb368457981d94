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
from bertft.assembly.manifest import read_manifest
from bertft.assembly.saved import Saved
from bertft.formats.model_card import CardFacts, MergeCheck, SplitFacts
from bertft.formats.transformers_folder import license_of
from bertft.models.source import local_folder
from bertft.runs.result import read_result

__all__ = ["card_facts"]


def card_facts(
    saved: Saved,
    name: str,
    check: MergeCheck,
    counts: Mapping[str, Any],
    *,
    pair: bool,
    form: str = "transformers",
    beside: str | None = None,
) -> CardFacts:
    """The facts of ``saved`` under the name of its new folder.

    ``counts`` are the parameter counts before folding. For the best checkpoint of a finished run,
    those of its metrics.json are used instead.
    """
    if saved.run is None or saved.config is None:
        return _of_folder(saved, name, check, counts, form)
    manifest = read_manifest(saved.run)
    metrics: Mapping[str, Any] = read_result(saved.run.metrics) if saved.run.finished else {}
    best = (metrics.get("best") or {}).get("step") == saved.facts.step
    method = {key: each for key, each in asdict(saved.config.method).items() if each is not None}
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
        task=saved.facts.task,
        auto_class=saved.adapted.task.auto_class,
        base_model=manifest["base"]["name"],
        method=method.pop("name"),
        settings=method,
        splits=splits,
        metric=saved.adapted.task.metric,
        step=saved.facts.step,
        validation=(metrics.get("validation") or {}) if best else {},
        counts=metrics["parameters"] if best else counts,
        versions={"bertft": manifest["bertft"], **manifest["packages"]},
        labels=saved.facts.labels,
        pair=pair,
        max_length=saved.facts.max_length,
        test=metrics.get("test") if best else None,
        merge=check,
        form=form,
        beside=beside,
        license=license_of(local_folder(saved.adapted.source)),
        dataset=saved.config.data.hub,
        distillation=metrics.get("distillation") if best else None,
        calibration=saved.calibration,
    )


def _of_folder(
    saved: Saved, name: str, check: MergeCheck, counts: Mapping[str, Any], form: str
) -> CardFacts:
    adapted = saved.adapted
    return CardFacts(
        name=name,
        task=saved.facts.task,
        auto_class=adapted.task.auto_class,
        base_model=adapted.source.name,
        method="lora" if saved.adapter else "",
        settings={},
        splits={},
        metric=adapted.task.metric,
        step=None,
        validation={},
        counts={each: counts[each] for each in ("total", "method") if counts[each]},
        versions={
            "bertft": bertft.__version__,
            **{name: metadata.version(name) for name in ("torch", "transformers")},
        },
        labels=saved.facts.labels,
        max_length=saved.facts.max_length,
        merge=check,
        form=form,
        license=license_of(local_folder(adapted.source)),
        threshold=saved.threshold,
        origin=saved.folder.name,
    )
