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

from bertft.assembly.features import features_of, key_parts, unlabelled_features
from bertft.assembly.head_settings import HeadSettings
from bertft.assembly.manifest import hardware
from bertft.assembly.opened import open_saved
from bertft.assembly.saved import Saved
from bertft.config.messages import listing
from bertft.config.regular_file import read_regular_text
from bertft.data.classes import placeholders
from bertft.data.features import tokenizer_hash
from bertft.data.joined import JoinedTable
from bertft.data.keys import feature_key
from bertft.data.logits import StoredLogits, find_logits, keep_logits
from bertft.data.order import evaluation_batches
from bertft.data.rows import Rows
from bertft.data.sources import Splits
from bertft.data.table import FeatureTable
from bertft.errors import DataError, UsageError
from bertft.methods.distill.part import Distill
from bertft.methods.distill.teacher import Live, Remembered, Teacher
from bertft.models.load import downloaded, longest_input
from bertft.models.source import find, local_folder, weights_digest
from bertft.models.trained_head import reorder_outputs
from bertft.runs.files import sha256
from bertft.tasks.task import BaseTask
from bertft.training.evaluate import outputs_of, predict_logits, token_budget

__all__ = ["Hired", "digest_of", "hire", "open_teacher"]

_WHERE = "method.distill.teacher"
_VERSION = 1  # raise it whenever the same teacher should answer the same rows otherwise


@dataclass
class Hired:
    """``teacher`` is what steps ask; ``model`` is there where it runs in them.

    ``validation`` is what its ``scores`` there are made of, None without validation rows; ``speed``
    its rows a second, None where they were measured on another machine. ``rows`` and ``batches``
    count the forward passes that were needed before the first step. ``tuned``: the teacher has a
    threshold of its own, which ``scores``, made as the student's are, do not use.
    """

    path: str
    digest: str
    teacher: Teacher
    model: Any
    parameters: int
    validation: np.ndarray | None
    scores: dict[str, float] | None
    speed: float | None
    rows: int
    batches: int
    tuned: bool = False

    def forwards(self) -> dict[str, int]:
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
    trust: bool = False,
    cached_only: bool = False,
) -> Saved:
    """The teacher, its outputs in the order of the student's classes.

    UsageError, naming both, where its task or classes are not the student's.
    """
    folder = Path(path).expanduser()
    if not folder.is_dir():
        folder = downloaded(find(path, setting=_WHERE), _WHERE, cached_only)
    # A teacher that does not say them has the student's task, and the classes of data.labels.
    said = HeadSettings(task.name, task.config.labels, "data.", strict=False)
    saved = open_saved(
        str(folder), precision=precision, device=device, said=said, trust=trust,
        trust_setting="model.trust_remote_code",
    )  # fmt: skip
    if saved.facts.task != task.name:
        raise UsageError(
            f"the teacher {path} was trained for {saved.facts.task}, the student is for"
            f" {task.name}", where=_WHERE, hint="Give a teacher of the same task",
        )  # fmt: skip
    theirs, mine = saved.facts.labels or [], task.labels or []
    if theirs == mine:
        return saved
    if not reorder_outputs(saved.adapted.model, theirs, mine):
        hint = "Give a teacher that knows the same classes"
        if placeholders(theirs):
            hint = "Name its outputs in their order: data.labels=[...]"
        raise UsageError(
            f"the teacher's labels are {listing(theirs, 8)}, the student's {listing(mine, 8)}: they"
            " are not the same", where=_WHERE, hint=hint,
        )  # fmt: skip
    saved.adapted.head_note = (
        f"its classes are in another order ({listing(theirs, 8)}): its outputs are reordered"
    )
    saved.facts = replace(saved.facts, labels=list(mine))
    return saved


