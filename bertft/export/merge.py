"""Folds the trained updates of a run into its base model and writes a transformers folder."""

from __future__ import annotations

from pathlib import Path

from bertft.config.command_configs import MergeConfig
from bertft.config.task_facts import join_words
from bertft.errors import MergeError, UsageError
from bertft.export.equivalence import NOT_FINITE_HINT, EquivalenceCheck
from bertft.export.transformers_folder import save_model_folder
from bertft.pipeline.loaded_model import first_non_finite_parameter
from bertft.pipeline.merged_folder import store_threshold, write_merged_info
from bertft.pipeline.open_model import open_from_settings
from bertft.pipeline.task_model import TaskModel
from bertft.utils.terminal import print_warning

__all__ = ["write_merged_model"]


def write_merged_model(config: MergeConfig, folder: Path, name: str) -> list[str]:
    """Write the merged model into ``folder``, whose final name is ``name``.

    The written model is loaded and compared with the run. Returns the messages for the user.

    Raises:
        MergeError: the merged model would give other predictions, or a component cannot be folded.
        UsageError: there is nothing to merge.
    """
    loaded = open_from_settings(config, "fp32", warn=print_warning)
    source = str(config.adapter or config.run)
    if loaded.run is None and not loaded.is_adapter:
        raise UsageError(
            f"{source} is not a run: there is nothing to fold",
            where="run",
            hint="Set run=<run folder>, or adapter=<folder of a peft adapter>",
        )
    task_model = loaded.task_model
    has_prefix = _check_foldable(task_model, config.prefix, source)
    check = EquivalenceCheck(loaded)
    folded_matrices = task_model.fold()
    model = task_model.model
    non_finite_name = first_non_finite_parameter(model)
    if non_finite_name is not None:
        raise MergeError(
            f"{non_finite_name} of the merged model is not finite",
            where=source,
            hint="Nothing was written. The trained update is too large for the weights."
            f" {NOT_FINITE_HINT}",
        )
    prefix = loaded.config.method.prefix if has_prefix and loaded.config is not None else None
    store_threshold(model.config, loaded.threshold)
    write_merged_info(
        folder,
        loaded.info.max_length,
        prefix,
        model,
        loaded.prediction_settings,
        loaded.info.task,
        task_model.task.conformal,
    )
    for module in ("prefix", "prompt"):
        if module in model._modules:
            delattr(model, module)
    save_model_folder(folder, model, task_model.tokenizer)
    reloaded = check.reopen(folder, config)
    check_message = check.write_card(
        folder,
        name,
        reloaded,
        what="merged model",
        where=source,
        prefix_file="prefix.safetensors" if has_prefix else None,
    )
    messages = [_format_fold_message(folded_matrices, config.out), check_message]
    messages += check.precision_notes(config, config.out)
    if has_prefix:
        messages.append(
            "the prefix is in prefix.safetensors: bertft eval and predict use it, plain"
            " transformers does not"
        )
    return messages


def _check_foldable(task_model: TaskModel, prefix_policy: str, source: str) -> bool:
    """Whether the model has a prefix to store separately. MergeError if it cannot be merged."""
    unfoldable = task_model.unfoldable_components
    unsupported = [name for name in unfoldable if name != "prefix"]
    if unsupported:
        raise MergeError(
            f"the run has {join_words(unsupported)}, which cannot be folded into weights",
            where=source,
            hint="Use the run itself: bertft predict run=<run>",
        )
    if unfoldable and prefix_policy == "error":
        raise MergeError(
            "the run has a prefix, which cannot be folded into weights",
            where=source,
            hint="Add prefix=separate to fold the other updates and store the prefix separately",
        )
    return bool(unfoldable)


def _format_fold_message(matrices: int, out: str) -> str:
    if matrices == 0:
        return f"wrote the trained weights to {out}: there is no update to fold"
    description = "weight matrix" if matrices == 1 else "weight matrices"
    return f"folded the updates of {matrices} {description} into {out}"
