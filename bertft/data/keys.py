"""The key of a feature cache: everything that its content depends on, and nothing else.

key = sha256(code version, rows, what the task and the tokenizer contribute)
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bertft.data.bare import without_padding
from bertft.data.rows import Rows

__all__ = ["FEATURE_CACHE_VERSION", "feature_key", "tokenizer_hash"]

FEATURE_CACHE_VERSION = 1  # raise it whenever the same rows and settings should give other features


def feature_key(rows: Rows, parts: Sequence[Any]) -> str:
    """Key of the features of ``rows``; ``parts`` are JSON values."""
    content = json.dumps([FEATURE_CACHE_VERSION, rows.fingerprint, list(parts)], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def tokenizer_hash(tokenizer: Any) -> str:
    """sha256 over what determines a tokenizer's output, wherever it was loaded from.

    The truncation and padding that it carries are left out: they are settings of a call, files
    come with arbitrary ones, and every call with other ones changes them in the object.
    """
    digest = hashlib.sha256(type(tokenizer).__name__.encode())
    if getattr(tokenizer, "backend_tokenizer", None) is not None:
        with without_padding(tokenizer) as backend:
            digest.update(backend.to_str().encode())
    else:
        with tempfile.TemporaryDirectory() as folder:
            tokenizer.save_pretrained(folder)
            for path in sorted(Path(folder).iterdir()):
                digest.update(path.name.encode() + path.read_bytes())
    settings = [
        getattr(tokenizer, name, None)
        for name in ("model_input_names", "truncation_side", "special_tokens_map")
    ]
    digest.update(json.dumps(settings, sort_keys=True, default=str).encode())
    return digest.hexdigest()
