"""Tensors and training state on disk, without pickle.

    write_tensors(path, {name: tensor})
    read_tensors(path) -> {name: tensor} on the CPU
    flatten_state(state) -> (tensors, structure)
    unflatten_state(tensors, structure) -> state, bit for bit

A state consists of nested dicts (with str or int keys), lists and tuples of tensors, str, int,
float, bool and None. The flat name of a tensor is the path of keys to it, joined with "/" ("~" and
"/" in a key are escaped as "~0" and "~1", RFC 6901). The JSON structure has everything else:

    {"$tensor": name}   {"$tuple": [...]}   {"$float": "nan" | "inf" | "-inf"}
    {"$dict": [[key, value], ...]}          a dict with int keys or a key that starts with $
"""

from __future__ import annotations

import math
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bertft.errors import DataError, SystemResourceError
from bertft.utils.failpoints import failpoint
from bertft.utils.safe_files import DAMAGED_FILE_HINT, check_regular_file, unreadable
from bertft.utils.system_errors import find_os_error

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["flatten_state", "read_tensors", "unflatten_state", "write_tensors"]

# transformers needs this key; several keys would be written in random order.
_METADATA = {"format": "pt"}
_RESERVED_NAME = "__metadata__"
_NON_FINITE_FLOATS = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write ``tensors`` from any device as safetensors; equal content gives equal bytes.

    Tensors that share storage are written separately. Raises OSError.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    if _RESERVED_NAME in tensors:
        raise ValueError(f"the name {_RESERVED_NAME} is reserved by safetensors")
    seen_storages: set[int] = set()
    unshared = {}
    for name, tensor in tensors.items():
        contiguous = tensor.detach().cpu().contiguous()
        storage = contiguous.untyped_storage().data_ptr()
        unshared[name] = contiguous.clone() if storage in seen_storages else contiguous
        seen_storages.add(storage)
    failpoint(f"write {path.name}")
    path.touch()
    mode = stat.S_IMODE(path.stat().st_mode)
    try:
        save_file(unshared, path, metadata=_METADATA)
    except SafetensorError as error:
        os_error = find_os_error(error)
        if os_error is None:
            raise
        raise OSError(os_error.errno, os_error.strerror, str(path)) from error
    path.chmod(mode)  # safetensors makes files readable for the owner only


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Copies of the tensors in ``path``. DataError if the file is missing or damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        check_regular_file(path)
    except FileNotFoundError:
        raise DataError(
            "is missing", where=str(path), hint="Restore the file from a copy"
        ) from None
    except OSError as error:
        raise unreadable(error, path) from error
    try:
        return {name: tensor.clone() for name, tensor in load_file(path).items()}
    except SafetensorError as error:
        raise DataError(
            f"is not an intact safetensors file ({str(error).rpartition(': ')[2]})",
            where=str(path),
            hint=DAMAGED_FILE_HINT,
        ) from error
    except OSError as error:
        raise SystemResourceError(
            f"cannot be read ({error.strerror or error})", where=str(path), hint="Check the disk"
        ) from error


def flatten_state(state: Mapping[str, Any]) -> tuple[dict[str, Tensor], Any]:
    """The tensors of ``state`` by flat name, and its structure as JSON.

    Raises TypeError for values of other types.
    """
    tensors: dict[str, Tensor] = {}
    return tensors, _encode(state, (), tensors)


def unflatten_state(tensors: Mapping[str, Tensor], structure: Any) -> Any:
    """The inverse of ``flatten_state``. DataError if tensors are missing or unused."""
    remaining = dict(tensors)
    try:
        state = _decode(structure, remaining)
    except RecursionError:
        raise DataError("the state is nested too deeply") from None
    if remaining:
        raise DataError(f"the state does not use the tensors {', '.join(sorted(remaining)[:4])}")
    return state


def _encode(value: Any, path: tuple[str, ...], tensors: dict[str, Tensor]) -> Any:
    import torch

    if isinstance(value, torch.Tensor):
        name = "/".join(key.replace("~", "~0").replace("/", "~1") for key in path)
        while name in tensors:  # keys 0 and "0" of one dict; no escaped name ends with "~"
            name += "~"
        tensors[name] = value
        return {"$tensor": name}
    if value is None or isinstance(value, (bool, str, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"$float": str(float(value))}
    if isinstance(value, (list, tuple)):
        items = [_encode(item, (*path, str(index)), tensors) for index, item in enumerate(value)]
        return items if isinstance(value, list) else {"$tuple": items}
    if not isinstance(value, Mapping):
        raise TypeError(f"{'/'.join(path)}: a {type(value).__name__} is not supported in a state")
    for key in value:
        if not isinstance(key, (str, int)):
            raise TypeError(f"{'/'.join(path)}: {key!r} is not supported as a key in a state")
    items = [[key, _encode(item, (*path, str(key)), tensors)] for key, item in value.items()]
    plain = all(isinstance(key, str) and not key.startswith("$") for key in value)
    return dict(items) if plain else {"$dict": items}


def _decode(value: Any, remaining: dict[str, Tensor]) -> Any:
    if isinstance(value, list):
        return [_decode(item, remaining) for item in value]
    if not isinstance(value, dict):
        return value
    if not any(key.startswith("$") for key in value):
        return {key: _decode(item, remaining) for key, item in value.items()}
    (tag, content), *more = value.items()
    match tag, content:
        case "$tensor", str() if not more:
            if content not in remaining:
                raise DataError(f"the state has no tensor {content}")
            return remaining.pop(content)
        case "$float", str() if not more and content in _NON_FINITE_FLOATS:
            return _NON_FINITE_FLOATS[content]
        case "$tuple", list() if not more:
            return tuple(_decode(item, remaining) for item in content)
        case "$dict", list() if not more and all(_is_item(item) for item in content):
            return {key: _decode(item, remaining) for key, item in content}
    raise DataError(f"the state has an unknown entry {{{tag}}}")


def _is_item(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], (str, int))
