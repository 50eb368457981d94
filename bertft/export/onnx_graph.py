"""Exports an encoder with its head as an ONNX graph.

    inputs    input_ids, attention_mask, token_type_ids   int64 [batch, sequence]
    outputs   logits                       float32 [batch, C] or [batch, sequence, C]
              start_logits, end_logits     float32 [batch, sequence], of question answering

Batch size and sequence length are dynamic; a graph without token types has two inputs. The graph
comes from a fresh copy of the model with eager attention on the CPU. The loaded model, whose
attention and dropout are bertft's own, does not change. The exporter is that of torch.onnx which is
based on torch.export, available in torch 2.11 to 2.13.
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

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from bertft.config.command_configs import ExportConfig
from bertft.errors import UsageError
from bertft.export.equivalence import EquivalenceCheck
from bertft.pipeline.merged_folder import store_threshold, write_merged_info
from bertft.pipeline.onnx_folder import ONNX_FILE, OnnxRunner
from bertft.pipeline.open_model import open_from_settings
from bertft.utils.terminal import print_warning

__all__ = ["check_onnx_packages", "export_onnx", "write_onnx_graph"]

ONNX_PACKAGES = ("onnx", "onnxruntime", "onnxscript")

_OPSET = 18
_MAX_INLINE_BYTES = 1 << 30  # weights in the file itself; the limit of protobuf is 2 GB
_EXAMPLE_SHAPE = (2, 7)  # the exporter treats sizes 0 and 1 as constants


def export_onnx(config: ExportConfig, folder: Path, name: str) -> list[str]:
    """Write a model, with all updates folded in, as an ONNX graph into ``folder``.

    The final name of the folder is ``name``. The graph is run and compared with the model. Returns
    the messages for the user.

    Raises:
        MergeError: the graph would give other predictions.
        UsageError: a package is missing, or the model has a component that cannot be folded.
    """
    check_onnx_packages()
    loaded = open_from_settings(config, "fp32", warn=print_warning)
    source = str(config.adapter or config.run)
    task_model = loaded.task_model
    if unfoldable := task_model.unfoldable_components:
        raise UsageError(
            f"the run has a {unfoldable[0]}, which an ONNX graph of the encoder does not support",
            where=source,
            hint="Train without it, or use bertft merge RUN <folder> prefix=separate: only bertft"
            " applies the prefix of that folder",
        )
    check = EquivalenceCheck(loaded)
    task_model.fold()
    model, tokenizer = task_model.model, task_model.tokenizer
    write_onnx_graph(folder, model, tokenizer)
    store_threshold(model.config, loaded.threshold)
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    write_merged_info(
        folder,
        loaded.info.max_length,
        None,
        model,
        loaded.prediction_settings,
        loaded.info.task,
        task_model.task.conformal,
    )
    runner = OnnxRunner(folder, model.config, task_model.task.level)
    check_message = check.write_card(
        folder, name, loaded, what="ONNX graph", where=source, runner=runner, library="onnx"
    )
    size = sum(file.stat().st_size for file in folder.glob(f"{ONNX_FILE}*"))
    return [
        f"wrote an ONNX graph of {size / 1e6:,.1f} MB into {config.out}",
        check_message,
        *check.precision_notes(config, config.out),
    ]


def check_onnx_packages() -> None:
    """UsageError if a package that writes or runs a graph is not installed."""
    for package in ONNX_PACKAGES:
        if importlib.util.find_spec(package) is None:
            raise UsageError(
                f"format=onnx needs the package {package}, which is not installed",
                where="format",
                hint='Install it with pip install "bertft[export]"',
            )


def write_onnx_graph(
    folder: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    """Write ``ONNX_FILE`` into ``folder``, and ``ONNX_FILE``.data if the weights are too large.

    UsageError if torch cannot export the model.
    """
    graph = _TensorOnlyModel(_eager_copy(model), _takes_token_types(model, tokenizer)).eval()
    example = tuple(torch.ones(_EXAMPLE_SHAPE, dtype=torch.int64) for _ in graph.inputs)
    size = sum(weight.numel() * weight.element_size() for weight in model.parameters())
    dynamic_axes = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
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
                dynamic_shapes=dict.fromkeys(graph.inputs, dynamic_axes),
            )
        except torch.onnx.OnnxExporterError as error:
            raise UsageError(
                f"torch {torch.__version__} cannot export {type(model).__name__} to ONNX",
                where="format",
                hint="bertft merge writes a plain transformers folder",
            ) from error
        assert program is not None
        program.save(str(folder / ONNX_FILE), external_data=size > _MAX_INLINE_BYTES)


class _TensorOnlyModel(nn.Module):
    """A module that takes tensors and returns a tuple of tensors, as the exporter needs."""

    def __init__(self, model: PreTrainedModel, takes_token_types: bool) -> None:
        super().__init__()
        self.model = model
        token_types = ("token_type_ids",) if takes_token_types else ()
        self.inputs = ("input_ids", "attention_mask", *token_types)
        is_span_model = type(model).__name__.endswith("ForQuestionAnswering")
        self.outputs = ("start_logits", "end_logits") if is_span_model else ("logits",)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        types = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        outputs = self.model(input_ids=input_ids, attention_mask=attention_mask, **types)
        return tuple(outputs[name] for name in self.outputs)


def _eager_copy(model: PreTrainedModel) -> PreTrainedModel:
    """A copy of ``model`` in fp32 with the eager attention of transformers."""
    fresh = type(model)._from_config(copy.deepcopy(model.config), attn_implementation="eager")
    fresh.load_state_dict(model.state_dict())
    return fresh.float().eval()


def _takes_token_types(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the tokenizer returns token types and the model accepts them."""
    name = "token_type_ids"
    is_accepted = name in inspect.signature(model.base_model.forward).parameters
    return is_accepted and name in tokenizer.model_input_names


@contextlib.contextmanager
def _silence_exporter() -> Iterator[None]:
    """Suppress the exporter's progress, failure reports and warnings."""
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
