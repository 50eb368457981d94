"""A run's low-rank updates as an adapter that peft loads."""

from __future__ import annotations

from pathlib import Path

from bertft.assembly.adapter_written import write_adapter
from bertft.assembly.saved import open_asked, open_saved
from bertft.assembly.scores import check_rows, difference, score
from bertft.assembly.warn import warn
from bertft.config.commands import ExportConfig
from bertft.errors import UsageError
from bertft.formats.card_of_saved import card_facts
from bertft.formats.model_card import MergeCheck, model_card

__all__ = ["write"]


def write(config: ExportConfig, folder: Path, name: str) -> list[str]:
    """Fill ``folder``, which will be called ``name``; what there is to say of it."""
    saved = open_asked(config, "fp32", warn=warn)
    if saved.run is None:
        raise UsageError(
            f"{config.run} is no run", where="run",
            hint="Give a folder that bertft train left; format=onnx takes others too",
        )  # fmt: skip
    adapted = saved.adapted
    rows, kind = check_rows(saved)
    before, metrics_before = score(saved, rows)
    adapted.fold_temperature()
    tensors = write_adapter(folder, saved)
    adapted.tokenizer.save_pretrained(folder)
    again = open_saved(str(folder), precision="fp32", device=config.device)
    after, metrics_after = score(again, rows)
    change = difference(before, after, "adapter", str(config.run))
    check = MergeCheck(len(rows), change, metrics_before, metrics_after)
    facts = card_facts(
        saved, name, check, adapted.counts(), pair="text_pair" in rows.columns, form="peft"
    )
    (folder / "README.md").write_text(model_card(facts), encoding="utf-8")
    layers = sum(each.endswith("lora_A.weight") for each in tensors)
    return [
        f"wrote the updates of {layers} layers as a peft adapter into {config.out}",
        f"max |Δlogit| {change:.1e} on {len(rows)} {kind}",
    ]
