"""ONNX folders, as ``bertft export format=onnx`` writes them: run the graph in place of a model.

The graph runs on the CPU in fp32. Its weights are not torch tensors, so that only ``eval``,
``predict`` and ``bertft.load`` support such a folder.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedTokenizerBase

from bertft.config.model import ModelConfig
from bertft.data.batch import Batch
from bertft.errors import DataError, UsageError
from bertft.models.loading import load_config
from bertft.models.precision import Precision
from bertft.models.source import ModelSource
from bertft.pipeline.task_model import TaskModel
from bertft.tasks.task import BaseTask

__all__ = ["ONNX_FILE", "OnnxRunner", "is_onnx_folder", "load_onnx_model"]

ONNX_FILE = "model.onnx"
# Rows per run of the graph: a masked language model returns the whole vocabulary for every token.
_MAX_BATCH_ROWS = 8


def is_onnx_folder(folder: Path) -> bool:
    """Whether ``folder`` has a graph, but no weights for torch."""
    return any(folder.glob("*.onnx")) and not any(folder.glob("*.safetensors"))


def load_onnx_model(
    settings: ModelConfig,
    source: ModelSource,
    task: BaseTask,
    tokenizer: PreTrainedTokenizerBase,
    precision: str,
    device: str,
) -> TaskModel:
    """The graph in the folder ``source`` as the model of ``task``.

    Raises:
        UsageError: onnxruntime is not installed, or precision or device are not supported.
        DataError: the graph cannot be read.
    """
    folder = Path(source.load)
    if importlib.util.find_spec("onnxruntime") is None:
        raise UsageError(
            "an ONNX graph needs the package onnxruntime, which is not installed",
            where=str(folder),
            hint='Install it with pip install "bertft[export]"',
        )
    for name, value, supported in (
        ("precision", precision, ("fp32", "auto")),
        ("device", device, ("cpu", "auto")),
    ):
        if value not in supported:
            raise UsageError(
                f"{value} is not supported by an ONNX graph",
                where=name,
                hint=f"Set {name}={supported[0]}, or leave it out",
            )
    config, _ = load_config(settings, tokenizer, task.head_config())
    try:
        runner = OnnxRunner(folder, config, task.level)
    except Exception as error:  # onnxruntime has no common base class of its errors
        reason = str(error).split("\n")[0]
        raise DataError(
            f"not a valid ONNX graph ({reason})",
            where=str(folder / ONNX_FILE),
            hint="Export it again with bertft export format=onnx",
        ) from error
    runner.model.config = config  # type: ignore[assignment]
    return TaskModel(
        task,
        tokenizer,
        cast(Any, runner.model),
        [],
        cast(Any, runner),
        Precision("fp32", torch.device("cpu")),
        source,
    )


class OnnxRunner:
    """Runs ``ONNX_FILE`` in ``folder`` in place of an EncoderRunner.

    ``level`` is that of the task: "sequence" or "token".
    """

    def __init__(self, folder: Path, config: PretrainedConfig, level: str) -> None:
        import onnxruntime

        self.level, self.padding = level, getattr(config, "pad_token_id", None) or 0
        self.model = nn.Module()  # empty: callers switch it to evaluation mode
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        self.session = onnxruntime.InferenceSession(
            str(folder / ONNX_FILE), options, providers=["CPUExecutionProvider"]
        )
        self.inputs = [node.name for node in self.session.get_inputs()]

    def __call__(self, batch: Batch) -> Tensor:
        lengths = batch.lengths.numpy()
        ends = np.cumsum(lengths)
        chunks = []
        for first_row in range(0, len(lengths), _MAX_BATCH_ROWS):
            rows = slice(first_row, first_row + _MAX_BATCH_ROWS)
            start, stop = int(ends[first_row] - lengths[first_row]), int(ends[rows][-1])
            logits = self._run(batch, lengths[rows], slice(start, stop))
            if batch.selected_tokens is not None:
                selected = batch.selected_tokens.cpu().numpy()
                logits = logits[selected[(selected >= start) & (selected < stop)] - start]
            chunks.append(logits)
        return torch.from_numpy(np.concatenate(chunks))

    def _run(self, batch: Batch, lengths: np.ndarray, tokens: slice) -> np.ndarray:
        """Logits [rows, C], or [tokens, C] for a task on tokens, of the rows with ``tokens``."""
        token_mask = np.arange(lengths.max())[None, :] < lengths[:, None]
        ids = np.full(token_mask.shape, self.padding, np.int64)
        ids[token_mask] = batch.input_ids[tokens].cpu().numpy()
        values = {"input_ids": ids, "attention_mask": token_mask.astype(np.int64)}
        if "token_type_ids" in self.inputs:
            assert batch.token_type_ids is not None, "the tokenizer returns token types"
            types = np.zeros_like(ids)
            types[token_mask] = batch.token_type_ids[tokens].cpu().numpy()
            values["token_type_ids"] = types
        outputs = self.session.run(None, values)
        logits = outputs[0] if len(outputs) == 1 else np.stack(outputs, -1)
        return logits if self.level == "sequence" else logits[token_mask]
