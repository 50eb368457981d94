"""Load the config and the model of a base encoder with the head of a task.

``load_model`` also reports which parameters are new: those of the task head, and those without
weights in the checkpoint, such as a pooler's. They have to be trained and saved.
"""

from __future__ import annotations

import copy
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from bertft.config.model import ModelConfig
from bertft.errors import UsageError
from bertft.models.check_weights import check_number_types, check_weights
from bertft.models.load_errors import explain_load_errors, silence_transformers
from bertft.models.model_config import check_stated_size, check_vocabulary, read_model_config
from bertft.models.source import ModelSource, find_model_source, local_model_folder
from bertft.utils.messages import suggest

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

__all__ = [
    "LoadedEncoder",
    "download_model",
    "head_parameters",
    "load_config",
    "load_model",
    "output_layer",
]


@dataclass
class LoadedEncoder:
    """A model in fp32 on the CPU, and where its parameters came from.

    Attributes:
        model: The model.
        source: Where it was loaded from; None for a new architecture.
        new_parameters: Names of parameters that have to be trained: the head's, and those without
            weights in the checkpoint.
        loaded_parameters: Names of parameters with weights in the checkpoint.
        mismatched_parameters: Names of parameters that have another shape in the checkpoint.
        initialized_parameters: Names of parameters that were initialized at random.
        left_out: Weights of the checkpoint's head that the model's head does not have.
    """

    model: PreTrainedModel
    source: ModelSource | None
    new_parameters: list[str]
    loaded_parameters: frozenset[str] = frozenset()
    mismatched_parameters: frozenset[str] = frozenset()
    initialized_parameters: Sequence[str] = ()
    left_out: Sequence[str] = ()


def download_model(source: ModelSource, where: str, cached_only: bool = False) -> Path:
    """The local folder of a model, downloaded if it is on the Hub.

    Args:
        source: The model.
        where: The setting of the model, for messages.
        cached_only: Do not download.

    Raises:
        UsageError: The Hub does not have the model, or it is not cached and ``cached_only``.
        SystemResourceError: The Hub cannot be reached.
    """
    if source.kind != "hub":
        return Path(source.load)
    from huggingface_hub import snapshot_download

    patterns = ["*.json", "*.safetensors", "*.txt", "*.model"]
    if cached_only and local_model_folder(source) is None:
        raise UsageError(
            f"the model {source.load!r} that the run recorded is not in the local cache, and"
            " recorded models are not downloaded automatically",
            where=where,
            hint=f"Download it first: hf download {shlex.quote(source.load)}",
        )
    with explain_load_errors("model", source, where):
        return Path(
            snapshot_download(
                source.load,
                revision=source.revision,
                allow_patterns=patterns,
                local_files_only=cached_only,
            )
        )


def load_config(
    settings: ModelConfig,
    tokenizer: PreTrainedTokenizerBase | None,
    task_settings: dict[str, Any],
) -> tuple[PreTrainedConfig, ModelSource | None]:
    """The transformers config with the task's labels, and its source.

    UsageError if the embedding has no row for a token of ``tokenizer``; None is not checked.
    """
    from transformers import AutoConfig
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    overrides = dict(settings.architecture or {})
    if settings.path is None:
        model_type = overrides.pop("model_type", None)
        if model_type is None:
            raise UsageError(
                "a model is missing",
                where="model",
                hint="Set model.path=<folder or Hub id>, or model.weights=random with"
                " model.architecture.model_type=<type>",
            )
        if model_type not in CONFIG_MAPPING:
            raise UsageError(
                f"unknown architecture {model_type!r}",
                where="model.architecture.model_type",
                hint=suggest(model_type, CONFIG_MAPPING),
            )
        if tokenizer is not None:
            overrides.setdefault("vocab_size", len(tokenizer))
            overrides.setdefault("pad_token_id", tokenizer.pad_token_id)
        with explain_load_errors("config", None):
            config = AutoConfig.for_model(model_type, **overrides, **task_settings)
        check_vocabulary(config, tokenizer, "model.architecture.vocab_size")
        return config, None
    source = find_model_source(settings.path, settings.revision)
    with explain_load_errors("config", source), silence_transformers():
        config = read_model_config(source, settings.trust_remote_code, **overrides, **task_settings)
    check_vocabulary(config, tokenizer, f"model.path={source.name}")
    return config, source


# The names under which architectures keep their dropout rates.
_DROPOUT_KEYS = (
    "hidden_dropout_prob",
    "dropout",
    "embedding_dropout",
    "mlp_dropout",
    "seq_classif_dropout",
    "classifier_dropout",
    "classifier_dropout_prob",
    "qa_dropout",
    "pooler_dropout",
    "cls_dropout",
)
_ATTENTION_DROPOUT_KEYS = ("attention_probs_dropout_prob", "attention_dropout")


def _set_dropout(config: PreTrainedConfig, settings: ModelConfig) -> None:
    for names, value in (
        (_DROPOUT_KEYS, settings.dropout),
        (_ATTENTION_DROPOUT_KEYS, settings.attention_dropout),
    ):
        for name in names:
            if value is not None and getattr(config, name, None) is not None:
                setattr(config, name, value)


