"""``bertft merge``: fold every low-rank part into the base, prove it on real rows, write it."""

from __future__ import annotations

from pathlib import Path

from bertft.assembly.disk import writing
from bertft.assembly.merged_folder import tell_threshold, write_beside
from bertft.assembly.opened import open_asked, open_saved
from bertft.assembly.saved import not_finite
from bertft.assembly.warn import warn
from bertft.config.commands import MergeConfig
from bertft.config.printed import say
from bertft.config.tasks import in_words
from bertft.errors import MergeRefused, UsageError
from bertft.formats.proof import Proof
from bertft.formats.transformers_folder import new_folder, write_model

__all__ = ["run"]


def run(config: MergeConfig, _: Path) -> None:
    """Raises MergeRefused, and writes nothing, where the folded model would answer otherwise."""
    out = Path(config.out).expanduser()
    with new_folder(out) as folder, writing(out):
        said = _merge(config, folder, out.name)
    for line in said:
        say(line)


def _merge(config: MergeConfig, folder: Path, name: str) -> list[str]:
    """Fill ``folder``, which will be called ``name``; what there is to say of it."""
    saved, given = open_asked(config, "fp32", warn=warn), config.adapter or config.run
    if saved.run is None and not saved.adapter:
        raise UsageError(
            f"{given} is no run: there is nothing to fold", where="run",
            hint="Give a folder that bertft train left, or an adapter's",
        )  # fmt: skip
    adapted = saved.adapted
    unfoldable = [part.name for part in adapted.parts if not part.foldable]
    others = [name for name in unfoldable if name != "prefix"]
    if others:
        raise MergeRefused(
            f"the run has {in_words(others)}, which weights cannot hold", where=given,
            hint="Use the run itself: bertft predict run=<run>",
        )  # fmt: skip
    beside = bool(unfoldable)
    if beside and config.prefix == "refuse":
        raise MergeRefused(
            "the run has a prefix, which no weights can hold", where=given,
            hint="Add prefix=beside: the rest is folded and the prefix kept beside the model",
        )  # fmt: skip
    proof = Proof(saved)
    folded = adapted.fold()
    broken = not_finite(adapted.model)
    if broken is not None:
        raise MergeRefused(
            f"{broken} of the merged model is not finite", where=given,
            hint="Nothing was written. The trained update is too large for the weights",
        )  # fmt: skip
    settings = saved.config.method.prefix if beside and saved.config is not None else None
    tell_threshold(adapted.model.config, saved.threshold)
    write_beside(
        folder, saved.facts.max_length, settings, adapted.model, saved.answering, saved.facts.task
    )
    for module in ("prefix", "prompt"):
        if module in adapted.model._modules:
            delattr(adapted.model, module)
    write_model(folder, adapted.model, adapted.tokenizer, "")
    again = open_saved(
        str(folder), precision="fp32", device=config.device, data=saved.data,
        trust=config.trust_remote_code,
    )  # fmt: skip
    line = proof.write(
        folder, name, again, what="merged model", where=str(given),
        beside="prefix.safetensors" if beside else None,
    )  # fmt: skip
    said = [_folded(folded, config.out), line]
    if beside:
        said.append(
            "the prefix lies beside the model: bertft eval and predict use it, plain transformers"
            " does not"
        )
    return said


def _folded(matrices: int, out: str) -> str:
    if matrices == 0:
        return f"wrote the weights that were trained to {out}: there is no update to fold"
    what = "weight matrix" if matrices == 1 else "weight matrices"
    return f"folded the updates of {matrices} {what} into {out}"
