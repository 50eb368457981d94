"""``trainer.cache_frozen``: compute the frozen layers once, for all epochs, seeds and jobs.

If nothing is trained in the embeddings and the first k layers, their states for each row are stored
in the cache, and training and evaluation begin with them. Dropout in these layers is off then: it
would need other states in every epoch.

The states are computed in the batches of an evaluation (``bertft.training.frozen_states``), so that
evaluations have the same bits with and without them: ``bertft eval`` computes all layers and
reproduces the metrics of the run. Their key contains everything that the bits depend on: tokens,
weights, configuration, number format, layout, hardware, threads, and versions of the libraries.

A run records whether it uses stored states. A resumed run does the same.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import bertft
from bertft.data.cache import cache_folder
from bertft.data.features import FeatureTable
from bertft.data.stored_states import (
    STATES_FOLDER,
    computing_states,
    load_states,
    store_states,
)
from bertft.distill.component import compares_inner_states
from bertft.errors import SystemResourceError, UsageError
from bertft.models.frozen_layers import count_frozen_layers
from bertft.pipeline.build import PreparedRun
from bertft.pipeline.manifest import describe_hardware, package_versions
from bertft.pipeline.run_context import RunContext
from bertft.tasks.task import BaseTask
from bertft.training.evaluate import token_budget
from bertft.training.frozen_states import compute_states, skip_frozen_layers, state_order
from bertft.utils.messages import display_path
from bertft.utils.numbers import format_bytes
from bertft.utils.status import show_status

__all__ = ["AUTO_MAX_BYTES", "use_frozen_states"]

AUTO_MAX_BYTES = 2 << 30  # cache_frozen=auto stores no more for a run
_RESERVED_BYTES = 1 << 28  # of the disk, which stay free
_WHERE = "trainer.cache_frozen"
_VERSION = 1  # raise it when the same rows and settings should give other states


def use_frozen_states(context: RunContext, prepared: PreparedRun) -> bool:
    """Let the run begin with stored states of its frozen layers, if the setting asks for it.

    ``auto`` does so if no layer is trained, each row is used at least once, and the states take at
    most ``AUTO_MAX_BYTES``. An existing run does what its manifest records.

    Returns:
        Whether the run uses stored states.

    Raises:
        UsageError: They are required, and the method, task or architecture does not support them.
        SystemResourceError: They are required, and there is no room for them.
    """
    setting = context.config.trainer.cache_frozen
    is_required = setting in (True, "true")
    if context.manifest is not None:
        is_required = bool(context.manifest.get("cache_frozen"))
        if not is_required:
            return False
    if setting in (False, "false"):
        return False
    model = prepared.model.task_model.model
    layer_count, lowest_trained = count_frozen_layers(model)
    problem = _find_problem(prepared, layer_count, lowest_trained)
    is_wanted = is_required or _is_worthwhile(prepared, layer_count)
    if problem is None and is_wanted:
        states = _FrozenStates(context, prepared, layer_count)
        if states.are_supported:
            return states.attach(is_required)
        problem = (
            f"the first {layer_count} layers of a {model.config.model_type} model cannot be"
            " separated from the others"
        )
    if not is_required:
        return False
    raise UsageError(
        f"the output of frozen layers cannot be stored: {problem}",
        where=_WHERE,
        hint="Set it to auto or false",
    )


def _is_worthwhile(prepared: PreparedRun, layer_count: int) -> bool:
    """Whether ``auto`` stores states: no layer is trained, and each row is used at least once."""
    schedule, sampler = prepared.optimization.schedule, prepared.data.training.sampler
    includes_all = layer_count == prepared.model.task_model.model.config.num_hidden_layers
    return includes_all and schedule.total_steps >= sampler.steps_per_epoch


def _find_problem(
    prepared: PreparedRun, layer_count: int, lowest_trained: str | None
) -> str | None:
    """Why the states of the frozen layers are not constant, or not known to be; None: they are."""
    task, task_model = prepared.data.task, prepared.model.task_model
    model, runner, components = task_model.model, task_model.runner, task_model.components
    if prepared.optimization.schedule.total_steps == 0:
        return "trainer.max_steps=0 trains nothing"
    if not layer_count:
        return f"{lowest_trained} is trained, and no layer below it is frozen"
    if not task.has_fixed_inputs or type(task).train_transform is not BaseTask.train_transform:
        return f"{task.name} has different inputs in every epoch"
    distill = prepared.data.distillation.settings
    if distill is not None and compares_inner_states(distill):
        return "method.distill compares the states of inner layers"
    if not runner.family.supports_layouts:
        return f"a {runner.family.model_type} model runs with padding"
    if runner.compiled and layer_count < model.config.num_hidden_layers:
        return "trainer.compile=true compiles all layers"
    for owner in (model, *components):  # such code may change lower layers in any way
        package = type(owner).__module__.partition(".")[0]
        if package not in ("bertft", "transformers"):
            return f"{type(owner).__name__} comes from another package ({package})"
    return None


class _FrozenStates:
    """The states of the tables of a run.

    Attributes:
        are_supported: whether passes of the model can begin with states.
    """

    def __init__(self, context: RunContext, prepared: PreparedRun, layer_count: int) -> None:
        self.context, self.layer_count = context, layer_count
        self.task_model, data = prepared.model.task_model, prepared.data
        self.runner, self.precision = self.task_model.runner, self.task_model.precision
        self.cache = cache_folder(context.config.data.cache)
        self.folder = display_path(self.cache / STATES_FOLDER)
        # The rows without labels are part of the training table.
        self.tables = {**data.features, "train": data.training.train}
        self.tables.pop("unlabelled", None)
        example = skip_frozen_layers(self.runner, layer_count, data.training.train, self.precision)
        self.are_supported = example is not None
        if example is None:
            return
        self._dtype, self._vector_bytes = example.dtype, example.shape[1] * example.itemsize
        self.orders = {
            name: state_order(self.runner, table, self.precision)
            for name, table in self.tables.items()
        }

    def attach(self, is_required: bool) -> bool:
        """Load the states or compute them, in the main process first.

        Returns:
            False if they are not required, and take too much room or cannot be written.
        """
        if not is_required and self._bytes(self.tables) > AUTO_MAX_BYTES:
            self.detach()
            return False
        distributed = self.context.distributed
        with distributed.main_process_first():  # the others find the states in the cache
            problem = self._load_or_compute()
        problem = next(filter(None, distributed.all_gather_objects([problem])), None)
        if problem is None:
            return True
        self.detach()
        if not is_required:
            self.context.log(f"the output of frozen layers is not stored: {problem}")
            return False
        hint = "Free disk space, or set data.cache=<folder> to another folder"
        if self.context.manifest is not None:
            hint += ". The run was started with stored states, and its results depend on them"
        raise SystemResourceError(
            f"the output of frozen layers cannot be stored: {problem}", where=_WHERE, hint=hint
        )

    def detach(self) -> None:
        """Let passes compute all layers."""
        self.runner.frozen = None
        for table in self.tables.values():
            table.frozen_states = None

    def _load_or_compute(self) -> str | None:
        """Set the states of all tables; return the problem if they cannot be stored."""
        show_status("reading the output of frozen layers", brief=True)
        keys = self._keys()
        if missing := self._load(self.tables, keys):
            with computing_states(self.cache):  # another process may have computed them meanwhile
                if missing := self._load(missing, keys):
                    return self._compute(missing, keys)
        self.context.log(
            f"the output of {self.layer_count} frozen layers is read from {self.folder}; dropout in"
            " them is off"
        )
        return None

    def _load(self, names: Collection[str], keys: Mapping[str, str]) -> list[str]:
        """Set the states that are stored; return the tables without stored ones."""
        for name in names:
            states = load_states(self.cache, keys[name], self.orders[name])
            self.tables[name].frozen_states = states
        return [name for name in names if self.tables[name].frozen_states is None]

    def _compute(self, missing: Sequence[str], keys: Mapping[str, str]) -> str | None:
        size, free = self._bytes(missing), _free_bytes(self.cache)
        if free is not None and free < size + _RESERVED_BYTES:
            return f"it takes {format_bytes(size)}, and {self.folder} has {format_bytes(free)} free"
        rows = sum(len(self.tables[name]) for name in missing)
        self.context.log(
            f"the output of {self.layer_count} frozen layers is computed once for {rows:,} rows:"
            f" {format_bytes(size)} under {self.folder}; dropout in them is off"
        )
        show_status(f"computing {self.layer_count} frozen layers", total=rows)
        for name in missing:
            table, order = self.tables[name], self.orders[name]
            with closing(compute_states(self.runner, table, self.precision)) as blocks:
                try:
                    states = store_states(self.cache, keys[name], blocks, self._dtype, order)
                except SystemResourceError as error:
                    return f"{error.where} {error.what}"
            table.frozen_states = states
        return None

    def _bytes(self, names: Iterable[str]) -> int:
        return sum(self.orders[name].vectors for name in names) * self._vector_bytes

    def _keys(self) -> dict[str, str]:
        """Table → key of its states."""
        runner, precision, device = self.runner, self.precision, self.precision.device
        assert runner.frozen is not None
        versions = package_versions()
        common = [
            _VERSION,
            bertft.__version__,
            [versions["torch"], versions["transformers"]],
            {**describe_hardware(device), "platform": None, "device": device.type},
            _config_of_layers(self.task_model.model.config.to_dict()),
            runner.frozen.digest(),
            self.layer_count,
            runner.level if runner.frozen.includes_all else None,
            runner.layout,
            precision.name,
            token_budget(device),
        ]
        return {
            name: hashlib.sha256(
                json.dumps([*common, tokens_digest(table)], sort_keys=True, default=str).encode()
            ).hexdigest()
            for name, table in self.tables.items()
        }


def tokens_digest(table: FeatureTable) -> str:
    """sha256 over the tokens of ``table``, which is all that a model reads of it."""
    digest = hashlib.sha256(table.lengths.tobytes())
    for name in ("input_ids", "token_type_ids"):
        if name in table.columns:
            digest.update(name.encode())
            for values in table.iter_chunks(name):
                digest.update(values.tobytes())
    return digest.hexdigest()


# Entries of a transformers config that only the head or a loss uses.
_HEAD_ENTRIES = frozenset(
    (
        "_name_or_path",
        "architectures",
        "dtype",
        "id2label",
        "label2id",
        "problem_type",
        "transformers_version",
    )
)


def _config_of_layers(config: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in config.items() if name not in _HEAD_ENTRIES}


def _free_bytes(folder: Path) -> int | None:
    """Free bytes of the disk with ``folder``; None if that is not known."""
    for candidate in (folder, *folder.parents):
        try:
            return shutil.disk_usage(candidate).free
        except OSError:
            continue
    return None