def load_model(
    settings: ModelConfig,
    config: PreTrainedConfig,
    source: ModelSource | None,
    auto_class: str,
    fresh_head: bool = True,
) -> LoadedEncoder:
    """Load a model; new weights are drawn from torch's generator.

    Args:
        settings: The section ``model`` of the configuration.
        config: The transformers config from ``load_config``; its dropout rates are changed.
        source: Where the weights are; None for a new architecture.
        auto_class: The name of a transformers Auto class.
        fresh_head: The head counts as new even if the checkpoint has one.

    Raises:
        UsageError: The weights are missing, damaged, or those of another architecture.
        SystemResourceError: The Hub cannot be reached, or memory runs out.
    """
    import transformers

    auto_model = getattr(transformers, auto_class)
    if type(config) not in auto_model._model_mapping and not settings.trust_remote_code:
        raise UsageError(
            f"transformers has no {auto_class.removeprefix('AutoModelFor')} head for a"
            f" {config.model_type} model",
            where=f"model.path={source.name}" if source else "model.architecture.model_type",
            hint="Use another architecture for this task",
        )
    _set_dropout(config, settings)
    if settings.weights == "random":
        with explain_load_errors("architecture", source):
            model = auto_model.from_config(config, dtype=torch.float32)
        return LoadedEncoder(
            model,
            source,
            new_parameters=list(head_parameters(model)),
            initialized_parameters=[name for name, _ in model.named_parameters()],
        )
    assert source is not None, "checked by load_config"
    _check_weight_format(source)
    check_stated_size(config, source)
    with explain_load_errors("architecture", source), silence_transformers():
        check_number_types(source, lambda: auto_model.from_config(copy.deepcopy(config)))
    with explain_load_errors("weights", source), silence_transformers():
        model, info = auto_model.from_pretrained(
            source.load,
            config=config,
            revision=source.revision if source.kind == "hub" else None,
            trust_remote_code=settings.trust_remote_code,
            use_safetensors=True,  # pickled weights are code: they are never read
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # a head with another number of labels is new
        )
    parameter_names = {name for name, _ in model.named_parameters()}
    missing = set(info["missing_keys"]) & parameter_names
    head = list(head_parameters(model))
    mismatched = {entry[0] for entry in info["mismatched_keys"]}
    check_weights(
        model,
        source,
        missing.difference(head),
        mismatched.difference(head),
        info["unexpected_keys"],
    )
    new = missing.union(head if fresh_head else mismatched.intersection(head))
    head_modules = {name.split(".")[0] for name in head}
    return LoadedEncoder(
        model,
        source,
        sorted(new),
        loaded_parameters=frozenset(parameter_names - missing - mismatched),
        mismatched_parameters=frozenset(mismatched),
        initialized_parameters=sorted(missing | mismatched),
        left_out=sorted(
            name for name in info["unexpected_keys"] if name.split(".")[0] in head_modules
        ),
    )


def _check_weight_format(source: ModelSource) -> None:
    """UsageError if a local folder has no safetensors weights, or an adapter next to them."""
    folder = local_model_folder(source)
    if folder is not None and (folder / "adapter_config.json").is_file():
        # transformers would attach it if peft is installed, and ignore it otherwise.
        raise UsageError(
            "the folder contains a whole model and an adapter",
            where=f"model.path={source.name}",
            hint="To use the model alone, move adapter_config.json elsewhere. To use both, merge"
            " them in Python: PeftModel.from_pretrained(base, ...).merge_and_unload()",
        )
    if folder is None or any(folder.glob("*.safetensors")):
        return
    unsupported = sorted(
        file.name for file in folder.iterdir() if file.suffix in _UNSUPPORTED_SUFFIXES
    )
    unsupported_note = f"; {', '.join(unsupported[:3])} is not read" if unsupported else ""
    raise UsageError(
        f"there are no weights in safetensors{unsupported_note}",
        where=f"model.path={source.name}",
        hint="Other files contain pickled code or belong to another library: if you trust them,"
        " load them in Python and save the model with save_pretrained",
    )


_UNSUPPORTED_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack")


def head_parameters(model: PreTrainedModel) -> dict[str, nn.Parameter]:
    """The parameters outside the base, by their names in the model: the task head."""
    base_prefix = f"{model.base_model_prefix}."
    return {
        name: parameter
        for name, parameter in model.named_parameters()
        if not name.startswith(base_prefix)
    }


def output_layer(
    model: PreTrainedModel,
    where: str = "model.path",
    hint: str = "Choose a base without this head",
) -> nn.Linear:
    """The head's last layer, whose outputs are the logits.

    Raises UsageError, with ``where`` and ``hint``, if it is not linear.
    """
    head_modules = {name.rpartition(".")[0] for name in head_parameters(model)}
    candidates = [
        module
        for name, module in model.named_modules()
        if name in head_modules
        and isinstance(module, nn.Linear)
        and module.out_features == model.config.num_labels
    ]
    if not candidates:
        raise UsageError(
            f"the head of a {model.config.model_type} model does not end in a linear layer",
            where=where,
            hint=hint,
        )
    return candidates[-1]
