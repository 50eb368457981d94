"""The tokenizer of a model from its ``tokenizer.json`` alone, without torch and transformers.

bertft trains with a tokenizer that encodes exactly as that file describes (``models.tokenizer``):
``FileTokenizer`` gives the same tokens. Nothing is downloaded: a model of the Hub must be in the
local cache.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import tokenizers

from bertft.config.model import ModelConfig
from bertft.errors import UsageError
from bertft.models.model_config import max_input_length
from bertft.models.source import find_model_source
from bertft.utils.messages import expand_home
from bertft.utils.safe_files import read_json_object

__all__ = ["FileTokenizer", "load_file_tokenizer"]

_TOKENIZER_FILE = "tokenizer.json"
_RUN_FILES = ("config.yaml", "manifest.json")
_NO_LENGTH_LIMIT = 10**30  # as transformers states it
_SPECIAL_TOKENS = ("unk_token", "mask_token", "sep_token")
_DEFAULT_TOKENS = {
    "unk_token": ("[UNK]", "<unk>"),
    "mask_token": ("[MASK]", "<mask>"),
    "sep_token": ("[SEP]", "</s>"),
}


class FileTokenizer:
    """The part of transformers' interface that encoding uses, for a ``tokenizers.Tokenizer``.

    Attributes:
        backend_tokenizer: the tokenizer of the file, without its padding and truncation.
        max_input_length: the maximum number of tokens per input of the model.
        all_special_ids: ids of the special tokens.
    """

    is_fast = True
    model_input_names = ("input_ids", "attention_mask")  # token types are not shown

    def __init__(
        self,
        backend: tokenizers.Tokenizer,
        settings: Mapping[str, Any],
        model_config: Mapping[str, Any],
    ) -> None:
        """``settings``: tokenizer_config.json. ``model_config``: config.json of the model."""
        backend.no_padding()
        backend.no_truncation()
        self.backend_tokenizer = backend
        self.truncation_side = settings.get("truncation_side", "right")
        limit = settings.get("model_max_length")
        self.model_max_length = limit if isinstance(limit, int | float) else _NO_LENGTH_LIMIT
        names = {name: _special_token(backend, name, settings) for name in _SPECIAL_TOKENS}
        self.sep_token = names["sep_token"]
        self.unk_token_id, self.mask_token_id, self.sep_token_id = (
            None if token is None else backend.token_to_id(token) for token in names.values()
        )
        added = backend.get_added_tokens_decoder()
        self.all_special_ids = [number for number, token in added.items() if token.special]
        defaults = {"max_position_embeddings": None, "model_type": None, "pad_token_id": None}
        self.max_input_length = max_input_length(
            SimpleNamespace(**defaults | dict(model_config)),  # type: ignore[arg-type]
            self,  # type: ignore[arg-type]
        )

    def num_special_tokens_to_add(self, pair: bool = False) -> int:
        """The special tokens of a text, or of a pair."""
        return int(self.backend_tokenizer.num_special_tokens_to_add(pair))

    def tokens(self, ids: Sequence[int]) -> list[str]:
        """The tokens with these ids."""
        return [self.backend_tokenizer.id_to_token(int(number)) or "" for number in ids]

    def __call__(
        self, texts: str | Sequence[str], add_special_tokens: bool = True, verbose: bool = True
    ) -> _Encoded:
        """The tokens of a text or of several texts, as ``PreTrainedTokenizerBase`` returns them."""
        if isinstance(texts, str):
            encoding = self.backend_tokenizer.encode(texts, add_special_tokens=add_special_tokens)
            return _Encoded([encoding], encoding.ids)
        encodings = self.backend_tokenizer.encode_batch(
            list(texts), add_special_tokens=add_special_tokens
        )
        return _Encoded(encodings, [encoding.ids for encoding in encodings])


class _Encoded(dict[str, Any]):
    def __init__(self, encodings: Sequence[tokenizers.Encoding], ids: Any) -> None:
        super().__init__(input_ids=ids)
        self._encodings = encodings

    def word_ids(self, number: int) -> list[int | None]:
        """The word of each token of text ``number``."""
        word_ids: list[int | None] = self._encodings[number].word_ids
        return word_ids


def _special_token(
    backend: tokenizers.Tokenizer, name: str, settings: Mapping[str, Any]
) -> str | None:
    """The token ``name``; None if the vocabulary has none, or no text is encoded as unknown."""
    is_bpe = type(backend.model).__name__ == "BPE"
    if name == "unk_token" and is_bpe and backend.model.unk_token is None:
        return None  # byte-level: see ``models.tokenizer.unknown_id``
    value = settings.get(name)
    stated = str(value.get("content", "")) if isinstance(value, dict) else value
    for token in (stated, *_DEFAULT_TOKENS[name]):
        if isinstance(token, str) and backend.token_to_id(token) is not None:
            return token
    return None


def load_file_tokenizer(model: ModelConfig) -> FileTokenizer | None:
    """The tokenizer of ``model``; None if its ``tokenizer.json`` is not on this machine.

    Raises:
        UsageError: there is no such folder, or it contains no model, or a damaged file.
    """
    setting = "model.path" if model.tokenizer is None else "model.tokenizer"
    name = model.tokenizer or model.path
    if name is None:
        return None
    folder = _tokenizer_folder(name, setting, model.revision)
    if folder is None:
        return None
    file = folder / _TOKENIZER_FILE
    try:
        backend = tokenizers.Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises plain exceptions
        raise UsageError(
            f"{file} is not a tokenizer ({error})",
            where=f"{setting}={name}",
            hint="Restore the file, or choose another model",
        ) from None
    config = dict(model.architecture or {})
    if model.path is not None:
        config_folder = folder
        if model.tokenizer is not None:
            config_folder = _local_folder(model.path, "model.path", model.revision) or folder
        config = _read_optional(config_folder / "config.json")
    return FileTokenizer(backend, _read_optional(folder / "tokenizer_config.json"), config)


def _tokenizer_folder(name: str, setting: str, revision: str | None) -> Path | None:
    """The folder with the tokenizer.json of a folder, a run, a package or a cached Hub model."""
    folder = _local_folder(name, setting, revision)
    if folder is None:
        return None
    return folder if (folder / _TOKENIZER_FILE).is_file() else None


def _local_folder(name: str, setting: str, revision: str | None) -> Path | None:
    """The folder of the files of a model on this machine; None if there is none."""
    folder = expand_home(name, setting)
    if all((folder / file).is_file() for file in _RUN_FILES):
        tokenizers_of_run = sorted(folder.glob(f"checkpoints/*/{_TOKENIZER_FILE}"))
        return tokenizers_of_run[-1].parent if tokenizers_of_run else None
    revision = None if setting == "model.tokenizer" else revision
    source = find_model_source(name, revision, setting, verify=False)
    if source.kind != "hub":
        return Path(source.load)
    from huggingface_hub import try_to_load_from_cache

    file = try_to_load_from_cache(source.load, _TOKENIZER_FILE, revision=source.revision)
    return Path(file).parent if isinstance(file, str) else None


def _read_optional(file: Path) -> dict[str, Any]:
    """The JSON object in ``file``; empty if there is none."""
    return read_json_object(file) if file.is_file() else {}
