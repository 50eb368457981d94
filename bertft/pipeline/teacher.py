"""The teacher of a run: opened, checked against the student, and asked once.

open_teacher    a run of any method, a transformers folder with a head, a Hub id
hire            its answers to the training rows, found in the cache or given now

Answers are kept under everything that they depend on: rows, tokenizer, max_length, the order of
the labels, the teacher's weights and method, and the precision it computes in.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from bertft.data.batch import evaluation_batches
from bertft.data.cached_logits import CachedLogits, load_cached_logits, store_logits
from bertft.data.features import ConcatFeatureTable, FeatureTable, feature_key, tokenizer_hash
from bertft.data.labels import are_placeholder_names
from bertft.data.rows import Rows
from bertft.data.splits import Splits
from bertft.distill.component import Distillation
from bertft.distill.teachers import CachedTeacher, OnlineTeacher, Teacher
from bertft.errors import DataError, UsageError
from bertft.models.head import reorder_outputs
from bertft.models.loading import download_model, max_input_length
from bertft.models.source import find_model_source, local_model_folder, weights_digest
from bertft.pipeline.head_settings import HeadSettings
from bertft.pipeline.loaded_model import LoadedModel
from bertft.pipeline.manifest import describe_hardware
from bertft.pipeline.open_model import open_model
from bertft.tasks.task import BaseTask, build_features, build_unlabelled_features, feature_key_parts
from bertft.training.evaluate import evaluation_outputs, predict_logits, token_budget
from bertft.utils.messages import format_list
from bertft.utils.safe_files import file_sha256, read_regular_text

__all__ = ["TeacherContext", "open_teacher", "prepare_teacher", "teacher_digest"]

_SETTING = "method.distill.teacher"
_VERSION = 1  # raise it whenever the same teacher should answer the same rows otherwise


@dataclass
class TeacherContext:
    """``teacher`` is what steps ask; ``model`` is there where it runs in them.

    ``validation_outputs`` is what its ``metrics`` there are made of, None without validation rows;
    ``rows_per_second`` its rows a second, None where they were measured on another machine.
    ``rows`` and ``batches`` count the forward passes that were needed before the first step.
    ``tuned``: the teacher has a threshold of its own, which ``metrics``, made as the student's are,
    do not use.
    """

    path: str
    digest: str
    teacher: Teacher
    model: Any
    parameter_count: int
    validation_outputs: np.ndarray | None
    metrics: dict[str, float] | None
    rows_per_second: float | None
    rows: int
    batches: int
    tuned: bool = False

    def count_forwards(self) -> dict[str, int]:
        """Rows and batches that the teacher has run on in this process."""
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
    """The teacher, its outputs in the order of the student's classes.

    UsageError, naming both, where its task or classes are not the student's.
    """
    folder = Path(path).expanduser()
    if not folder.is_dir():
        folder = download_model(find_model_source(path, setting=_SETTING), _SETTING, cached_only)
    # A teacher that does not say them has the student's task, and the classes of data.labels.
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
            f"the teacher {path} was trained for {loaded.info.task}, the student is for"
            f" {task.name}",
            where=_SETTING,
            hint="Give a teacher of the same task",
        )
    teacher_labels, student_labels = loaded.info.labels or [], task.class_names or []
    if teacher_labels == student_labels:
        return loaded
    if not reorder_outputs(loaded.task_model.model, teacher_labels, student_labels):
        hint = "Give a teacher that knows the same classes"
        if are_placeholder_names(teacher_labels):
            hint = "Name its outputs in their order: data.labels=[...]"
        raise UsageError(
            f"the teacher's labels are {format_list(teacher_labels, 8)}, the student's"
            f" {format_list(student_labels, 8)}: they"
            " are not the same",
            where=_SETTING,
            hint=hint,
        )
    loaded.task_model.head_note = (
        f"its classes are in another order ({format_list(teacher_labels, 8)}):"
        " its outputs are reordered"
    )
    loaded.info = replace(loaded.info, labels=list(student_labels))
    return loaded


def prepare_teacher(
    path: str,
    loaded: LoadedModel,
    component: Distillation,
    task: BaseTask,
    tokenizer: Any,
    max_length: int,
    splits: Splits,
    features: Mapping[str, FeatureTable],
    cache: Path,
    log: Callable[[str], None],
) -> TeacherContext:
    """Have ``loaded`` answer where no answers are kept; ``log`` is told what that takes, before.

    Raises UsageError where it cannot read what the student reads, DataError where it answers with
    what is no number, EnvironmentFailed where the answers cannot be kept.
    """
    settings = component.settings
    teacher_runner = _TeacherRunner(loaded, task, cache if settings.cache == "disk" else None, log)
    length = teacher_runner.feature_length(
        tokenizer, max_length, component.compares_inner_states or task.level == "token"
    )
    teacher_tables = (
        None if length is None else _teacher_features(splits, task, loaded, length, cache, features)
    )
    tables = teacher_tables or features
    train_rows = [each for each in (splits.train, splits.unlabelled) if each is not None]
    is_online = (
        component.compares_inner_states or settings.cache == "off" or not task.has_fixed_inputs
    )
    if is_online:
        teacher_table = None if teacher_tables is None else _join_unlabelled(teacher_tables, splits)
        teacher: Teacher = OnlineTeacher(
            loaded.task_model.runner, teacher_table, loaded.task_model.precision
        )
    else:
        table = _join_unlabelled(tables, splits)
        teacher = CachedTeacher(
            teacher_runner.cached_logits("training", table, train_rows, length or max_length)
        )
    validation = metrics = rows_per_second = None
    if splits.validation is not None and "validation" in features:
        if task.has_fixed_inputs:
            stored = teacher_runner.cached_logits(
                "validation", tables["validation"], [splits.validation], length or max_length
            )
            validation, rows_per_second = stored.read_all(), teacher_runner.rows_per_second(stored)
        else:
            validation, rows_per_second = teacher_runner.compute_outputs(tables["validation"])
        metrics = task.compute_all_metrics(validation, features["validation"])
    model = loaded.task_model.model
    return TeacherContext(
        path,
        teacher_runner.digest,
        teacher,
        model if is_online else None,
        sum(each.numel() for each in model.parameters()),
        validation,
        metrics,
        rows_per_second,
        teacher_runner.rows,
        teacher_runner.batches,
        loaded.threshold is not None,
    )


class _TeacherRunner:
    """Where the teacher answers whole tables. Counts what it was run on."""

    def __init__(
        self, loaded: LoadedModel, task: BaseTask, cache: Path | None, log: Callable[[str], None]
    ) -> None:
        self.loaded, self.task, self.cache, self.log = loaded, task, cache, log
        self.digest = teacher_digest(loaded)
        self.machine = describe_hardware(loaded.task_model.precision.device)
        self.rows = self.batches = 0

    def feature_length(self, tokenizer: Any, max_length: int, token_aligned: bool) -> int | None:
        """The longest input of features of the teacher's own; None: the student's serve.

        ``token_aligned``: token stands against token, so that only the student's will do.
        """
        task_model = self.loaded.task_model
        reserved_positions = sum(part.reserved_positions for part in task_model.components)
        longest = (
            max_input_length(task_model.model.config, task_model.tokenizer) - reserved_positions
        )
        same_tokenizer = tokenizer_hash(task_model.tokenizer) == tokenizer_hash(tokenizer)
        if same_tokenizer and max_length <= longest:
            return None
        if token_aligned and not same_tokenizer:
            raise UsageError(
                f"the teacher's tokenizer is {_describe_tokenizer(task_model.tokenizer)}, the"
                " student's"
                f" {_describe_tokenizer(tokenizer)}: their tokens do not correspond",
                where=_SETTING,
                hint="Take a student with the teacher's tokenizer; only the answers to whole"
                " sequences can be learnt across tokenizers",
            )
        if token_aligned:
            raise UsageError(
                f"{max_length} tokens are more than the teacher takes",
                where="data.max_length",
                hint=f"Set data.max_length={longest} or less",
            )
        return min(self.loaded.info.max_length, longest)

    def cached_logits(
        self, split_name: str, table: FeatureTable, rows: Sequence[Rows], max_length: int
    ) -> CachedLogits:
        """Logits over ``table``, the features of ``rows``."""
        task_model = self.loaded.task_model
        lengths = table.lengths if self.task.level == "token" else None
        parts = feature_key_parts(self.task, task_model.tokenizer, max_length)
        content = [_VERSION, [feature_key(each, parts) for each in rows], self.digest]
        text = json.dumps([*content, task_model.precision.name])
        key = hashlib.sha256(text.encode()).hexdigest()
        cached = load_cached_logits(self.cache, key, lengths) if self.cache is not None else None
        if cached is not None:
            return cached
        width = int(getattr(task_model.model.config, "num_labels", 1))
        size = width * 4 * (len(table) if lengths is None else int(lengths.sum()))
        location = "in memory" if self.cache is None else f"under {self.cache / 'teacher'}"
        count = sum(map(len, rows))
        windows = "" if count == len(table) else f" in {len(table):,} windows"
        where = f"{size / 1e6:,.2f} MB {location}"
        self.log(f"the teacher answers {count:,} {split_name} rows{windows}: {where}")
        start = time.perf_counter()
        values = predict_logits(task_model.runner, table, task_model.precision)
        seconds = time.perf_counter() - start
        if not np.isfinite(values).all():
            raise DataError(
                f"the teacher's logits on {split_name} rows are not finite",
                where=_SETTING,
                hint="Was its training stable? trainer.precision=fp32 may help",
            )
        self._count_forwards(table)
        facts = {"rows": len(table), "seconds": seconds, "machine": self.machine}
        if self.cache is None:
            return CachedLogits(values, lengths, facts)
        return store_logits(self.cache, key, values, lengths, facts)

    def compute_outputs(self, table: FeatureTable) -> tuple[np.ndarray, float]:
        """What is scored of inputs that are drawn, as in any evaluation, and rows a second.

        They are not kept: they depend on the draw as well, and their logits would be vast.
        """
        task_model, start = self.loaded.task_model, time.perf_counter()
        values = evaluation_outputs(task_model.runner, self.task, table, task_model.precision)
        self._count_forwards(table)
        return values, len(table) / max(time.perf_counter() - start, 1e-9)

    def _count_forwards(self, table: FeatureTable) -> None:
        budget = token_budget(self.loaded.task_model.precision.device)
        self.rows += len(table)
        self.batches += len(evaluation_batches(np.asarray(table.lengths), budget))

    def rows_per_second(self, stored: CachedLogits) -> float | None:
        """Rows a second, where they were measured on this machine."""
        if stored.metadata.get("machine") != self.machine:
            return None
        return float(stored.metadata["rows"] / max(stored.metadata["seconds"], 1e-9))


def _join_unlabelled(tables: Mapping[str, FeatureTable], splits: Splits) -> FeatureTable:
    assert splits.train is not None
    if splits.unlabelled is None:
        return tables["train"]
    return ConcatFeatureTable(tables["train"], tables["unlabelled"], len(splits.train))


def _teacher_features(
    splits: Splits,
    task: BaseTask,
    loaded: LoadedModel,
    length: int,
    cache: Path,
    features: Mapping[str, FeatureTable],
) -> dict[str, FeatureTable]:
    """The rows as the teacher's tokenizer has them, a feature where the student has one.

    DataError where the teacher reads nothing of a row that the student reads: its answers would be
    those to other rows.
    """
    tokenizer = loaded.task_model.tokenizer
    # Rows that are left out are counted with the student's features.
    rows = {
        name: replace(each, skipped=Counter(each.skipped), all_errors=None)
        for name, each in splits.items()
        if name in features
    }
    unlabelled = rows.pop("unlabelled", None)
    tables = build_features(rows, task, tokenizer, length, cache, "skip")
    if unlabelled is not None:
        tables["unlabelled"] = build_unlabelled_features(
            unlabelled, task, tokenizer, length, cache, "skip"
        )
    for name, table in tables.items():
        differing = np.flatnonzero(
            table.rows_with_features() != features[name].rows_with_features()
        )
        if len(differing):
            where = table.rows.location(int(differing[0]))
            raise DataError(
                f"of {len(differing):,} {name} rows, this the first, either the teacher or the"
                " student reads nothing",
                where=where,
                hint="Remove them, or set data.max_length so that both read all rows",
            )
    return tables


def teacher_digest(loaded: LoadedModel) -> str:
    """sha256 over whatever decides the teacher's answers, wherever it lies."""
    folder = local_model_folder(loaded.task_model.source)
    config = json.loads(loaded.task_model.model.config.to_json_string())
    for name in ("_name_or_path", "transformers_version"):
        config.pop(name, None)
    info_file = folder / "bertft.json" if folder is not None and loaded.run is None else None
    if (
        info_file is not None and info_file.is_file()
    ):  # the settings of a prefix that merge put there
        config["bertft"] = read_regular_text(info_file)
    content: list[Any] = [None if folder is None else weights_digest(folder), config]
    if loaded.checkpoint is not None and loaded.config is not None:
        content.append(file_sha256(loaded.checkpoint / "adapter.safetensors"))
        content.append(asdict(loaded.config.method))
        if loaded.task_model.runner.temperature is not None:
            content.append(loaded.task_model.runner.temperature)
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def _describe_tokenizer(tokenizer: Any) -> str:
    return f"{type(tokenizer).__name__} of {len(tokenizer):,} tokens"
