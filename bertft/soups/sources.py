"""The runs of a soup: read, and checked before a model is loaded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bertft.config.command_configs import TrainConfig
from bertft.config.registry import TASKS
from bertft.config.resume import read_run_config
from bertft.errors import MergeError, UsageError
from bertft.methods import build_components
from bertft.pipeline.loaded_model import LoadedModel, first_non_finite_parameter
from bertft.pipeline.open_model import open_model
from bertft.report.compare.read import iter_finished_runs
from bertft.runs.checkpoints import CheckpointStore
from bertft.runs.files_json import FILES_JSON
from bertft.runs.manifest import Manifest, read_manifest
from bertft.runs.run_folder import RunFolder
from bertft.utils.messages import display_path, format_list, shorten
from bertft.utils.safe_files import read_json_object
from bertft.utils.status import show_status

__all__ = ["SoupSource", "folded_weights", "read_sources"]

_WEIGHTS = "adapter.safetensors"


@dataclass(frozen=True)
class SoupSource:
    """A run to average.

    Attributes:
        name: The name of its folder, with parents if other runs have the same.
        checkpoint: The folder of the checkpoint.
        digest: The sha256 of the weights in the checkpoint.
    """

    name: str
    run: RunFolder
    config: TrainConfig
    manifest: Manifest
    checkpoint: Path
    digest: str

    @property
    def step(self) -> int:
        return int(self.checkpoint.name.rpartition("-")[2])

    @property
    def validation_fingerprint(self) -> str | None:
        """Identifies the validation rows; None if the run has none."""
        split = self.manifest["data"]["splits"].get("validation")
        return None if split is None else split["fingerprint"]

    @property
    def is_calibrated(self) -> bool:
        """Whether a temperature or thresholds were fitted to this run alone."""
        return self.config.calibrate is not None or self.config.tune_threshold

    def open(self, device: str, trust_remote_code: bool) -> LoadedModel:
        """The checkpoint in fp32, without what was fitted to its outputs (a temperature, ...)."""
        show_status(f"loading model {self.name}")
        return open_model(
            str(self.run.path),
            checkpoint=str(self.step),
            precision="fp32",
            device=device,
            trust_remote_code=trust_remote_code,
            calibrated=False,
        )


def read_sources(
    paths: Sequence[str], checkpoint: str, warn: Callable[[str], None]
) -> list[SoupSource]:
    """The runs in ``paths``: run folders, or folders of runs.

    Raises:
        UsageError: There are fewer than two runs, one is listed twice or is not finished, two
            runs differ in base, task, labels, tokenizer or the settings of predictions, or a run
            has a component that cannot be folded.
    """
    folders = [run for path in paths for run in iter_finished_runs(Path(path).expanduser(), warn)]
    repeated, count = Counter(run.path.resolve() for run in folders).most_common(1)[0]
    if count > 1:
        raise UsageError(
            f"{display_path(repeated)} is listed twice", where="runs", hint="List each run once"
        )
    if len(folders) < 2:
        raise UsageError(
            f"an average needs at least two runs, and there is only {folders[0].path}",
            where="runs",
            hint="Add another run of the same base, or set run=<run> to merge one run",
        )
    names = _short_names([run.path for run in folders])
    sources = []
    for name, run in zip(names, folders, strict=True):
        folder = CheckpointStore(run.checkpoints_dir).find_checkpoint(checkpoint, warn=warn)
        digest = read_json_object(folder / FILES_JSON)["files"][_WEIGHTS]["sha256"]
        config = read_run_config(run.path)
        sources.append(SoupSource(name, run, config, read_manifest(run), folder, digest))
    _check_foldable(sources)
    _check_equal(sources)
    return sources


def _short_names(paths: Sequence[Path]) -> list[str]:
    """The last parts of each path that distinguish it from the others."""
    parts = [path.resolve().parts for path in paths]
    length = 1
    while len({name[-length:] for name in parts}) < len(parts):
        length += 1
    return ["/".join(name[-length:]) for name in parts]


def _check_foldable(sources: Sequence[SoupSource]) -> None:
    for source in sources:
        unfoldable = [
            component.name
            for component in build_components(source.config.method)
            if not component.foldable
        ]
        if unfoldable:
            raise UsageError(
                f"{source.name} has a {unfoldable[0]}, which cannot be folded into weights",
                where="runs",
                hint="Average runs without one",
            )


def _check_equal(sources: Sequence[SoupSource]) -> None:
    """UsageError if a run differs from the first one in what an average needs to be the same."""
    first = sources[0]
    for what, get_value in _EQUAL.items():
        for other in sources[1:]:
            one, two = get_value(first), get_value(other)
            if None not in (one, two) and one != two:
                texts = [_describe(one), _describe(two)]
                if get_value is _base_identity:  # hashes alone do not tell which models these are
                    names = [source.manifest["base"]["name"] for source in (first, other)]
                    texts = [f"{name} ({text})" for name, text in zip(names, texts, strict=True)]
                raise UsageError(
                    f"the runs have different {what}: {texts[0]} in {first.name},"
                    f" {texts[1]} in {other.name}",
                    where="runs",
                    hint=_HINTS.get(what, "Average runs in which they are the same"),
                )


def _base_identity(source: SoupSource) -> Mapping[str, Any]:
    """The sha256 of weights and configuration; for a base that is on the Hub alone, its commit."""
    base = source.manifest["base"]
    if base.get("sha256") is not None:
        return {name: base.get(name) for name in ("sha256", "config_sha256")}
    return {name: base.get(name) for name in ("load", "revision")}


def _prediction_settings(source: SoupSource) -> Mapping[str, Any]:
    names = TASKS.implementation(source.manifest["task"], "task_class").prediction_settings
    return {f"data.{name}": getattr(source.config.data, name) for name in names}


_EQUAL: Mapping[str, Callable[[SoupSource], Any]] = {
    "base models": _base_identity,
    "tasks": lambda source: source.manifest["task"],
    "labels": lambda source: source.manifest["labels"],
    "tokenizers": lambda source: source.manifest.get("tokenizer"),
    "values of data.max_length": lambda source: source.manifest["max_length"],
    "settings of prediction": _prediction_settings,
}
_HINTS = {
    "base models": "Average runs that were trained from the same weights",
    "labels": "Train them with the same data.labels=[...]: the outputs must have the same order",
}


def _describe(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {str(entry)[:12]}" for name, entry in value.items())
    return format_list(value, 6) if isinstance(value, list) else shorten(str(value))


def folded_weights(loaded: LoadedModel, where: str) -> dict[str, Tensor]:
    """All tensors of the model on the CPU after its components are folded, which changes it.

    MergeError if a weight is not finite.
    """
    loaded.task_model.fold()
    name = first_non_finite_parameter(loaded.task_model.model)
    if name is not None:
        raise MergeError(
            f"{name} is not finite after folding",
            where=where,
            hint="Nothing was written. Leave out this run",
        )
    with torch.no_grad():
        return {
            name: tensor.detach().cpu().clone()
            for name, tensor in loaded.task_model.model.state_dict().items()
        }
