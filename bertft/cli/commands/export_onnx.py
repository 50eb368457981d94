"""A model, with all that was trained folded in, as an ONNX graph, and what answers through it."""

from __future__ import annotations

from pathlib import Path

from bertft.config.command_configs import ExportConfig
from bertft.errors import UsageError
from bertft.export.equivalence import EquivalenceCheck
from bertft.export.onnx_graph import ONNX_FILE, OnnxRunner, check_onnx_packages, write_onnx_graph
from bertft.pipeline.merged_folder import store_threshold, write_merged_info
from bertft.pipeline.open_model import open_from_settings
from bertft.utils.terminal import print_warning

__all__ = ["write"]


def write(config: ExportConfig, folder: Path, name: str) -> list[str]:
    """Fill ``folder``, which will be called ``name``; what there is to say of it."""
    check_onnx_packages()
    saved, source = (
        open_from_settings(config, "fp32", warn=print_warning),
        str(config.adapter or config.run),
    )
    adapted = saved.task_model
    for component in adapted.components:
        if not component.foldable:
            raise UsageError(
                f"it has a {component.name}, which no ONNX graph of the encoder holds",
                where=source,
                hint="Train without one; bertft merge prefix=separate keeps it for bertft itself",
            )
    proof = EquivalenceCheck(saved)
    adapted.fold()
    model, tokenizer = adapted.model, adapted.tokenizer
    write_onnx_graph(folder, model, tokenizer)
    store_threshold(model.config, saved.threshold)
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    write_merged_info(
        folder, saved.info.max_length, None, model, saved.answer_settings, saved.info.task
    )
    runner = OnnxRunner(folder, model.config, adapted.task.level)
    line = proof.write_card(
        folder, name, saved, what="ONNX graph", where=source, runner=runner, library="onnx"
    )
    size = sum(file.stat().st_size for file in folder.glob(f"{ONNX_FILE}*"))
    return [f"wrote an ONNX graph of {size / 1e6:,.1f} MB into {config.out}", line]
