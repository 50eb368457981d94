"""``bertft export``: write a run's low-rank updates as an adapter that peft loads, and prove it."""

from __future__ import annotations

from pathlib import Path

from bertft.assembly.adapter import write_adapter
from bertft.assembly.check_rows import read_check_rows
from bertft.assembly.disk import writing
from bertft.assembly.saved import open_saved
from bertft.assembly.scores import difference, score
from bertft.assembly.warn import warn
from bertft.config.commands import ExportConfig
from bertft.errors import UsageError
from bertft.formats.card_of_run import card_facts
from bertft.formats.model_card import MergeCheck, model_card
from bertft.formats.transformers_folder import new_folder

__all__ = ["run"]


def run(config: ExportConfig, _: Path) -> None:
    """Raises MergeRefused, and writes nothing, where the adapter would answer otherwise."""
    out = Path(config.out).expanduser()
    with new_folder(out) as folder, writing(out):
        said = _export(config, folder, out.name)
    print(said)


def _export(config: ExportConfig, folder: Path, name: str) -> str:
    saved = open_saved(
        config.run, checkpoint=config.checkpoint, precision="fp32", device=config.device, warn=warn
    )
    if saved.run is None:
        raise UsageError(
            f"{config.run} is no run", where="run", hint="Give a folder that bertft train left"
        )
    adapted = saved.adapted
    rows = read_check_rows(saved.run.check_rows)
    before, metrics_before = score(saved, rows)
    adapted.fold_temperature()
    threshold = (saved.calibration or {}).get("threshold")
    tensors = write_adapter(folder, adapted, saved.facts.max_length, saved.facts.labels, threshold)
    adapted.tokenizer.save_pretrained(folder)
    again = open_saved(str(folder), precision="fp32", device=config.device)
    after, metrics_after = score(again, rows)
    change = difference(before, after, "adapter", config.run)
    check = MergeCheck(len(rows), change, metrics_before, metrics_after)
    facts = card_facts(
        saved, name, check, adapted.counts(), pair="text_pair" in rows.columns, form="peft"
    )
    (folder / "README.md").write_text(model_card(facts), encoding="utf-8")
    layers = sum(each.endswith("lora_A.weight") for each in tensors)
    return (
        f"wrote the updates of {layers} layers as a peft adapter into {config.out}\n"
        f"max |Δlogit| {change:.1e} on {len(rows)} validation rows"
    )
