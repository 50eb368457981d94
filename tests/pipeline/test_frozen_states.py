"""trainer.cache_frozen: when states are stored, under which key, and what is reported."""

from __future__ import annotations

import dataclasses
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from bertft.config.compose import ComposeRequest, compose_config, to_dataclass
from bertft.data import stored_states
from bertft.errors import SystemResourceError, UsageError
from bertft.models.families import encoder_layers
from bertft.pipeline import frozen_states
from bertft.pipeline.build import prepare_run
from bertft.pipeline.frozen_states import use_frozen_states
from bertft.pipeline.run_context import RunContext
from bertft.runs.run_folder import RunFolder
from bertft.training.step import Schedule, build_step_batch

WORDS = (
    "data=files", "data.train=train.csv", "data.validation=validation.csv", "trainer.epochs=1",
    "trainer.batch_size=8", "trainer.threads=1", "trainer.precision=fp32",
)  # fmt: skip
VECTOR_BYTES = 64 * 4


class Run:
    """A prepared run that begins, without its folder, in any cache."""

    def __init__(self, folder: Path, *words: str) -> None:
        request = ComposeRequest(
            "train", (*WORDS, *words, f"hydra.run.dir={folder / 'run'}", f"data.cache={folder}")
        )
        config = to_dataclass("train", compose_config(request))
        self.context = RunContext.create(config, RunFolder(folder / "run"), lambda line: None)
        self.prepared = prepare_run(self.context)
        self.runner = self.prepared.model.task_model.runner
        self.calls: list[int] = []
        for layer in encoder_layers(self.runner.model):
            layer.register_forward_pre_hook(lambda _, args: self.calls.append(args[0].numel()))

    def begin(self, cache: Path, setting: Any = "auto", manifest: Any = None) -> bool:
        self.runner.frozen = None
        for table in self.prepared.data.features.values():
            table.frozen_states = None
        config, self.lines = self.context.config, list[str]()
        trainer = dataclasses.replace(config.trainer, cache_frozen=setting)
        data = dataclasses.replace(config.data, cache=str(cache))
        config = dataclasses.replace(config, trainer=trainer, data=data)
        context = dataclasses.replace(
            self.context, config=config, manifest=manifest, log=self.lines.append
        )
        self.calls.clear()
        return use_frozen_states(context, self.prepared)

    def with_steps(self, steps: int) -> Run:
        """The run with another number of steps."""
        optimization = dataclasses.replace(
            self.prepared.optimization, schedule=Schedule(steps, 0.0, "linear")
        )
        other = object.__new__(Run)
        vars(other).update(vars(self))
        other.prepared = dataclasses.replace(self.prepared, optimization=optimization)
        return other

    @property
    def batch(self):
        training, train_step = self.prepared.data.training, self.prepared.optimization.train_step
        indices = training.sampler.epoch_batches(0)[0]
        [batch] = build_step_batch(
            training.train, 0, indices, 8, train_step.task, 0, train_step.distributed
        ).micro_batches
        return batch


