"""Rules: settings that are valid individually but contradict each other, and values of type Any.

A rule takes ``get`` (path → value, None below a null group) and yields a ``Problem`` for each
violation. ``COMMAND_RULES`` has the rules of each command; each module here defines the rules of
one group of settings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from bertft.config.registry import METHODS
from bertft.config.rules import classes, cross_validate, data, method, model, runs, trainer, tune
from bertft.config.schema import GetSetting
from bertft.utils.messages import Problem

__all__ = ["COMMAND_RULES", "GetSetting"]

Rule = Callable[[GetSetting], Iterator[Problem]]


def _iter_method_rules() -> Iterator[Rule]:
    """The rules of the method components."""
    for name, component in METHODS.specs().items():
        if component.rules is not None:
            yield from METHODS.implementation(name, "rules")


_RULES_OF_RUNS: tuple[Rule, ...] = (
    *method.METHOD_RULES,
    *_iter_method_rules(),
    *trainer.TRAINER_RULES,
    *model.MODEL_RULES,
    *data.DATA_RULES,
    *classes.CLASS_RULES,
    data.check_training_file,
    data.check_metric_direction,
    data.check_files_exist,
    runs.check_resume,
    runs.check_dry_run,
)
_TRAIN_RULES: tuple[Rule, ...] = (*_RULES_OF_RUNS, data.check_folds)

COMMAND_RULES: dict[str, tuple[Rule, ...]] = {
    "train": _TRAIN_RULES,
    "tune": (*_TRAIN_RULES, *tune.TUNE_RULES),
    "cross_validate": (*_RULES_OF_RUNS, *cross_validate.CROSS_VALIDATE_RULES),
    "eval": (
        *data.DATA_RULES,
        runs.check_eval_model,
        runs.check_checkpoint_name,
        *trainer.DEVICE_RULES,
    ),
    "merge": (
        runs.check_merged_model,
        runs.check_merged_prefix,
        runs.check_checkpoint_name,
        trainer.check_device,
    ),
    "export": (
        runs.check_merged_model,
        runs.check_export_format,
        runs.check_checkpoint_name,
        trainer.check_device,
    ),
    "predict": (
        runs.check_opened_model,
        data.check_predict_rows,
        runs.check_checkpoint_name,
        *trainer.DEVICE_RULES,
    ),
    "verify": (),
    "report": (trainer.check_device,),
    "compare": (runs.check_compared_runs, trainer.check_device),
    "init": (data.check_init_files,),
    "inspect": (
        *model.MODEL_RULES,
        *data.DATA_RULES,
        data.check_inspected_files,
        data.check_files_exist,
    ),
    "doctor": (trainer.check_device,),
}
