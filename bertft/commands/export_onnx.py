"""A model, with all that was trained folded in, as an ONNX graph, and what answers through it."""

from __future__ import annotations

from pathlib import Path

from bertft.assembly.merged_folder import tell_threshold, write_beside
from bertft.assembly.saved import open_asked
from bertft.assembly.scores import check_rows, compared, difference, score
from bertft.assembly.warn import warn
from bertft.config.commands import ExportConfig
from bertft.errors import UsageError
from bertft.formats.card_of_saved import card_facts
from bertft.formats.model_card import MergeCheck, model_card
from bertft.formats.onnx_graph import FILE, GraphRunner, check_packages, write_graph

__all__ = ["write"]


def write(config: ExportConfig, folder: Path, name: str) -> list[str]:
    """Fill ``folder``, which will be called ``name``; what there is to say of it."""
    check_packages()
    saved, given = open_asked(config, "fp32", warn=warn), str(config.adapter or config.run)
    adapted, counts = saved.adapted, saved.adapted.counts()
    for part in adapted.parts:
        if not part.foldable:
            raise UsageError(
                f"it has a {part.name}, which no ONNX graph of the encoder holds", where=given,
                hint="Train without one; bertft merge prefix=beside keeps it for bertft itself",
            )  # fmt: skip
    rows, kind = check_rows(saved)
    before, metrics_before = score(saved, rows)
    adapted.fold()
    model, tokenizer = adapted.model, adapted.tokenizer
    write_graph(folder, model, tokenizer)
    tell_threshold(model.config, saved.threshold)
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    write_beside(folder, saved.facts.max_length, None, model, saved.answering)
    after, metrics_after = score(saved, rows, GraphRunner(folder, model.config, adapted.task.level))
    change = difference(before, after, "ONNX graph", given)
    check = MergeCheck(len(rows), change, metrics_before, metrics_after, kind)
    pair = saved.run is not None and "text_pair" in rows.columns
    facts = card_facts(saved, name, check, counts, pair=pair, form="onnx")
    (folder / "README.md").write_text(model_card(facts), encoding="utf-8")
    size = sum(file.stat().st_size for file in folder.glob(f"{FILE}*"))
    return [
        f"wrote an ONNX graph of {size / 1e6:,.1f} MB into {config.out}",
        f"max |Δlogit| {change:.1e} on {len(rows)} {kind}"
        f"{compared(adapted.task.metric, metrics_before, metrics_after)}",
    ]