@pytest.fixture(scope="module")
def prepare(tmp_path_factory) -> Any:
    """``prepare(*words)``: a run of one base, prepared once per module."""
    folder, runs = tmp_path_factory.mktemp("runs"), dict[tuple[str, ...], Run]()
    for name, count in (("train", 24), ("validation", 16)):
        rows = (
            f"the film was {'good' if n % 2 else 'bad'} {'very ' * (n % 9)},{n % 2}\n"
            for n in range(count)
        )
        (folder / f"{name}.csv").write_text(f"text,label\n{''.join(rows)}", encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        # model=tiny draws other weights for each seed.
        task_model = Run(folder, "model=tiny", "method=head").prepared.model.task_model
        task_model.model.base_model.save_pretrained(folder / "base")
        task_model.tokenizer.save_pretrained(folder / "base")

        def get(*words: str, base: str = "base") -> Run:
            key = (base, *words)
            if key not in runs:
                runs[key] = Run(folder, f"model.path={base}", *words)
            return runs[key]

        yield get


HEAD, LAST = "method=head", ("method=last_k", "method.base.last_k=1")


def stored(cache: Path) -> set[str]:
    return {path.name for path in (cache / "frozen").glob("*.arrow")}


def test_a_second_seed_computes_no_layer(prepare, tmp_path):
    first, second = prepare(HEAD), prepare(HEAD, "seed=5", "trainer.learning_rate=0.1")
    assert first.begin(tmp_path) and len(stored(tmp_path)) == 2
    [line] = first.lines
    assert re.fullmatch(
        r"the output of 2 frozen layers is computed once for 40 rows: 10\.2 kB under .*frozen;"
        r" dropout in them is off", line
    )  # fmt: skip
    files = stored(tmp_path)
    assert second.begin(tmp_path)
    [line] = second.lines
    assert re.fullmatch(
        r"the output of 2 frozen layers is read from .*frozen; dropout in them is off", line
    )
    # Two layers, twice, for the two rows that check that they can be skipped.
    assert len(second.calls) == 4 and max(second.calls) < 64 * 64
    second.calls.clear()
    assert second.batch.frozen_states.shape == (8, 64)
    assert second.prepared.optimization.train_step([second.batch], 1, 3).applied
    assert second.calls == [] and stored(tmp_path) == files


@pytest.mark.parametrize(
    "words",
    [
        (HEAD, "trainer.precision=bf16"),
        (HEAD, "trainer.layout=padded"),
        (HEAD, "trainer.fused_layers=false"),
        (HEAD, "data.max_length=6"),
        LAST,
    ],
)
def test_the_key_contains_what_the_bits_depend_on(prepare, tmp_path, words):
    assert prepare(HEAD).begin(tmp_path)
    assert prepare(*words).begin(tmp_path, "true")
    assert len(stored(tmp_path)) == 4


def test_another_base_has_another_key(prepare, tmp_path, monkeypatch):
    run = prepare(HEAD)
    assert run.begin(tmp_path)
    model = run.runner.model
    monkeypatch.setattr(model.config, "layer_norm_eps", 1e-5)
    assert run.begin(tmp_path) and len(stored(tmp_path)) == 4
    bias = encoder_layers(model)[0].output.dense.bias
    monkeypatch.setattr(bias, "data", bias.data + 1)
    assert run.begin(tmp_path) and len(stored(tmp_path)) == 6
    monkeypatch.undo()
    run.runner.model.classifier.bias.data.add_(0.5)  # the head is none of it
    assert run.begin(tmp_path) and len(stored(tmp_path)) == 6


def check_off(run: Run) -> None:
    assert run.runner.frozen is None and run.batch.frozen_states is None


@pytest.mark.parametrize(
    ("words", "steps", "setting"),
    [
        (("method=lora",), 9, "auto"),
        (LAST, 9, "auto"),  # not one of those that auto is for
        ((HEAD,), 2, "auto"),  # two thirds of an epoch
        ((HEAD,), 0, "auto"),
        ((HEAD,), 9, False),
        ((HEAD,), 9, "false"),
    ],
)
def test_without_a_word_it_is_off(prepare, tmp_path, words, steps, setting):
    run = prepare(*words).with_steps(steps)
    assert not run.begin(tmp_path, setting)
    assert run.lines == [] and stored(tmp_path) == set()
    check_off(run)


@pytest.mark.parametrize(
    ("words", "steps", "reason"),
    [
        (("method=lora",), 9, r"encoder\.layer\.0\.attention.* is trained, and no layer below"),
        (("method=last_k", "method.base.last_k=2"), 9, r"encoder\.layer\.0\.\S+ is trained"),
        ((HEAD,), 0, "trainer.max_steps=0 trains nothing"),
    ],
)
def test_true_is_refused_with_a_reason(prepare, tmp_path, words, steps, reason):
    run = prepare(*words).with_steps(steps)
    with pytest.raises(UsageError, match=reason) as caught:
        run.begin(tmp_path, True)
    assert caught.value.where == "trainer.cache_frozen"
    assert caught.value.hint == "Set it to auto or false"
    check_off(run)


def test_true_is_refused_for_what_is_not_known_here(prepare, tmp_path, monkeypatch):
    run = prepare(HEAD)
    [head, *_] = run.prepared.model.task_model.components
    foreign = type("Foreign", (type(head),), {"__module__": "others.methods"})
    monkeypatch.setattr(head, "__class__", foreign)
    with pytest.raises(UsageError, match=r"Foreign comes from another package \(others\)"):
        run.begin(tmp_path, True)
    assert not run.begin(tmp_path)
    monkeypatch.undo()
    task = run.prepared.data.task
    random = type("Random", (type(task),), {"train_transform": lambda self, batch, seed: batch})
    monkeypatch.setattr(task, "__class__", random)
    with pytest.raises(UsageError, match="has different inputs in every epoch"):
        run.begin(tmp_path, True)
    monkeypatch.undo()
    monkeypatch.setattr(frozen_states, "skip_frozen_layers", lambda *_: None)
    with pytest.raises(UsageError, match="first 2 layers of a bert model cannot be separated"):
        run.begin(tmp_path, True)
    assert not run.begin(tmp_path) and run.lines == []


def test_low_rank_updates_of_upper_layers_leave_the_lower_ones_frozen(prepare, tmp_path):
    targets = "method.low_rank.targets=[layer.1.attention.self.query]"
    run = prepare("method=lora", targets)
    assert run.begin(tmp_path, True) and run.runner.frozen.count == 1
    batch = run.batch
    assert batch.frozen_states.shape == (len(batch.input_ids), 64)
    assert run.prepared.optimization.train_step([batch], 1, 3).applied


def test_auto_keeps_to_its_limit(prepare, tmp_path, monkeypatch):
    run = prepare(HEAD)
    monkeypatch.setattr(frozen_states, "AUTO_MAX_BYTES", 40 * VECTOR_BYTES - 1)
    assert not run.begin(tmp_path) and run.lines == []
    check_off(run)
    assert run.begin(tmp_path, True)
    monkeypatch.setattr(frozen_states, "AUTO_MAX_BYTES", 40 * VECTOR_BYTES)
    assert run.begin(tmp_path)


def fill_disk(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    usage = shutil.disk_usage(folder)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)


@pytest.mark.parametrize("when", ["before", "while writing"])
def test_a_full_disk(prepare, tmp_path, monkeypatch, when):
    run = prepare(HEAD)
    if when == "before":
        fill_disk(monkeypatch, tmp_path)
        problem = r"it takes 10\.2 kB, and .*frozen has 1\.0 kB free"
    else:

        def fail(columns: Any) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(stored_states, "make_record_batch", fail)
        problem = r".*frozen cannot be written \(No space left on device\)"
    with pytest.raises(SystemResourceError, match=f"cannot be stored: {problem}. Free disk space"):
        run.begin(tmp_path, True)
    assert not run.begin(tmp_path)
    assert len(run.lines) == {"before": 1, "while writing": 2}[when]
    assert re.fullmatch(f"the output of frozen layers is not stored: {problem}", run.lines[-1])
    assert list(tmp_path.glob("frozen/*")) == []
    check_off(run)
    assert run.prepared.optimization.train_step([run.batch], 1, 3).applied


def test_a_resumed_run_does_what_it_recorded(prepare, tmp_path, monkeypatch):
    run = prepare(HEAD)
    assert not run.begin(tmp_path, manifest={})
    assert not run.begin(tmp_path, manifest={"cache_frozen": False})
    assert run.with_steps(1).begin(tmp_path, manifest={"cache_frozen": True})
    before = run.batch.frozen_states
    shutil.rmtree(tmp_path / "frozen")
    assert run.begin(tmp_path, manifest={"cache_frozen": True})
    assert torch.equal(run.batch.frozen_states, before)
    shutil.rmtree(tmp_path / "frozen")
    fill_disk(monkeypatch, tmp_path)
    with pytest.raises(SystemResourceError, match="its results depend on them"):
        run.begin(tmp_path, manifest={"cache_frozen": True})
