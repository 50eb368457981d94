"""``bertft export runs=[...]``: write the average of several runs as one LoRA adapter.

    ΔW̄ = 1/n · Σ_i ΔW_i ≈ B·A         per adapted layer, with B and A from a truncated SVD of ΔW̄

The average of n updates of rank r has a rank of up to n·r. With a lower rank, the relative error
‖ΔW̄ − B·A‖_F / ‖ΔW̄‖_F over all layers is reported, and the scores are those of the re-factored
model. Heads are averaged and stored as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from bertft.config.command_configs import ExportConfig
from bertft.errors import UsageError
from bertft.export.equivalence import EquivalenceCheck
from bertft.export.peft_adapter import write_peft_adapter
from bertft.methods import build_components
from bertft.methods.low_rank.fold import low_rank_layers
from bertft.methods.low_rank.peft_format import ImportedLowRank, peft_config
from bertft.methods.peft_format import PREFIX
from bertft.models.linear_layers import plain_path
from bertft.pipeline.loaded_model import LoadedModel
from bertft.soups.average import Factors, low_rank_factors, relative_error
from bertft.soups.model import choose_from_settings, open_source
from bertft.soups.results import SOUP_FILE, describe_choice, scores_table, soup_facts, soup_record
from bertft.soups.selection import Choice
from bertft.soups.sources import SoupSource
from bertft.tasks.report_items import TableItem
from bertft.utils.atomic_io import atomic_write_json
from bertft.utils.status import show_status

__all__ = ["export_soup_adapter"]


def export_soup_adapter(
    config: ExportConfig, folder: Path, name: str
) -> tuple[list[str], TableItem | None]:
    """Write the adapter into ``folder``, whose final name is ``name``; as ``write_soup``.

    Raises:
        UsageError: the runs cannot be averaged, or have more than low-rank updates and a head.
        MergeError: a weight is not finite, or the written adapter gives other logits.
    """
    choice = choose_from_settings(config)
    _check_methods(choice.sources)
    show_status("factoring the average")
    factors = _average_updates(config, choice)
    soup = _attach_average(config, choice, factors)
    scores = choice.compare(soup)
    check = EquivalenceCheck(soup)
    write_peft_adapter(folder, soup)
    soup.task_model.tokenizer.save_pretrained(folder)
    error = relative_error(factors)
    highest_rank = max(len(entry.down) for entry in factors.values())
    entries = {"rank": highest_rank, "relative_error": error}
    atomic_write_json(
        folder / SOUP_FILE, soup_record(choice, scores, config.how, config.seed, entries)
    )
    reloaded = check.reopen(folder, config)
    note = f"Its updates have rank {highest_rank}, with a relative error of {error:.1e}."
    check_message = check.write_card(
        folder,
        name,
        reloaded,
        what="averaged adapter",
        where="runs",
        library="peft",
        soup=soup_facts(choice, scores, config.how, [note]),
    )
    lines = [
        *describe_choice(choice, scores, config.how),
        f"wrote the average of the updates of {len(factors)} matrices as a peft adapter of rank"
        f" {highest_rank} into {config.out}: relative error of the updates {error:.1e}",
        check_message,
    ]
    return lines, scores_table(choice, scores) if scores is not None else None


def _check_methods(sources: Sequence[SoupSource]) -> None:
    """UsageError for a run that changed more than what a LoRA adapter can hold."""
    for source in sources:
        components = build_components(source.config.method)
        adapting = [component.name for component in components if component.adapts_layers]
        if adapting != ["low_rank"] or any(component.trains_base for component in components):
            raise UsageError(
                f"{source.name} (method={source.config.method.name}) has updates other than"
                " low-rank updates of layers, which are all that a LoRA adapter can hold",
                where="runs",
                hint="Use bertft merge runs=[...] out=<folder>, which writes the whole model",
            )


def _average_updates(config: ExportConfig, choice: Choice) -> dict[str, Factors]:
    """Path of a layer → the factors of the mean of its updates; a run without one counts as 0."""
    sums: dict[str, Tensor] = {}
    for source in choice.chosen:
        for path, update in _updates(open_source(config, source)).items():
            sums[path] = sums[path] + update if path in sums else update
    factors = {
        path: low_rank_factors(update / len(choice.chosen), config.rank)
        for path, update in sorted(sums.items())
    }
    nonzero = {path: entry for path, entry in factors.items() if len(entry.down)}
    if not nonzero:
        raise UsageError(
            "the average of the updates is 0: there is no adapter to write",
            where="runs",
            hint="Use bertft merge runs=[...] out=<folder>",
        )
    return nonzero


@torch.no_grad()
def _updates(loaded: LoadedModel) -> dict[str, Tensor]:
    """Path of a layer → ΔW in fp64 on the CPU."""
    model = loaded.task_model.model.double()
    base = {
        plain_path(path): layer.weight.detach().cpu().clone()
        for path, layer in low_rank_layers(model).items()
    }
    loaded.task_model.fold()
    parameters = dict(model.named_parameters())
    return {path: parameters[f"{path}.weight"].cpu() - weight for path, weight in base.items()}


@torch.no_grad()
def _attach_average(
    config: ExportConfig, choice: Choice, factors: dict[str, Factors]
) -> LoadedModel:
    """The base with the averaged head and the averaged updates as one LoRA adapter."""
    soup = open_source(config, choice.chosen[0])
    task_model = soup.task_model
    model = task_model.model
    base = {
        plain_path(path): layer.weight.detach().clone()
        for path, layer in low_rank_layers(model).items()
    }
    new_names = task_model.new_parameters
    task_model.fold()
    parameters = dict(model.named_parameters())
    for path, weight in base.items():
        parameters[f"{path}.weight"].copy_(weight)
    for name in new_names:
        parameters[name].copy_(choice.weights[name])
    tensors = {}
    for path, entry in factors.items():
        tensors[f"{PREFIX}{path}.lora_A.weight"] = entry.down.float().contiguous()
        tensors[f"{PREFIX}{path}.lora_B.weight"] = entry.up.float().contiguous()
    component = ImportedLowRank(peft_config(tensors), tensors)
    component.attach(model)
    task_model.components = [component]
    model.requires_grad_(False)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in new_names or ".adapter." in name)
    model.eval()
    return soup
