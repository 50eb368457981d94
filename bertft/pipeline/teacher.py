"""Open the teacher of a run, check it against the student, and compute its outputs.

    open_teacher       loads a run of any method, a transformers folder with a head, or a Hub id
    prepare_teachers   reads the outputs from the cache, or computes them

The cache key covers everything that the outputs depend on: rows, tokenizer, max_length, the order
of the labels, the teacher's weights and method, and its precision.
"""

from __future__ import annotations

import copy
import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bertft.config.method_components.distill import DistillConfig
from bertft.data.batch import evaluation_batches
from bertft.data.features import FeatureTable, feature_key
from bertft.data.labels import are_placeholder_names
from bertft.data.rows import Rows
from bertft.distill.cached_logits import CachedLogits, load_cached_logits, store_logits
from bertft.distill.component import compares_inner_states
from bertft.distill.teachers import (
    AveragedTeacher,
    CachedTeacher,
    OnlineTeacher,
    StagedTeacher,
    Teacher,
)
from bertft.errors import DataError, UsageError
from bertft.models.head import reorder_outputs
from bertft.models.loading import download_model
from bertft.models.source import find_model_source, local_model_folder, weights_digest
from bertft.pipeline.head_settings import HeadSettings
from bertft.pipeline.loaded_model import LoadedModel
from bertft.pipeline.manifest import describe_hardware
from bertft.pipeline.model_info import INFO_FILE
from bertft.pipeline.open_model import open_model
from bertft.pipeline.teacher_features import build_teacher_features, teacher_feature_length
from bertft.pipeline.training_table import StudentData, join_training_table
from bertft.tasks.feature_tables import feature_key_parts
from bertft.tasks.task import BaseTask, Threshold
from bertft.training.evaluate import evaluation_outputs, predict_logits, token_budget
from bertft.utils.messages import expand_home, format_list
from bertft.utils.safe_files import file_sha256, read_regular_text

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = [
    "TeacherContext",
    "open_teacher",
    "prepare_teachers",
    "teacher_digest",
]

_SETTING = "method.distill.teacher"
_VERSION = 1  # increase it when the outputs of a teacher for the same rows change


@dataclass
class TeacherContext:
    """One or more teachers that are ready for training.

    Attributes:
        paths, digests: of each teacher.
        teacher: returns the logits for a batch, which are the mean of several teachers.
        model: the model of the first teacher, if it runs in steps; None if its outputs are cached.
        validation_outputs: outputs that ``metrics`` are computed from; None without validation
            rows.
        metrics: with the tuned threshold of the teacher, if it has one.
        rows_per_second: None if it was measured on another machine.
        rows, batches: forward passes before the first step.
    """

    paths: list[str]
    digests: list[str]
    teacher: Teacher
    model: PreTrainedModel | None
    parameter_count: int
    validation_outputs: np.ndarray | None
    metrics: dict[str, float] | None
    rows_per_second: float | None
    rows: int
    batches: int

    @property
    def path(self) -> str:
        """Folder or Hub id of the first teacher."""
        return self.paths[0]

    def count_forwards(self) -> dict[str, int]:
        """Rows and batches that the teacher has run in this process."""
        return {
            "rows": self.rows + self.teacher.rows,
            "batches": self.batches + self.teacher.batches,
        }


def open_teacher(
    path: str,
    task: BaseTask,
    precision: str,
    device: str,
    trust_remote_code: bool = False,
    cached_only: bool = False,
) -> LoadedModel:
    """Load the teacher and put its outputs in the order of the student's classes.

    Args:
        task: the task of the student.
        cached_only: whether downloads are disabled.

    Raises:
        UsageError: the teacher has another task or other classes than ``task``.
    """
    folder = expand_home(path, _SETTING)
    if not folder.is_dir():
        folder = download_model(find_model_source(path, setting=_SETTING), _SETTING, cached_only)
    # If the folder does not describe its head, the task and the classes of the student are used.
    head_settings = HeadSettings(task.name, task.config.labels, "data.", strict=False)
    loaded = open_model(
        str(folder),
        precision=precision,
        device=device,
        head_settings=head_settings,
        trust_remote_code=trust_remote_code,
        trust_setting="model.trust_remote_code",
    )
    if loaded.info.task != task.name:
        raise UsageError(
            f"the teacher {path} was trained for {loaded.info.task}, but the task of the student is"
            f" {task.name}",
            where=_SETTING,
            hint="Choose a teacher of the same task",
        )
    teacher_labels, student_labels = loaded.info.labels or [], task.class_names or []
    if teacher_labels == student_labels:
        return loaded
    if not reorder_outputs(loaded.task_model.model, teacher_labels, student_labels):
        hint = "Choose a teacher with the same classes"
        if are_placeholder_names(teacher_labels):
            hint = "Name its outputs in their order: data.labels=[...]"
        raise UsageError(
            f"the labels of the teacher ({format_list(teacher_labels, 8)}) are not those of the"
            f" student ({format_list(student_labels, 8)})",
            where=_SETTING,
            hint=hint,
        )
    loaded.task_model.head_note = (
        f"its classes are in another order ({format_list(teacher_labels, 8)}):"
        " its outputs are reordered"
    )
    loaded.info = replace(loaded.info, labels=list(student_labels))
    if task.name == "classification" and isinstance(loaded.threshold, float):
        loaded.threshold = 1 - loaded.threshold  # it is a probability of the second of two classes
    return loaded


