"""Open what training left: a run, a merged folder, an adapter, a plain transformers folder.

One rule of precision, for every command and function: where none is given, a run computes in the
one that it was trained in, so that its metrics are those of its training, and every other folder
in fp32, so that its answers are the same on every machine.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from bertft.assembly.adapter import is_adapter
from bertft.assembly.checkpoint import is_checkpoint
from bertft.assembly.head_settings import HeadSettings
from bertft.assembly.open_adapter import open_adapter
from bertft.assembly.open_folder import open_folder
from bertft.assembly.open_run import open_run
from bertft.assembly.saved import Saved
from bertft.config.data import DataConfig
from bertft.config.messages import suggestion
from bertft.errors import UsageError
from bertft.models.source import inner_hint
from bertft.runs.folder import RunFolder

__all__ = ["Asked", "open_asked", "open_saved"]

_OF_FOLDERS = "fp32"  # a folder that is no run records no precision


class Asked(Protocol):
    """What a command says of what it opens: ``run`` or, in its place, ``adapter``."""

    run: str | None
    adapter: str | None
    base: str | None
    checkpoint: str
    device: str
    trust_remote_code: bool


def open_asked(
    asked: Asked,
    precision: str | None = None,
    data: DataConfig | None = None,
    warn: Callable[[str], None] = lambda _: None,
) -> Saved:
    """The model that a command was told, as ``open_saved`` opens it."""
    said = HeadSettings.of(data, asked)
    if asked.adapter is None:
        assert asked.run is not None, "checked with the configuration"
        return open_saved(
            asked.run, checkpoint=asked.checkpoint, precision=precision, device=asked.device,
            data=data, said=said, warn=warn, trust=asked.trust_remote_code,
        )  # fmt: skip
    folder = Path(asked.adapter).expanduser()
    if not is_adapter(folder):
        raise _no_adapter(folder, asked.adapter)
    return open_adapter(
        folder, precision or _OF_FOLDERS, asked.device, data, said, asked.base,
        asked.trust_remote_code,
    )  # fmt: skip


def open_saved(
    path: str,
    *,
    checkpoint: str = "best",
    precision: str | None = None,
    device: str = "auto",
    data: DataConfig | None = None,
    said: HeadSettings | None = None,
    warn: Callable[[str], None] = lambda _: None,
    trust: bool = False,
    trust_setting: str = "trust_remote_code",
) -> Saved:
    """The model in ``path``, ready to evaluate.

    ``precision`` None: the one that a run was trained in, fp32 for any other folder.
    ``said``: what the user says of the head; None: what ``data`` says.
    ``trust``: the command line lets code that comes with a model run, with ``trust_setting``. No
    folder grants that, whatever it recorded.
    """
    folder, said = Path(path).expanduser(), said or HeadSettings.of(data)
    if RunFolder(folder).begun:
        return open_run(
            RunFolder(folder), checkpoint, precision, device, data, said, warn, trust, trust_setting
        )
    if is_adapter(folder):
        return open_adapter(folder, precision or _OF_FOLDERS, device, data, said, trust=trust)
    if (folder / "config.json").is_file() and not is_checkpoint(folder):
        return open_folder(folder, precision or _OF_FOLDERS, device, data, said, trust)
    if not folder.exists():
        raise _no_folder(folder, path, "run")
    hint = inner_hint(path, "run")
    if hint is not None:
        raise UsageError(
            "holds neither a run nor a model with its config.json", where=str(folder), hint=hint
        )
    RunFolder.open(folder)  # says what it is not, and what lies near
    raise AssertionError("unreachable")


def _no_folder(folder: Path, path: str, setting: str) -> UsageError:
    near = [each.name for each in folder.parent.iterdir()] if folder.parent.is_dir() else []
    return UsageError(
        f"there is no folder {path}", where=setting, hint=suggestion(folder.name, near)
    )


def _no_adapter(folder: Path, path: str) -> UsageError:
    """peft saves an adapter of another name than default in a folder of its own."""
    if not folder.is_dir():
        return _no_folder(folder, path, "adapter")
    inside = sorted(each.name for each in folder.iterdir() if is_adapter(each))
    hint = "run=<folder> opens runs and plain transformers folders"
    if inside:
        hint = f"It holds adapters in {', '.join(inside[:4])}: give adapter={path}/{inside[0]}"
    return UsageError(f"{path} holds no adapter_config.json", where="adapter", hint=hint)
