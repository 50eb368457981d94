"""A model, with all that was trained folded in, as an ONNX graph, and what answers through it."""

from __future__ import annotations

from pathlib import Path

from bertft.assembly.merged_folder import tell_threshold, write_beside
from bertft.assembly.opened import open_asked
from bertft.assembly.warn import warn
from bertft.config.commands import ExportConfig
from bertft.errors import UsageError
from bertft.formats.onnx_graph import FILE, GraphRunner, check_packages, write_graph
from bertft.formats.proof import Proof

__all__ = ["write"]


def write(config: ExportConfig, folder: Path, name: str) -> list[str]:
    """Fill ``folder``, which will be called ``name``; what there is to say of it."""
    check_packages()
    saved, given = open_asked(config, "fp32", warn=warn), str(config.adapter or config.run)
    adapted = saved.adapted
    for part in adapted.parts:
        if not part.foldable:
            raise UsageError(
                f"it has a {part.name}, which no ONNX graph of the encoder holds", where=given,
                hint="Train without one; bertft merge prefix=beside keeps it for bertft itself",
            )  # fmt: skip
    proof = Proof(saved)
    adapted.fold()
    model, tokenizer = adapted.model, adapted.tokenizer
    write_graph(folder, model, tokenizer)
    tell_threshold(model.config, saved.threshold)
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    write_beside(folder, saved.facts.max_length, None, model, saved.answering, saved.facts.task)
    runner = GraphRunner(folder, model.config, adapted.task.level)
    line = proof.write(
        folder, name, saved, what="ONNX graph", where=given, runner=runner, form="onnx"
    )
    size = sum(file.stat().st_size for file in folder.glob(f"{FILE}*"))
    return [f"wrote an ONNX graph of {size / 1e6:,.1f} MB into {config.out}", line]