def prepare_teachers(
    teachers: Mapping[str, LoadedModel],
    settings: DistillConfig,
    student: StudentData,
    log: Callable[[str], None],
) -> TeacherContext:
    """Compute the outputs of each teacher, unless they are cached or computed in every step.

    Args:
        teachers: folder or Hub id, for the manifest and messages → teacher. Inner states are those
            of the first.
        log: called before a teacher runs over many rows.

    Raises:
        UsageError: a teacher does not support the tokenizer or the length of the student.
        DataError: its outputs are not finite.
        SystemResourceError: its outputs cannot be written to the cache.
    """
    contexts: list[TeacherContext] = []
    for path, loaded in teachers.items():
        gives_inner_states = compares_inner_states(settings) and not contexts
        contexts.append(_prepare_teacher(path, loaded, settings, student, log, gives_inner_states))
    return contexts[0] if len(contexts) == 1 else _average_teachers(contexts, student)


def _average_teachers(contexts: Sequence[TeacherContext], student: StudentData) -> TeacherContext:
    outputs = metrics = rows_per_second = None
    all_outputs = [context.validation_outputs for context in contexts]
    if all_outputs[0] is not None:
        outputs = np.mean([values for values in all_outputs if values is not None], axis=0)
        metrics = student.task.compute_all_metrics(outputs, student.features["validation"])
    speeds = [context.rows_per_second for context in contexts]
    if None not in speeds:
        rows_per_second = 1 / sum(1 / speed for speed in speeds if speed is not None)
    return TeacherContext(
        [context.path for context in contexts],
        [digest for context in contexts for digest in context.digests],
        AveragedTeacher([context.teacher for context in contexts]),
        contexts[0].model,
        sum(context.parameter_count for context in contexts),
        outputs,
        metrics,
        rows_per_second,
        sum(context.rows for context in contexts),
        sum(context.batches for context in contexts),
    )


def _prepare_teacher(
    path: str,
    loaded: LoadedModel,
    settings: DistillConfig,
    student: StudentData,
    log: Callable[[str], None],
    needs_inner_states: bool,
) -> TeacherContext:
    task, features, splits = student.task, student.features, student.splits
    cache = student.cache if settings.cache == "disk" else None
    teacher_runner = _TeacherRunner(loaded, task, cache, log)
    teacher_length = teacher_feature_length(
        loaded,
        student.tokenizer,
        student.max_length,
        # The copies of a row are tokens, not text.
        token_aligned=needs_inner_states or task.level == "token" or settings.augment > 0,
    )
    teacher_tables = (
        None if teacher_length is None else build_teacher_features(loaded, student, teacher_length)
    )
    tables, length = teacher_tables or features, teacher_length or student.max_length
    training = student.training
    if teacher_tables is not None:
        training = join_training_table(teacher_tables, splits)
    is_cached = settings.cache != "off" and task.has_fixed_inputs
    if needs_inner_states and not settings.inner_fraction:
        is_cached = False  # the pass that gives the inner states gives the logits, too
    is_online = needs_inner_states or not is_cached
    teacher_table = None if teacher_tables is None else training.features
    online = OnlineTeacher(loaded.task_model.runner, teacher_table, loaded.task_model.precision)
    teacher: Teacher = online
    if is_cached:
        logits = teacher_runner.cached_logits(
            "training", training.features, training.rows, length, training.copies_key
        )
        teacher = CachedTeacher(logits)
        if is_online:
            teacher = StagedTeacher(online, teacher)
    outputs = metrics = rows_per_second = None
    if splits.validation is not None and "validation" in features:
        if task.has_fixed_inputs:
            validation_rows = [splits.validation]
            cached = teacher_runner.cached_logits(
                "validation", tables["validation"], validation_rows, length
            )
            outputs, rows_per_second = cached.read_all(), teacher_runner.rows_per_second(cached)
        else:
            outputs, rows_per_second = teacher_runner.compute_outputs(tables["validation"])
        metrics = _with_threshold(task, loaded.threshold).compute_all_metrics(
            outputs, features["validation"]
        )
    model = loaded.task_model.model
    return TeacherContext(
        [path],
        [teacher_runner.digest],
        teacher,
        model if is_online else None,
        sum(parameter.numel() for parameter in model.parameters()),
        outputs,
        metrics,
        rows_per_second,
        teacher_runner.rows,
        teacher_runner.batches,
    )


