"""``bertft merge``: fold every low-rank part into the base, prove it on real rows, write it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from bertft.assembly.check_rows import read_check_rows
from bertft.assembly.disk import writing
from bertft.assembly.features import features_of
from bertft.assembly.merged_folder import write_beside
from bertft.assembly.saved import Saved, open_saved
from bertft.assembly.warn import warn
from bertft.config.commands import MergeConfig
from bertft.errors import MergeRefused, UsageError
from bertft.formats.model_card import CardFacts, MergeCheck, SplitFacts, model_card
from bertft.formats.transformers_folder import license_of, new_folder, write_model
from bertft.models.source import local_folder
from bertft.runs.json_file import read_object
from bertft.tasks.task import Draw
from bertft.training.evaluate import evaluate, predict_logits

__all__ = ["run"]

_TOLERANCE = 1e-4


def run(config: MergeConfig, _: Path) -> None:
    """Raises MergeRefused, and writes nothing, where the folded model would answer otherwise."""
    out = Path(config.out).expanduser()
    with new_folder(out) as folder, writing(out):
        said = _merge(config, folder, out.name)
    for line in said:
        print(line)


def _merge(config: MergeConfig, folder: Path, name: str) -> list[str]:
    """Fill ``folder``, which will be called ``name``; what there is to say of it."""
    saved = open_saved(
        config.run, checkpoint=config.checkpoint, precision="fp32", device=config.device, warn=warn
    )
    if saved.run is None or saved.config is None:
        raise UsageError(
            f"{config.run} is no run: there is nothing to fold", where="run",
            hint="Give a folder that bertft train left",
        )  # fmt: skip
    adapted, counts = saved.adapted, saved.adapted.counts()
    beside = not all(part.foldable for part in adapted.parts)
    if beside and config.prefix == "refuse":
        raise MergeRefused(
            "the run has a prefix, which no weights can hold", where=config.run,
            hint="Add prefix=beside: the rest is folded and the prefix kept beside the model",
        )  # fmt: skip
    rows = read_check_rows(saved.run.check_rows)
    before, metrics_before = _score(saved, rows)
    folded = sum(part.fold(adapted.model) for part in adapted.parts)
    settings = saved.config.method.prefix if beside else None
    write_beside(folder, saved.facts.max_length, settings, adapted.model)
    for module in ("prefix", "prompt"):
        if module in adapted.model._modules:
            delattr(adapted.model, module)
    write_model(folder, adapted.model, adapted.tokenizer, "")
    again = open_saved(str(folder), precision="fp32", device=config.device, data=saved.data)
    after, metrics_after = _score(again, rows)
    difference = float(np.abs(after - before).max())
    largest = float(np.abs(before).max())
    if not difference <= _TOLERANCE * max(1.0, largest):
        raise MergeRefused(
            f"the merged model would answer otherwise: max |Δlogit| = {difference:.2e} on"
            f" {len(rows)} rows, where |logit| is up to {largest:.3g}",
            where=config.run, hint="Nothing was written. This is worth a bug report",
        )  # fmt: skip
    check = MergeCheck(len(rows), difference, metrics_before, metrics_after)
    facts = _card(saved, name, check, counts, beside, "text_pair" in rows.columns)
    (folder / "README.md").write_text(model_card(facts), encoding="utf-8")
    metric = adapted.task.metric
    said = [
        f"folded {folded} layers into {config.out}",
        f"max |Δlogit| {difference:.1e} on {len(rows)} validation rows;"
        f" {metric} there {metrics_before[metric]:.4f} before, {metrics_after[metric]:.4f} after",
    ]
    if beside:
        said.append(
            "the prefix lies beside the model: bertft eval and predict use it, plain transformers"
            " does not"
        )
    return said


def _score(saved: Saved, rows: Any) -> tuple[np.ndarray, dict[str, float]]:
    adapted = saved.adapted
    tables = features_of(
        {"check": rows}, adapted.task, adapted.tokenizer, saved.facts.max_length, None
    )
    task, table = adapted.task, tables["check"]
    draw = Draw(task.config.seed)
    logits = predict_logits(
        adapted.runner, table, adapted.precision,
        prepare=lambda batch: task.drawn(batch, draw), columns=task.label_columns,
    )  # fmt: skip
    return logits, evaluate(adapted.runner, task, table, adapted.precision)


def _card(
    saved: Saved,
    name: str,
    check: MergeCheck,
    counts: Mapping[str, Any],
    beside: bool,
    pair: bool,
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
        beside="prefix.safetensors" if beside else None,
        license=license_of(local_folder(saved.adapted.source)),
        dataset=saved.config.data.hub,
    )
