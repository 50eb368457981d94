"""``bertft merge runs=[...]``: write the average of several runs as a transformers folder."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from bertft.config.command_configs import ExportConfig, MergeConfig
from bertft.export.equivalence import EquivalenceCheck
from bertft.export.transformers_folder import save_model_folder
from bertft.pipeline.loaded_model import LoadedModel
from bertft.pipeline.merged_folder import store_threshold, write_merged_info
from bertft.soups.results import (
    SOUP_FILE,
    describe_choice,
    scores_table,
    soup_facts,
    soup_record,
)
from bertft.soups.selection import Choice, choose_runs, load_weights
from bertft.soups.sources import SoupSource, read_sources
from bertft.tasks.report_items import TableItem
from bertft.utils.atomic_io import atomic_write_json
from bertft.utils.status import show_status
from bertft.utils.terminal import print_warning

__all__ = ["choose_from_settings", "open_source", "write_soup"]


def choose_from_settings(config: MergeConfig | ExportConfig) -> Choice:
    """Read ``config.runs`` and average those that ``config.how`` selects.

    Raises:
        UsageError: see ``read_sources`` and ``choose_runs``.
        MergeError: a weight is not finite.
    """
    paths = config.runs if isinstance(config.runs, list) else [config.runs]
    sources = read_sources([str(path) for path in paths], config.checkpoint, print_warning)
    return choose_runs(sources, config.how, config.seed, partial(open_source, config))


def open_source(config: MergeConfig | ExportConfig, source: SoupSource) -> LoadedModel:
    """Load a run with the device and the trust that ``config`` sets."""
    return source.open(config.device, config.trust_remote_code)


def write_soup(config: MergeConfig, folder: Path, name: str) -> tuple[list[str], TableItem | None]:
    """Write the averaged model into ``folder``, whose final name is ``name``.

    The written model is loaded and compared with the average in memory.

    Returns:
        The messages for the user, and the scores of the soup and its runs; None if they were not
        scored.

    Raises:
        UsageError: the runs cannot be averaged, or greedy has no validation rows to choose on.
        MergeError: a weight is not finite, or the written model gives other logits.
    """
    choice = choose_from_settings(config)
    soup = open_source(config, choice.chosen[0])
    task_model = soup.task_model
    task_model.fold()
    load_weights(soup, choice.weights)
    scores = choice.compare(soup)
    show_status("writing the model")
    check = EquivalenceCheck(soup)
    store_threshold(task_model.model.config, None)
    write_merged_info(
        folder,
        soup.info.max_length,
        None,
        task_model.model,
        soup.prediction_settings,
        soup.info.task,
    )
    save_model_folder(folder, task_model.model, task_model.tokenizer)
    atomic_write_json(folder / SOUP_FILE, soup_record(choice, scores, config.how, config.seed, {}))
    reloaded = check.reopen(folder, config)
    check_message = check.write_card(
        folder,
        name,
        reloaded,
        what="averaged model",
        where="runs",
        soup=soup_facts(choice, scores, config.how),
    )
    lines = [
        *describe_choice(choice, scores, config.how),
        f"wrote the model to {config.out}",
        check_message,
    ]
    return lines, scores_table(choice, scores) if scores is not None else None