def hire(
    path: str,
    saved: Saved,
    part: Distill,
    task: BaseTask,
    tokenizer: Any,
    max_length: int,
    splits: Splits,
    features: Mapping[str, FeatureTable],
    cache: Path,
    say: Callable[[str], None],
) -> Hired:
    """Have ``saved`` answer where no answers are kept; ``say`` is told what that takes, before.

    Raises UsageError where it cannot read what the student reads, DataError where it answers with
    what is no number, EnvironmentFailed where the answers cannot be kept.
    """
    settings = part.settings
    desk = _Desk(saved, task, cache if settings.cache == "disk" else None, say)
    length = desk.length(tokenizer, max_length, part.looks_inside or task.level == "token")
    own = None if length is None else _tables(splits, task, saved, length, cache, features)
    tables = own or features
    train = [each for each in (splits.train, splits.unlabelled) if each is not None]
    live = part.looks_inside or settings.cache == "off" or not task.fixed_inputs
    if live:
        theirs = None if own is None else _joined(own, splits)
        asked: Teacher = Live(saved.adapted.runner, theirs, saved.adapted.precision)
    else:
        table = _joined(tables, splits)
        asked = Remembered(desk.answers("training", table, train, length or max_length))
    validation = scores = speed = None
    if splits.validation is not None and "validation" in features:
        if task.fixed_inputs:
            stored = desk.answers(
                "validation", tables["validation"], [splits.validation], length or max_length
            )
            validation, speed = stored.whole(), desk.speed(stored)
        else:
            validation, speed = desk.outputs(tables["validation"])
        scores = task.all_metrics(validation, features["validation"])
    model = saved.adapted.model
    return Hired(
        path, desk.digest, asked, model if live else None,
        sum(each.numel() for each in model.parameters()),
        validation, scores, speed, desk.rows, desk.batches, saved.threshold is not None,
    )  # fmt: skip


class _Desk:
    """Where the teacher answers whole tables. Counts what it was run on."""

    def __init__(
        self, saved: Saved, task: BaseTask, cache: Path | None, say: Callable[[str], None]
    ) -> None:
        self.saved, self.task, self.cache, self.say = saved, task, cache, say
        self.digest = digest_of(saved)
        self.machine = hardware(saved.adapted.precision.device)
        self.rows = self.batches = 0

    def length(self, tokenizer: Any, max_length: int, exact: bool) -> int | None:
        """The longest input of features of the teacher's own; None: the student's serve.

        ``exact``: token stands against token, so that only the student's will do.
        """
        adapted = self.saved.adapted
        taken = sum(part.positions for part in adapted.parts)
        longest = longest_input(adapted.model.config, adapted.tokenizer) - taken
        same = tokenizer_hash(adapted.tokenizer) == tokenizer_hash(tokenizer)
        if same and max_length <= longest:
            return None
        if exact and not same:
            raise UsageError(
                f"the teacher's tokenizer is {_told(adapted.tokenizer)}, the student's"
                f" {_told(tokenizer)}: their tokens do not correspond", where=_WHERE,
                hint="Take a student with the teacher's tokenizer; only the answers to whole"
                " sequences can be learnt across tokenizers",
            )  # fmt: skip
        if exact:
            raise UsageError(
                f"{max_length} tokens are more than the teacher takes", where="data.max_length",
                hint=f"Set data.max_length={longest} or less",
            )  # fmt: skip
        return min(self.saved.facts.max_length, longest)

    def answers(
        self, what: str, table: FeatureTable, rows: Sequence[Rows], max_length: int
    ) -> StoredLogits:
        """Logits over ``table``, the features of ``rows``."""
        adapted = self.saved.adapted
        lengths = table.lengths if self.task.level == "token" else None
        parts = key_parts(self.task, adapted.tokenizer, max_length)
        content = [_VERSION, [feature_key(each, parts) for each in rows], self.digest]
        text = json.dumps([*content, adapted.precision.name])
        key = hashlib.sha256(text.encode()).hexdigest()
        found = find_logits(self.cache, key, lengths) if self.cache is not None else None
        if found is not None:
            return found
        width = int(getattr(adapted.model.config, "num_labels", 1))
        size = width * 4 * (len(table) if lengths is None else int(lengths.sum()))
        place = "in memory" if self.cache is None else f"under {self.cache / 'teacher'}"
        count = sum(map(len, rows))
        windows = "" if count == len(table) else f" in {len(table):,} windows"
        where = f"{size / 1e6:,.2f} MB {place}"
        self.say(f"the teacher answers {count:,} {what} rows{windows}: {where}")
        start = time.perf_counter()
        values = predict_logits(adapted.runner, table, adapted.precision)
        seconds = time.perf_counter() - start
        if not np.isfinite(values).all():
            raise DataError(
                f"the teacher's logits on {what} rows are not finite", where=_WHERE,
                hint="Was its training stable? trainer.precision=fp32 may help",
            )  # fmt: skip
        self._count(table)
        facts = {"rows": len(table), "seconds": seconds, "machine": self.machine}
        if self.cache is None:
            return StoredLogits(values, lengths, facts)
        return keep_logits(self.cache, key, values, lengths, facts)

    def outputs(self, table: FeatureTable) -> tuple[np.ndarray, float]:
        """What is scored of inputs that are drawn, as in any evaluation, and rows a second.

        They are not kept: they depend on the draw as well, and their logits would be vast.
        """
        adapted, start = self.saved.adapted, time.perf_counter()
        values = outputs_of(adapted.runner, self.task, table, adapted.precision)
        self._count(table)
        return values, len(table) / max(time.perf_counter() - start, 1e-9)

    def _count(self, table: FeatureTable) -> None:
        budget = token_budget(self.saved.adapted.precision.device)
        self.rows += len(table)
        self.batches += len(evaluation_batches(np.asarray(table.lengths), budget))

    def speed(self, stored: StoredLogits) -> float | None:
        """Rows a second, where they were measured on this machine."""
        if stored.facts.get("machine") != self.machine:
            return None
        return float(stored.facts["rows"] / max(stored.facts["seconds"], 1e-9))


