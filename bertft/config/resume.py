"""The configuration of a resumed run: the recorded one, with the changes that are allowed.

A resumed run keeps its configuration, so that its result belongs to one configuration. Each setting
defines whether it can change (``setting(..., on_resume=...)``): the length of training can
increase, and the device and the output on the terminal can change. Every other setting on the
command line must equal the recorded one, so that the command that started a run can be repeated
with ``resume=auto``. ``trainer.stop_at`` belongs to one command: without it, the run is resumed to
its end.

A run folder may come from somebody else. Its configuration is therefore read as plain data.
``trust_remote_code`` and the cache folder are never read from it, only from the command line (and
$BERTFT_CACHE).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from bertft.config.command_configs import TrainConfig
from bertft.config.former_names import rename_settings
from bertft.config.registry import METHODS, OPTIMIZERS, RESERVED_METHOD_SETTINGS, TASKS
from bertft.config.schema import iter_leaves, settings_tree
from bertft.config.serialize import to_plain_dict
from bertft.config.validation import validate_config
from bertft.errors import DataError, UsageError
from bertft.utils.messages import Problem, first_line, usage_error
from bertft.utils.safe_files import DAMAGED_FILE_HINT, read_plain_yaml

__all__ = ["metric_code_error", "read_run_config", "read_runnable_config", "resume_config"]

_RESUME_HINT = "A resumed run keeps its configuration: leave the setting out, or start a new run"


def resume_config(
    folder: Path, requested: DictConfig, explicit_paths: Sequence[str]
) -> TrainConfig:
    """The configuration with which the run in ``folder`` is resumed.

    Args:
        folder: the run folder.
        requested: the composed configuration of the command line.
        explicit_paths: the settings that the command line sets; the name of a group means all
            settings in it.

    Raises:
        UsageError: lists every setting that cannot change.
        DataError: the run's configuration cannot be read.
    """
    run_config = _load_run_config(folder)
    run_config.resume, problems = requested.resume, []
    run_config.trainer.stop_at = None
    run_config.data.cache = requested.data.cache
    if run_config.model.trust_remote_code and not requested.model.trust_remote_code:
        raise _untrusted_code_error(folder, "model.trust_remote_code")
    for leaf in iter_leaves(settings_tree("train")):
        if leaf.path == "resume":
            continue
        # Of a setting of type Any, only the keys on the command line are compared.
        inside = [name for name in explicit_paths if name.startswith(f"{leaf.path}.")]
        values = {
            name: (_value(requested, leaf.path, name), _value(run_config, leaf.path, name))
            for name in inside
        }
        changed = [
            Problem(name, f"the run has {_as_setting(old)}, not {_as_setting(new)}", _RESUME_HINT)
            for name, (new, old) in values.items()
            if new != old
        ]
        if changed or not any(_is_at_or_below(name, leaf.path) for name in explicit_paths):
            problems += changed
            continue
        new, old = OmegaConf.select(requested, leaf.path), OmegaConf.select(run_config, leaf.path)
        if new == old or (
            leaf.path == "data.labels" and new is None and _has_named_labels(run_config)
        ):
            continue
        if leaf.path == "trainer.epochs" and old is None and run_config.trainer.max_steps is None:
            old = run_config.method.epochs
            if new == old:
                continue
        if leaf.on_resume == "change":
            OmegaConf.update(run_config, leaf.path, new)
        elif leaf.on_resume == "fixed" or new is None:
            what = f"the run has {_as_setting(old)}, not {_as_setting(new)}"
            problems.append(Problem(leaf.path, what, _RESUME_HINT))
        elif old is None:
            counted_in = "max_steps" if leaf.path == "trainer.epochs" else "epochs"
            problems.append(
                Problem(
                    leaf.path,
                    f"the run is configured with trainer.{counted_in}",
                    f"Set trainer.{counted_in}",
                )
            )
        elif new > old:
            OmegaConf.update(run_config, leaf.path, new)
        else:
            what = f"{new} is not larger than {old}, the value of the run"
            problems.append(Problem(leaf.path, what, _RESUME_HINT))
    if problems:
        raise usage_error(problems)
    config = OmegaConf.to_object(run_config)
    assert isinstance(config, TrainConfig)
    return config


def _as_setting(value: Any) -> str:
    """``value`` as it is written on the command line: null, true, [a,b]."""
    if OmegaConf.is_config(value):
        value = OmegaConf.to_container(value)
    if isinstance(value, list):
        return f"[{','.join(map(_as_setting, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {_as_setting(item)}' for key, item in value.items())}}}"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


def read_run_config(folder: Path) -> TrainConfig:
    """The recorded configuration of the run in ``folder``. DataError if it cannot be read.

    ``model.trust_remote_code`` is always false and ``data.cache`` always null.
    """
    config = OmegaConf.to_object(_load_run_config(folder))
    assert isinstance(config, TrainConfig)
    return replace(
        config,
        model=replace(config.model, trust_remote_code=False),
        data=replace(config.data, cache=None),
    )


def read_runnable_config(
    folder: Path, trust: bool, setting: str = "trust_remote_code"
) -> TrainConfig:
    """The recorded configuration, for loading the run's model.

    Raises UsageError if the model needs Python code of its repository and ``trust`` is false;
    ``setting`` is the setting that permits it.
    """
    recorded = bool(_load_run_config(folder).model.trust_remote_code)
    if recorded and not trust:
        raise _untrusted_code_error(folder, setting)
    config = read_run_config(folder)
    return replace(config, model=replace(config.model, trust_remote_code=recorded and trust))


def _has_named_labels(config: DictConfig) -> bool:
    """Whether the class names come from the name of a 0/1 column, not from the command line."""
    column = config.data.label
    return isinstance(column, str) and config.data.labels == [f"not {column}", column]


def metric_code_error(folder: Path, metric: str) -> UsageError:
    """The run in ``folder`` was trained with a Python function as its metric."""
    return UsageError(
        f"the run was trained with data.metric={metric}: computing it executes Python code",
        where=str(folder),
        hint=f"If you trust it, add data.metric={metric} (in Python, to overrides)",
    )


def _untrusted_code_error(folder: Path, setting: str) -> UsageError:
    return UsageError(
        "the run was trained with model.trust_remote_code=true: loading it executes Python code"
        " from the model's repository",
        where=str(folder),
        hint=f"If you trust the author, add {setting}=true",
    )


def _is_at_or_below(name: str, path: str) -> bool:
    return path == name or path.startswith(f"{name}.")


def _value(config: DictConfig, leaf: str, path: str) -> Any:
    """The value at ``path`` inside the setting ``leaf`` of type Any; None if there is none."""
    value = OmegaConf.select(config, leaf)
    for name in path.removeprefix(f"{leaf}.").split("."):
        value = value.get(name) if isinstance(value, DictConfig) else None
    return value


def _upgrade_old_settings(content: dict[str, Any]) -> None:
    """Add the settings that an older version did not have, with their effect at that time."""
    data = content.get("data")
    if isinstance(data, dict) and "max_skipped" not in data:
        data["max_skipped"] = 1.0  # any fraction of the rows could be skipped
        if data.get("quoting") is True:  # the default then, except for .tsv files
            data["quoting"] = None
    trainer = content.get("trainer")
    if isinstance(trainer, dict):
        trainer.setdefault("cache_frozen", False)


def _drop_unused_plugin_settings(content: dict[str, Any], file: Path) -> None:
    """Remove settings of packages that are not installed. DataError if the run uses one of them."""
    method = content.get("method")
    if isinstance(method, dict):
        known_names = {*METHODS.names(), *RESERVED_METHOD_SETTINGS}
        for name in [name for name in method if name not in known_names]:
            if method[name] is not None:
                METHODS.raise_missing(str(name), f"method.{name}", str(file))
            del method[name]
    for registry in (TASKS, OPTIMIZERS):
        group, _, key = registry.setting.partition(".")
        settings = content.get(group)
        name = settings.get(key) if isinstance(settings, dict) else None
        if isinstance(name, str) and name not in registry:
            registry.raise_missing(name, registry.setting, str(file))


def _load_run_config(folder: Path) -> DictConfig:
    file = folder / "config.yaml"
    if not file.is_file():
        raise usage_error(
            [Problem("resume", f"{folder} is not a run folder", "Set resume=<run folder>")]
        )
    recorded = read_plain_yaml(file)
    try:
        if not isinstance(recorded, dict):
            raise ValueError("it has no settings")
        recorded = rename_settings(settings_tree("train"), recorded)
        _upgrade_old_settings(recorded)
        _drop_unused_plugin_settings(recorded, file)
        run_config = OmegaConf.merge(OmegaConf.structured(TrainConfig), recorded)
        assert isinstance(run_config, DictConfig)
        OmegaConf.to_object(run_config)  # fails if a mandatory value is missing
    except (OmegaConfBaseException, ValueError, TypeError, RecursionError) as error:
        raise DataError(
            f"cannot be read ({first_line(error)})", where=str(file), hint=DAMAGED_FILE_HINT
        ) from error
    # It was valid when it was written, but may have been edited since.
    content = to_plain_dict(run_config)
    content["resume"] = str(folder)  # a resumed run: its data files may have been moved
    for problem in validate_config("train", content):
        raise DataError(
            f"{problem.where} {problem.what}",
            where=str(file),
            hint=problem.hint or DAMAGED_FILE_HINT,
        )
    return run_config
