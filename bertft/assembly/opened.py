"""Open what training left: a run, a merged folder, an adapter, a plain transformers folder.

One rule of precision, for every command and function: where none is given, a run computes in the
one that it was trained in, so that its metrics are those of its training, and every other folder
in fp32, so that its answers are the same on every machine.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from bertft.assembly.adapter import is_adapter_folder
from bertft.assembly.checkpoint import is_checkpoint
from bertft.assembly.head_settings import HeadSettings
from bertft.assembly.open_adapter import open_adapter
from bertft.assembly.open_folder import open_folder
from bertft.assembly.open_run import open_run
from bertft.assembly.saved import LoadedModel
from bertft.config.data import DataConfig
from bertft.config.messages import suggest
from bertft.errors import UsageError
from bertft.models.source import inner_hint
from bertft.runs.folder import RunFolder

__all__ = ["OpenSettings", "open_from_settings", "open_model"]

_FOLDER_PRECISION = "fp32"  # a folder that is no run records no precision


class OpenSettings(Protocol):
    """What a command says of what it opens: ``run`` or, in its place, ``adapter``."""

    run: str | None
    adapter: str | None
    base: str | None
    checkpoint: str
    device: str
    trust_remote_code: bool


def open_from_settings(
    settings: OpenSettings,
    precision: str | None = None,
    data: DataConfig | None = None,
    warn: Callable[[str], None] = lambda _: None,
) -> LoadedModel:
    """The model that a command was told, as ``open_model`` opens it."""
    head_settings = HeadSettings.from_settings(data, settings)
    if settings.adapter is None:
        assert settings.run is not None, "checked with the configuration"
        return open_model(
            settings.run, checkpoint=settings.checkpoint, precision=precision, device=settings.device,
            data=data, head_settings=head_settings, warn=warn, trust_remote_code=settings.trust_remote_code,
        )  # fmt: skip
    folder = Path(settings.adapter).expanduser()
    if not is_adapter_folder(folder):
        raise _missing_adapter_error(folder, settings.adapter)
    return open_adapter(
        folder, precision or _FOLDER_PRECISION, settings.device, data, head_settings, settings.base,
        settings.trust_remote_code,
    )  # fmt: skip


def open_model(
    path: str,
    *,
    checkpoint: str = "best",
    precision: str | None = None,
    device: str = "auto",
    data: DataConfig | None = None,
    head_settings: HeadSettings | None = None,
    warn: Callable[[str], None] = lambda _: None,
    trust_remote_code: bool = False,
    trust_setting: str = "trust_remote_code",
) -> LoadedModel:
    """The model in ``path``, ready to evaluate.

    ``precision`` None: the one that a run was trained in, fp32 for any other folder.
    ``head_settings``: what the user says of the head; None: what ``data`` says.
    ``trust_remote_code``: the command line lets code that comes with a model run, with ``trust_setting``. No
    folder grants that, whatever it recorded.
    """
    folder, head_settings = Path(path).expanduser(), head_settings or HeadSettings.from_settings(data)
    if RunFolder(folder).has_run:
        return open_run(
            RunFolder(folder), checkpoint, precision, device, data, head_settings, warn, trust_remote_code, trust_setting
        )
    if is_adapter_folder(folder):
        return open_adapter(folder, precision or _FOLDER_PRECISION, device, data, head_settings, trust_remote_code=trust_remote_code)
    if (folder / "config.json").is_file() and not is_checkpoint(folder):
        return open_folder(folder, precision or _FOLDER_PRECISION, device, data, head_settings, trust_remote_code)
    if not folder.exists():
        raise _missing_folder_error(folder, path, "run")
    hint = inner_hint(path, "run")
    if hint is not None:
        raise UsageError(
            "holds neither a run nor a model with its config.json", where=str(folder), hint=hint
        )
    RunFolder.open(folder)  # says what it is not, and what lies near
    raise AssertionError("unreachable")


def _missing_folder_error(folder: Path, path: str, setting: str) -> UsageError:
    siblings = [each.name for each in folder.parent.iterdir()] if folder.parent.is_dir() else []
    return UsageError(
        f"there is no folder {path}", where=setting, hint=suggest(folder.name, siblings)
    )


def _missing_adapter_error(folder: Path, path: str) -> UsageError:
    """peft saves an adapter of another name than default in a folder of its own."""
    if not folder.is_dir():
        return _missing_folder_error(folder, path, "adapter")
    adapters = sorted(each.name for each in folder.iterdir() if is_adapter_folder(each))
    hint = "run=<folder> opens runs and plain transformers folders"
    if adapters:
        hint = f"It holds adapters in {', '.join(adapters[:4])}: give adapter={path}/{adapters[0]}"
    return UsageError(f"{path} holds no adapter_config.json", where="adapter", hint=hint)