def _joined(tables: Mapping[str, FeatureTable], splits: Splits) -> FeatureTable:
    assert splits.train is not None
    if splits.unlabelled is None:
        return tables["train"]
    return JoinedTable(tables["train"], tables["unlabelled"], len(splits.train))


def _tables(
    splits: Splits,
    task: BaseTask,
    saved: Saved,
    length: int,
    cache: Path,
    features: Mapping[str, FeatureTable],
) -> dict[str, FeatureTable]:
    """The rows as the teacher's tokenizer has them, a feature where the student has one.

    DataError where the teacher reads nothing of a row that the student reads: its answers would be
    those to other rows.
    """
    tokenizer = saved.adapted.tokenizer
    # Rows that are left out are counted with the student's features.
    rows = {
        name: replace(each, skipped=Counter(each.skipped), every=None)
        for name, each in splits.items()
        if name in features
    }
    unlabelled = rows.pop("unlabelled", None)
    tables = features_of(rows, task, tokenizer, length, cache, "skip")
    if unlabelled is not None:
        tables["unlabelled"] = unlabelled_features(
            unlabelled, task, tokenizer, length, cache, "skip"
        )
    for name, table in tables.items():
        differing = np.flatnonzero(table.has_feature() != features[name].has_feature())
        if len(differing):
            where = table.rows.where(int(differing[0]))
            raise DataError(
                f"of {len(differing):,} {name} rows, this the first, either the teacher or the"
                " student reads nothing", where=where,
                hint="Remove them, or set data.max_length so that both read all rows",
            )  # fmt: skip
    return tables


def digest_of(saved: Saved) -> str:
    """sha256 over whatever decides the teacher's answers, wherever it lies."""
    folder = local_folder(saved.adapted.source)
    config = json.loads(saved.adapted.model.config.to_json_string())
    for name in ("_name_or_path", "transformers_version"):
        config.pop(name, None)
    beside = folder / "bertft.json" if folder is not None and saved.run is None else None
    if beside is not None and beside.is_file():  # the settings of a prefix that merge put there
        config["bertft"] = read_regular_text(beside)
    said: list[Any] = [None if folder is None else weights_digest(folder), config]
    if saved.checkpoint is not None and saved.config is not None:
        said.append(sha256(saved.checkpoint / "adapter.safetensors"))
        said.append(asdict(saved.config.method))
        if saved.adapted.runner.temperature is not None:
            said.append(saved.adapted.runner.temperature)
    return hashlib.sha256(json.dumps(said, sort_keys=True, default=str).encode()).hexdigest()


def _told(tokenizer: Any) -> str:
    return f"{type(tokenizer).__name__} of {len(tokenizer):,} tokens"
