"""Build the model of a run: the base with its head and components, and the teacher, if any."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bertft.data.cache import cache_folder
from bertft.models.loading import head_parameters, output_layer
from bertft.models.model_config import read_model_config
from bertft.pipeline.data import RunData
from bertft.pipeline.run_context import RunContext
from bertft.pipeline.task_model import TaskModel, build_task_model
from bertft.pipeline.teacher import TeacherContext
from bertft.pipeline.training_table import StudentData
from bertft.training.random_state import seed_all
from bertft.utils.status import show_status

__all__ = ["RunModel", "build_model"]


@dataclass(frozen=True)
class RunModel:
    """The model of a run and its teacher; None for a method without one."""

    task_model: TaskModel
    teacher: TeacherContext | None


def build_model(context: RunContext, data: RunData) -> RunModel:
    """Load the model and attach the components.

    The order of the steps must not change, because each draws from the random generator: new layers
    of the head, components, projections of the distillation, the task's initialization of the head.
    """
    config, task, base, distillation = context.config, data.task, data.base, data.distillation
    student = StudentData(
        task,
        base.tokenizer,
        data.max_length,
        data.splits,
        data.features,
        data.training_table,
        cache_folder(config.data.cache),
    )
    with context.distributed.main_process_first():  # the others find its outputs in the cache
        teacher = distillation.prepare(student, context.log)
    context.set_threads()  # opening a run as the teacher sets its number of threads
    seed_all(config.seed)
    show_status(f"loading model {base.source.name}")
    task_model = build_task_model(
        base.source,
        config.model,
        data.components,
        task,
        base.tokenizer,
        context.precision,
        model_config=base.config,
        layout=context.manifest["layout"] if context.manifest else config.trainer.layout,
        fused_layers=config.trainer.fused_layers,
        gradient_checkpointing=config.trainer.gradient_checkpointing,
        compiled=config.trainer.compile,
        base_config=lambda: _config_of_base(context, data),
    )
    family = task_model.runner.family
    if family.runs_rows_alone:
        context.log(
            f"padding would change the outputs of a {family.model_type} model: rows run one at a"
            " time, which is slower"
        )
    # A checkpoint has a trained head, and a student the head of its teacher.
    has_trained_head = context.checkpoint is not None or distillation.builds_student
    if context.checkpoint is None:
        _log_notes(context, task_model, has_trained_head)
    distillation.bind_teacher(task_model, teacher)
    if config.calibrate == "temperature":
        # UsageError if the temperature could not be folded later
        hint = "Leave it out: there is nothing to fold a temperature into"
        output_layer(task_model.model, "calibrate", hint)
    if not has_trained_head:
        head = head_parameters(task_model.model)
        new = {name: head[name] for name in head if name in task_model.randomly_initialized}
        task.init_head(new, data.features["train"])
    return RunModel(task_model, teacher)


def _config_of_base(context: RunContext, data: RunData) -> dict[str, Any]:
    """The content of the base's config.json, without the settings of the run."""
    return read_model_config(data.base.source, context.config.model.trust_remote_code).to_dict()


def _log_notes(context: RunContext, task_model: TaskModel, has_trained_head: bool) -> None:
    source, task = task_model.source, task_model.task
    if task_model.head_note and not has_trained_head:
        context.log(f"{source.name}: {task_model.head_note}")
    head = head_parameters(task_model.model).keys()
    is_new = bool(task_model.new_parameters & head)
    untrained = head & set(task_model.randomly_initialized)
    if context.config.trainer.max_steps == 0 and untrained and task.trains_new_head:
        context.log(
            f"the head of {source.name} for {task.name} is new: without training, its scores are"
            " at chance level"
        )
    if not task.trains_new_head and is_new:
        context.log(
            f"{source.name} has no head for {task.name}: it is initialized randomly, and its first"
            " scores are at chance level"
        )
