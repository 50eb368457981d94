"""An encoder with its head as an ONNX graph, and that graph run on batches as the encoder is.

    input_ids, attention_mask, maybe token_type_ids   int64 [batch, sequence], both of any size
    logits                                            float32 [batch, C] or [batch, sequence, C]
    start_logits, end_logits                          of question answering, [batch, sequence]

The graph is made of a fresh copy of the model, in eager attention, on the CPU: the loaded one,
whose attention and dropout are bertft's own, stays as it is. torch.onnx's exporter over
torch.export is used, which all of torch 2.6 to 2.13 have.
"""

from __future__ import annotations

import contextlib
import copy
import importlib.util
import inspect
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bertft.data.batch import Batch
from bertft.errors import UsageError

__all__ = ["ONNX_FILE", "OnnxRunner", "check_onnx_packages", "write_onnx_graph"]

ONNX_FILE = "model.onnx"
ONNX_PACKAGES = ("onnx", "onnxruntime", "onnxscript")

_OPSET = 18
_MAX_INLINE_BYTES = 1 << 30  # bytes of weights in the file itself: protobuf ends at 2 GB
_EXAMPLE = (2, 7)  # 0 and 1 would be taken for constants
_MAX_BATCH_ROWS = (
    8  # a run of the graph: of masked tokens all places have logits of the whole vocabulary
)


def check_onnx_packages() -> None:
    """UsageError, before anything is loaded, unless what writes and runs a graph is installed."""
    for package in ONNX_PACKAGES:
        if importlib.util.find_spec(package) is None:
            raise UsageError(
                f"onnx needs the package {package}, which is not installed",
                where="format",
                hint='It comes with pip install "bertft[export]"',
            )


def write_onnx_graph(folder: Path, model: Any, tokenizer: Any) -> None:
    """Write ``ONNX_FILE`` (beside it ``ONNX_FILE``.data, where the weights are too large for one
    file).

    UsageError for a model of which torch makes none.
    """
    graph = _TensorOnlyModel(_eager_copy(model), _takes_token_types(model, tokenizer)).eval()
    example = tuple(torch.ones(_EXAMPLE, dtype=torch.int64) for _ in graph.inputs)
    size = sum(each.numel() * each.element_size() for each in model.parameters())
    any_size = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    with _silence_exporter(), torch.no_grad():
        try:
            program = torch.onnx.export(
                graph,
                example,
                dynamo=True,
                opset_version=_OPSET,
                verbose=False,
                input_names=list(graph.inputs),
                output_names=list(graph.outputs),
                dynamic_shapes=dict.fromkeys(graph.inputs, any_size),
            )
        except torch.onnx.OnnxExporterError as error:
            raise UsageError(
                f"torch {torch.__version__} makes no graph of {type(model).__name__}",
                where="format",
                hint="bertft merge writes a plain transformers folder",
            ) from error
        assert program is not None
        program.save(str(folder / ONNX_FILE), external_data=size > _MAX_INLINE_BYTES)


class OnnxRunner:
    """``ONNX_FILE`` in ``folder`` in place of an EncoderRunner: the same logits of the same
    batches.
    """

    def __init__(self, folder: Path, config: Any, level: str) -> None:
        import onnxruntime

        self.level, self.padding = level, getattr(config, "pad_token_id", None) or 0
        self.model = nn.Module()  # there is none; it is told to train and to evaluate all the same
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        self.session = onnxruntime.InferenceSession(
            str(folder / ONNX_FILE), options, providers=["CPUExecutionProvider"]
        )
        self.inputs = [each.name for each in self.session.get_inputs()]

    def __call__(self, batch: Batch) -> Tensor:
        lengths = batch.lengths.numpy()
        ends = np.cumsum(lengths)
        chunks = []
        for first in range(0, len(lengths), _MAX_BATCH_ROWS):
            rows_of_chunk = slice(first, first + _MAX_BATCH_ROWS)
            start, stop = (
                ends[rows_of_chunk][0] - lengths[rows_of_chunk][0],
                ends[rows_of_chunk][-1],
            )
            logits = self._run(batch, lengths[rows_of_chunk], slice(int(start), int(stop)))
            if batch.selected_tokens is not None:
                chosen = batch.selected_tokens.cpu().numpy()
                logits = logits[chosen[(chosen >= start) & (chosen < stop)] - start]
            chunks.append(logits)
        return torch.from_numpy(np.concatenate(chunks))

    def _run(self, batch: Batch, lengths: np.ndarray, tokens: slice) -> np.ndarray:
        """[n, C], or of each token [N, C], of some of the rows."""
        token_mask = np.arange(lengths.max())[None, :] < lengths[:, None]
        ids = np.full(token_mask.shape, self.padding, np.int64)
        ids[token_mask] = batch.input_ids[tokens].cpu().numpy()
        values = {"input_ids": ids, "attention_mask": token_mask.astype(np.int64)}
        if "token_type_ids" in self.inputs:
            assert batch.token_type_ids is not None, "the tokenizer gives what the graph takes"
            types = np.zeros_like(ids)
            types[token_mask] = batch.token_type_ids[tokens].cpu().numpy()
            values["token_type_ids"] = types
        outputs = self.session.run(None, values)
        logits = outputs[0] if len(outputs) == 1 else np.stack(outputs, -1)
        return logits if self.level == "sequence" else logits[token_mask]


class _TensorOnlyModel(nn.Module):
    """The model with tensors in and tensors out."""

    def __init__(self, model: Any, takes_token_types: bool) -> None:
        super().__init__()
        self.model = model
        self.inputs = (
            "input_ids",
            "attention_mask",
            *(("token_type_ids",) if takes_token_types else ()),
        )
        spans = type(model).__name__.endswith("ForQuestionAnswering")
        self.outputs = ("start_logits", "end_logits") if spans else ("logits",)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        types = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        outputs = self.model(input_ids=input_ids, attention_mask=attention_mask, **types)
        return tuple(outputs[name] for name in self.outputs)


def _eager_copy(model: Any) -> Any:
    """A copy as transformers itself would have loaded it, with every weight of ``model``."""
    fresh = type(model)._from_config(copy.deepcopy(model.config), attn_implementation="eager")
    fresh.load_state_dict(model.state_dict())
    return fresh.float().eval()


def _takes_token_types(model: Any, tokenizer: Any) -> bool:
    """Whether the graph takes token types: the tokenizer gives them, and the model reads them."""
    name = "token_type_ids"
    is_accepted = name in inspect.signature(model.base_model.forward).parameters
    return is_accepted and name in tokenizer.model_input_names


@contextlib.contextmanager
def _silence_exporter() -> Iterator[None]:
    """The exporter prints its progress and its failures, and warns of what it does by itself."""
    names = ("torch.onnx", "torch.fx", "torch.export", "onnxscript", "onnx_ir")
    before = {name: logging.getLogger(name).level for name in names}
    sink = io.StringIO()
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(sink),
        contextlib.redirect_stderr(sink),
    ):
        warnings.simplefilter("ignore")
        for name in names:
            logging.getLogger(name).setLevel(logging.ERROR)
        try:
            yield
        finally:
            for name, level in before.items():
                logging.getLogger(name).setLevel(level)
