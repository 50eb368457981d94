"""What a card tells of a run: gathered from its manifest, its metrics and what was checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bertft.assembly.saved import Saved
from bertft.formats.model_card import CardFacts, MergeCheck, SplitFacts
from bertft.formats.transformers_folder import license_of
from bertft.models.source import local_folder
from bertft.runs.json_file import read_object

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
    """``counts`` are those before folding; a finished run has its own of the best checkpoint."""
    assert saved.run is not None and saved.config is not None
    manifest = saved.run.read_manifest()
    metrics: Mapping[str, Any] = read_object(saved.run.metrics) if saved.run.finished else {}
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
