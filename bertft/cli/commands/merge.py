"""``bertft merge``: fold every low-rank part into the base, prove it on real rows, write it."""

from __future__ import annotations

from pathlib import Path

from bertft.config.command_configs import MergeConfig
from bertft.config.task_facts import join_words
from bertft.errors import MergeError, UsageError
from bertft.export.equivalence import EquivalenceCheck
from bertft.export.transformers_folder import new_output_folder, save_model_folder
from bertft.pipeline.loaded_model import first_non_finite_parameter
from bertft.pipeline.merged_folder import store_threshold, write_merged_info
from bertft.pipeline.open_model import open_from_settings, open_model
from bertft.utils.atomic_io import convert_write_errors
from bertft.utils.terminal import print_escaped, print_warning

__all__ = ["run"]


def run(config: MergeConfig, _: Path) -> None:
    """Raises MergeRefused, and writes nothing, where the folded model would answer otherwise."""
    out = Path(config.out).expanduser()
    with new_output_folder(out) as folder, convert_write_errors(out):
        messages = _write_merged_model(config, folder, out.name)
    for line in messages:
        print_escaped(line)


def _write_merged_model(config: MergeConfig, folder: Path, name: str) -> list[str]:
    """Fill ``folder``, which will be called ``name``; what there is to say of it."""
    saved, source = (
        open_from_settings(config, "fp32", warn=print_warning),
        config.adapter or config.run,
    )
    if saved.run is None and not saved.is_adapter:
        raise UsageError(
            f"{source} is no run: there is nothing to fold",
            where="run",
            hint="Give a folder that bertft train left, or an adapter's",
        )
    adapted = saved.task_model
    unfoldable = [part.name for part in adapted.components if not part.foldable]
    unsupported = [name for name in unfoldable if name != "prefix"]
    if unsupported:
        raise MergeError(
            f"the run has {join_words(unsupported)}, which weights cannot hold",
            where=source,
            hint="Use the run itself: bertft predict run=<run>",
        )
    keeps_prefix = bool(unfoldable)
    if keeps_prefix and config.prefix == "error":
        raise MergeError(
            "the run has a prefix, which no weights can hold",
            where=source,
            hint="Add prefix=separate: the rest is folded and the prefix kept beside the model",
        )
    proof = EquivalenceCheck(saved)
    folded = adapted.fold()
    non_finite_name = first_non_finite_parameter(adapted.model)
    if non_finite_name is not None:
        raise MergeError(
            f"{non_finite_name} of the merged model is not finite",
            where=source,
            hint="Nothing was written. The trained update is too large for the weights",
        )
    settings = saved.config.method.prefix if keeps_prefix and saved.config is not None else None
    store_threshold(adapted.model.config, saved.threshold)
    write_merged_info(
        folder,
        saved.info.max_length,
        settings,
        adapted.model,
        saved.answer_settings,
        saved.info.task,
    )
    for module in ("prefix", "prompt"):
        if module in adapted.model._modules:
            delattr(adapted.model, module)
    save_model_folder(folder, adapted.model, adapted.tokenizer)
    reloaded = open_model(
        str(folder),
        precision="fp32",
        device=config.device,
        data=saved.data,
        trust_remote_code=config.trust_remote_code,
    )
    line = proof.write_card(
        folder,
        name,
        reloaded,
        what="merged model",
        where=str(source),
        prefix_file="prefix.safetensors" if keeps_prefix else None,
    )
    messages = [_format_fold_message(folded, config.out), line]
    if keeps_prefix:
        messages.append(
            "the prefix lies beside the model: bertft eval and predict use it, plain transformers"
            " does not"
        )
    return messages


def _format_fold_message(matrices: int, out: str) -> str:
    if matrices == 0:
        return f"wrote the weights that were trained to {out}: there is no update to fold"
    description = "weight matrix" if matrices == 1 else "weight matrices"
    return f"folded the updates of {matrices} {description} into {out}"
