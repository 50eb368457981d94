"""The whole objective in a step: micro-batches add up, rows without labels, projections."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification
from transformers import BertConfig as Config

from bertft.config.data import DataConfig
from bertft.config.loss import LossConfig
from bertft.config.method_components.distill import DistillConfig
from bertft.config.trainer import TrainerConfig
from bertft.data.batch import collate, split_into_micro_batches
from bertft.data.features import ConcatFeatureTable, FeatureTable, make_record_batch
from bertft.distill import build
from bertft.distill.cached_logits import CachedLogits
from bertft.distill.component import needs_teacher
from bertft.distill.losses import inner_stage_steps
from bertft.distill.teachers import (
    AveragedTeacher,
    CachedTeacher,
    OnlineTeacher,
    StagedTeacher,
)
from bertft.errors import UsageError
from bertft.methods import collect_param_groups
from bertft.methods.base import NewModules
from bertft.models.precision import Precision
from bertft.models.runner import EncoderRunner
from bertft.tasks.classification import ClassificationTask as Classification
from bertft.tasks.shared.losses import LossOptions, cross_entropy_loss
from bertft.training import optim as adamw
from bertft.training.step import TrainStep

LENGTHS = [3, 9, 5, 7, 4, 6, 8]
NAMES = ["a", "b", "c"]
FP32 = Precision("fp32", torch.device("cpu"))
EVERYTHING = {
    "hidden_weight": 0.3, "attention_weight": 0.2, "relation_weight": 0.7, "weight": 0.6,
}  # fmt: skip


class Tagging(Classification):
    """A class for some of the tokens: -100 where there is none."""

    level = "token"

    def terms(self, batch):
        return int((batch.labels["labels"] != -100).sum())


HEADS = {
    Classification: AutoModelForSequenceClassification,
    Tagging: AutoModelForTokenClassification,
}


def table(lengths, level="sequence", labelled=True, seed=7):
    generator = np.random.default_rng(seed)
    columns = {
        "row": np.arange(len(lengths)),
        "input_ids": [generator.integers(5, 60, length).astype(np.int32) for length in lengths],
    }
    if labelled and level == "token":
        columns["labels"] = [generator.integers(0, 3, length) for length in lengths]
        for number, column in enumerate(columns["labels"]):
            column[number:] = -100
    elif labelled:
        columns["labels"] = generator.integers(0, 3, len(lengths))
    batch = make_record_batch(columns)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return FeatureTable(sink.getvalue())


def model(kind, width=12, layers=2, seed=0, heads=2):
    torch.manual_seed(seed)
    config = Config(
        vocab_size=60, hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads,
        intermediate_size=20, max_position_embeddings=32, initializer_range=0.3,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
        **kind(DataConfig(name="t"), NAMES).head_config(),
    )  # fmt: skip
    return HEADS[kind].from_config(config).double()


def stepper(kind=Classification, taught=None, teacher_width=16, layout="auto", **settings):
    """A student of width 12 and a teacher of four layers; ``taught``: its logits, or it is live."""
    task, student = kind(DataConfig(name="t"), NAMES), model(kind)
    component = build(DistillConfig(teacher="t", **settings), None, None)
    new = NewModules([name for name, _ in student.named_parameters()], 1e-2)
    new.attach(student)
    if taught is not None:
        component.bind_teacher(CachedTeacher(taught), student)
    else:
        teacher = model(kind, teacher_width, layers=4, seed=1)
        component.bind_teacher(
            OnlineTeacher(EncoderRunner(teacher, task.level, "padded"), None, FP32),
            student,
            teacher,
        )
    optimizer = adamw.build_optimizer(
        collect_param_groups([new, component], student), TrainerConfig()
    )
    runner = EncoderRunner(student, task.level, layout)
    precision = Precision("fp32", torch.device("cpu"))
    return TrainStep(runner, task, [new, component], optimizer, precision, None)


def cut(rows, size):
    return [
        collate(rows, indices, ("labels",))
        for indices in split_into_micro_batches(np.arange(len(rows)), size)
    ]


def gradients(made, batches):
    made.optimizer.zero_grad()
    loss, _, means = made.compute_gradients(batches)
    actual = [parameter.grad.clone() for parameter in made.parameters if parameter.grad is not None]
    return float(loss), actual, {name: float(mean) for name, mean in means.items()}


@pytest.mark.parametrize("size", [1, 2, 5])
@pytest.mark.parametrize("kind", [Classification, Tagging])
@pytest.mark.parametrize("layout", ["unpadded", "padded"])
def test_a_window_of_micro_batches_equals_one_batch(kind, size, layout):
    rows = table(LENGTHS, kind.level)
    made = stepper(kind, layout=layout, **EVERYTHING)
    loss, whole, losses = gradients(made, cut(rows, 7))
    assert set(losses) == {"hard", "soft", "hidden", "attention", "relation"}
    weights = made.objective.weights
    assert loss == pytest.approx(sum(weights[name] * value for name, value in losses.items()))
    assert weights["hard"] == pytest.approx(0.4)
    found_loss, actual, found_losses = gradients(made, cut(rows, size))
    assert found_loss == pytest.approx(loss, rel=1e-12)
    assert found_losses == pytest.approx(losses, rel=1e-12)
    for one, other in zip(actual, whole, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-10)
    outcome = made(cut(rows, size), 1, 10)
    assert outcome.applied and outcome.losses == pytest.approx(losses, rel=1e-12)


@pytest.mark.parametrize("size", [7, 2])
def test_rows_without_labels_learn_from_the_teacher_alone(size):
    """Rows 4 to 6 have no labels: the hard loss is that of the first four, the soft one of all."""
    first, second = table(LENGTHS[:4]), table(LENGTHS[4:], labelled=False, seed=8)
    joined, taught = (
        ConcatFeatureTable(first, second, 4),
        np.random.default_rng(0).normal(size=(7, 3)),
    )
    made = stepper(taught=CachedLogits(taught, None, {}), weight=0.25, temperature=3.0)
    order = np.array([5, 0, 6, 3, 4, 2, 1])
    batches = [
        collate(joined, indices, ("labels",)) for indices in split_into_micro_batches(order, size)
    ]
    loss, _, losses = gradients(made, batches)
    with torch.no_grad():
        batch = collate(joined, np.arange(7), ())
        logits = made.runner(batch)
    labels = torch.from_numpy(first.gather("labels", np.arange(4)))
    hard = torch.nn.functional.cross_entropy(logits[:4], labels)
    p = torch.from_numpy(taught).div(3).softmax(1)
    soft = 9 * (p * (p.log() - logits.div(3).log_softmax(1))).sum() / 7
    assert losses == pytest.approx({"hard": float(hard), "soft": float(soft)}, rel=1e-12)
    assert loss == pytest.approx(0.75 * float(hard) + 0.25 * float(soft), rel=1e-12)


@pytest.mark.parametrize("size", [7, 2])
def test_the_loss_of_the_labels_can_be_shaped(size):
    """It alone: what is learnt from the teacher stays as it was."""
    first, second = table(LENGTHS[:4]), table(LENGTHS[4:], labelled=False, seed=8)
    joined, taught = (
        ConcatFeatureTable(first, second, 4),
        np.random.default_rng(0).normal(size=(7, 3)),
    )
    made = stepper(taught=CachedLogits(taught, None, {}), weight=0.25)
    batches = [
        collate(joined, indices, ("labels",))
        for indices in split_into_micro_batches(np.arange(7), size)
    ]
    _, _, plain = gradients(made, batches)
    made.task.configure_loss(LossConfig([3.0, 0.5, 1.0], 0.1, 2.0), first)
    loss, _, losses = gradients(made, batches)
    with torch.no_grad():
        logits = made.runner(collate(joined, np.arange(4), ()))
    labels = torch.from_numpy(first.gather("labels", np.arange(4)))
    shape = LossOptions(torch.tensor([3.0, 0.5, 1.0], dtype=torch.float64), 0.1, 2.0)
    hard = float(cross_entropy_loss(logits, labels, shape)) / 4
    assert losses == pytest.approx({"hard": hard, "soft": plain["soft"]}, rel=1e-12)
    assert loss == pytest.approx(0.75 * hard + 0.25 * plain["soft"], rel=1e-12)


def test_answers_that_are_remembered_teach_as_the_live_teacher_does():
    rows = table(LENGTHS)
    live = stepper(weight=0.5)
    with torch.no_grad():
        taught = live.objective.teacher(collate(rows, np.arange(7), ())).numpy()
    made = stepper(taught=CachedLogits(taught, None, {}), weight=0.5)
    one, other = gradients(live, cut(rows, 3)), gradients(made, cut(rows, 3))
    assert one[0] == pytest.approx(other[0], rel=1e-12)
    for mine, theirs in zip(one[1], other[1], strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-12)
    assert (live.objective.teacher.rows, live.objective.teacher.batches) == (14, 4)
    assert made.objective.teacher.rows == 0


def test_several_teachers_give_the_mean_of_their_logits():
    rows, generator = table(LENGTHS), np.random.default_rng(0)
    taught = [generator.normal(size=(7, 3)) for _ in range(2)]
    made, expected = stepper(weight=0.5), stepper(weight=0.5)
    online = made.objective.teacher
    with torch.no_grad():
        live = online(collate(rows, np.arange(7), ())).numpy()
    logits = (*taught, (live + sum(taught)) / 3)
    cached = [CachedTeacher(CachedLogits(values, None, {})) for values in logits]
    online.rows = 0
    made.objective.teacher = AveragedTeacher([online, *cached[:2]])
    expected.objective.teacher = cached[2]
    one, other = gradients(made, cut(rows, 3)), gradients(expected, cut(rows, 3))
    assert one[0] == pytest.approx(other[0], rel=1e-12)
    for mine, theirs in zip(one[1], other[1], strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-12)
    assert made.objective.teacher.rows == online.rows == 7


def test_inner_states_are_those_of_the_first_of_several_teachers():
    rows, inner = table(LENGTHS), {"hidden_weight": 1.0, "weight": 0.0, "hard_weight": 0.0}
    made, expected = stepper(**inner), stepper(**inner)
    others = CachedTeacher(CachedLogits(np.ones((7, 3)), None, {}))
    made.objective.teacher = AveragedTeacher([made.objective.teacher, others])
    assert gradients(made, cut(rows, 3))[2] == gradients(expected, cut(rows, 3))[2]


def test_two_stages_first_the_inner_states_then_the_outputs():
    """Each stage has the losses and gradients of an objective that has only these losses."""
    rows = table(LENGTHS)
    taught = np.random.default_rng(0).normal(size=(7, 3))
    inner = {name: EVERYTHING[name] for name in ("hidden_weight", "attention_weight")}
    made = stepper(inner_fraction=0.5, **inner)
    online = made.objective.teacher
    made.objective.teacher = StagedTeacher(online, CachedTeacher(CachedLogits(taught, None, {})))
    reference = {
        "first": stepper(weight=0.0, hard_weight=0.0, **inner),
        "second": stepper(taught=CachedLogits(taught, None, {})),
    }
    for step, stage, names in (
        (2, "first", {"hidden", "attention"}),
        (3, "second", {"hard", "soft"}),
    ):
        made.objective.begin_step(step, 5)  # ⌊0.5 · 5⌋ = 2 steps are in the first stage
        assert made.objective.trains_outputs == (stage == "second")
        assert made.components[1].is_eligible(step, 5) == (stage == "second")
        actual, expected = gradients(made, cut(rows, 3)), gradients(reference[stage], cut(rows, 3))
        assert set(actual[2]) == names and actual[2] == pytest.approx(expected[2], rel=1e-12)
        assert actual[0] == pytest.approx(expected[0], rel=1e-12)
        assert len(actual[1]) == len(expected[1])
        for mine, theirs in zip(actual[1], expected[1], strict=True):
            torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-12)
    assert online.rows == 7  # in the first stage only


def test_steps_of_both_stages_train_what_their_losses_depend_on():
    rows = table(LENGTHS)
    made = stepper(inner_fraction=0.5, hidden_weight=1.0)
    head = made.runner.model.classifier.weight
    projection = made.components[1].projections[0].weight
    before = head.clone()
    result = made(cut(rows, 4), 1, 2)
    assert result.applied and np.isnan(made.label_loss(result)) and head.equal(before)
    trained = projection.clone()
    result = made(cut(rows, 4), 2, 2)
    assert set(result.losses) == {"hard", "soft"} and not head.equal(before)
    assert made.label_loss(result) == result.losses["hard"] and projection.equal(trained)


@pytest.mark.parametrize(
    ("fraction", "steps", "expected"), [(0.0, 9, 0), (0.5, 5, 2), (0.9, 1, 0), (0.99, 1000, 990)]
)
def test_the_last_step_is_always_in_the_second_stage(fraction, steps, expected):
    assert inner_stage_steps(fraction, steps) == expected


def test_projections_train_are_kept_and_are_none_where_widths_match():
    rows = table(LENGTHS)
    made = stepper(**EVERYTHING)
    component = made.components[1]
    assert [tuple(projection.weight.shape) for projection in component.projections] == [
        (16, 12)
    ] * 3
    assert component.parameter_counts(None) == {"trainable": 3 * 16 * 12, "kept": 0, "exported": 0}
    before = {name: tensor.clone() for name, tensor in component.state_dict().items()}
    assert len(before) == 3 and made(cut(rows, 3), 1, 10).applied
    after = component.state_dict()
    assert all(not after[name].equal(tensor) for name, tensor in before.items())
    again = stepper(**EVERYTHING).components[1]
    again.load_state_dict(after)
    assert all(again.state_dict()[name].equal(tensor) for name, tensor in after.items())
    assert "exp_avg/distill.0.weight" in adamw.optimizer_state(made.optimizer)
    same = stepper(teacher_width=12, **EVERYTHING).components[1]
    assert same.state_dict() == {} and len(same.projections) == 0


def test_a_teacher_is_frozen_and_keeps_its_own_dropout_off():
    teacher = model(Classification)
    live = OnlineTeacher(EncoderRunner(teacher, "sequence"), None, FP32)
    assert not teacher.training and not any(
        parameter.requires_grad for parameter in teacher.parameters()
    )
    logits = live(collate(table(LENGTHS), np.arange(7), ()))
    assert not logits.requires_grad


@pytest.mark.parametrize(
    ("settings", "where"),
    [
        ({"attention_weight": 1.0}, "method.distill.attention_weight"),
        ({"relation_weight": 1.0, "relation_heads": 5}, "method.distill.relation_heads"),
        ({"relation_weight": 1.0, "relation_layer": 4}, "method.distill.relation_layer"),
        ({"hidden_weight": 1.0, "layer_map": [0, 4]}, "method.distill.layer_map"),
    ],
)
def test_inner_states_that_cannot_be_compared(settings, where):
    student = model(Classification)
    teacher = model(Classification, 16, layers=4, heads=4)
    component = build(DistillConfig(teacher="t", **settings), None, None)
    live = OnlineTeacher(EncoderRunner(teacher, "sequence"), None, FP32)
    with pytest.raises(UsageError) as caught:
        component.bind_teacher(live, student, teacher)
    assert caught.value.where == where


def test_without_a_teacher_the_tasks_own_loss_is_all():
    component = build(DistillConfig(weight=0.0), None, None)
    assert (
        not needs_teacher(component.settings)
        and component.objective(None) is None
        and component.state_dict() == {}
    )