def _with_threshold(task: BaseTask, threshold: Threshold | None) -> BaseTask:
    """A copy of ``task`` that predicts with ``threshold``; ``task`` if that is None."""
    if threshold is None:
        return task
    copied = copy.copy(task)
    copied.set_threshold(threshold)
    return copied


class _TeacherRunner:
    """Runs the teacher over whole tables and counts its forward passes."""

    def __init__(
        self, loaded: LoadedModel, task: BaseTask, cache: Path | None, log: Callable[[str], None]
    ) -> None:
        self.loaded, self.task, self.cache, self.log = loaded, task, cache, log
        self.digest = teacher_digest(loaded)
        self.machine = describe_hardware(loaded.task_model.precision.device)
        self.rows = self.batches = 0

    def cached_logits(
        self,
        split_name: str,
        table: FeatureTable,
        rows: Sequence[Rows],
        max_length: int,
        copies_key: str | None = None,
    ) -> CachedLogits:
        """The logits for ``table``, the features of ``rows``; computed unless they are cached.

        ``copies_key``: of the augmented copies of the rows that ``table`` contains, too.
        """
        task_model = self.loaded.task_model
        lengths = table.lengths if self.task.level == "token" else None
        key_parts = feature_key_parts(self.task, task_model.tokenizer, max_length)
        keys = [feature_key(split, key_parts) for split in rows]
        if copies_key is not None:
            keys.append(copies_key)
        text = json.dumps([_VERSION, keys, self.digest, task_model.precision.name])
        key = hashlib.sha256(text.encode()).hexdigest()
        cached = load_cached_logits(self.cache, key, lengths) if self.cache is not None else None
        if cached is not None:
            return cached
        width = int(getattr(task_model.model.config, "num_labels", 1))
        size = width * 4 * (len(table) if lengths is None else int(lengths.sum()))
        location = "in memory" if self.cache is None else f"under {self.cache / 'teacher'}"
        count = sum(map(len, rows))
        windows = "" if count == len(table) else f" in {len(table):,} windows"
        if copies_key is not None:
            windows = f" and {len(table) - count:,} augmented copies"
        self.log(
            f"computing the teacher's outputs for {count:,} {split_name} rows{windows}:"
            f" {size / 1e6:,.2f} MB {location}"
        )
        start = time.perf_counter()
        values = predict_logits(task_model.runner, table, task_model.precision)
        seconds = time.perf_counter() - start
        if not np.isfinite(values).all():
            raise DataError(
                f"the teacher's logits for {split_name} rows are not finite",
                where=_SETTING,
                hint="Check the training of the teacher; trainer.precision=fp32 may help",
            )
        self._count_forwards(table)
        metadata = {"rows": len(table), "seconds": seconds, "machine": self.machine}
        if self.cache is None:
            return CachedLogits(values, lengths, metadata)
        return store_logits(self.cache, key, values, lengths, metadata)

    def compute_outputs(self, table: FeatureTable) -> tuple[np.ndarray, float]:
        """Evaluation outputs for randomly masked inputs, and rows per second.

        They are not cached: they depend on the masking, and the logits of all tokens are large.
        """
        task_model, start = self.loaded.task_model, time.perf_counter()
        values = evaluation_outputs(task_model.runner, self.task, table, task_model.precision)
        self._count_forwards(table)
        return values, len(table) / max(time.perf_counter() - start, 1e-9)

    def _count_forwards(self, table: FeatureTable) -> None:
        budget = token_budget(self.loaded.task_model.precision.device)
        self.rows += len(table)
        self.batches += len(evaluation_batches(np.asarray(table.lengths), budget))

    def rows_per_second(self, cached: CachedLogits) -> float | None:
        """The speed at which ``cached`` was computed; None if another machine computed it."""
        if cached.metadata.get("machine") != self.machine:
            return None
        return float(cached.metadata["rows"] / max(cached.metadata["seconds"], 1e-9))


def teacher_digest(loaded: LoadedModel) -> str:
    """sha256 over everything that the teacher's outputs depend on, without its path."""
    folder = local_model_folder(loaded.task_model.source)
    config = json.loads(loaded.task_model.model.config.to_json_string())
    for name in ("_name_or_path", "transformers_version"):
        config.pop(name, None)
    if folder is not None and loaded.run is None and (folder / INFO_FILE).is_file():
        config["bertft"] = read_regular_text(folder / INFO_FILE)  # settings of a prefix
    content: list[Any] = [None if folder is None else weights_digest(folder), config]
    if loaded.checkpoint is not None and loaded.config is not None:
        content.append(file_sha256(loaded.checkpoint / "adapter.safetensors"))
        content.append(asdict(loaded.config.method))
        if loaded.task_model.runner.temperature is not None:
            content.append(loaded.task_model.runner.temperature)
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()
