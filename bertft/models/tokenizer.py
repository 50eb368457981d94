"""Load a tokenizer that encodes exactly as its ``tokenizer.json`` describes.

transformers 5 rebuilds many tokenizers from the vocabulary in that file and the defaults of a
class. A cased BERT whose ``tokenizer_config.json`` does not repeat ``do_lower_case: false`` then
lower-cases its texts and strips their accents. The encoder was trained with the file. Therefore
both tokenizers encode probe texts, and if the results differ, one is built from the file alone.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from bertft.config.model import ModelConfig
from bertft.data.features import without_padding
from bertft.errors import UsageError
from bertft.models.load_errors import explain_load_errors, silence_transformers
from bertft.models.model_config import read_model_config
from bertft.models.source import ModelSource, find_model_source
from bertft.utils.messages import expand_home

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["load_tokenizer", "unknown_id"]

_TOKENIZER_FILE = "tokenizer.json"
_TOKEN_TYPE_IDS = "token_type_ids"
# Classes whose tokenizers return token types in transformers 4 but not in 5, and the model_type
# that implies the class.
_CLASSES_WITH_TYPES_IN_V4 = {
    "PreTrainedTokenizer": None,
    "AlbertTokenizer": "albert",
    "FunnelTokenizer": "funnel",
    "HerbertTokenizer": None,
    "RemBertTokenizer": "rembert",
    "RoFormerTokenizer": "roformer",
    "SplinterTokenizer": "splinter",
}
# Capitals, accents, scripts without spaces, digits, punctuation, white space, composed characters.
_PROBE_TEXTS = (
    "The Quick Brown FOX jumps over USA and McDonald",
    "Ça coûte très cher, naïve Über-Straße, İstanbul, ΣΊΣΥΦΟΣ, Ёлка",
    "東京タワーと中文字符\uff0c한국어 텍스트",
    "numbers 1234567890, 3.14, 1,000 and 2024-01-05T10:30",
    "it's  don't \t double\nspaces “quotes” — e-mail@x.org #tag http://a.b/c?d=1",
    "ﬁ ½ ① \uff46\uff55 e\u0301 n\u0303 😀👍🏽 \u00a0\u200b",
)
_PROBE_VOCABULARY_SIZE = 256  # entries of the vocabulary that are probed in addition


def load_tokenizer(settings: ModelConfig, use_file_class: bool = False) -> PreTrainedTokenizerBase:
    """The tokenizer of ``settings``, without the truncation and padding of its file.

    Args:
        settings: Source of the tokenizer, and of the model whose token types it must return.
        use_file_class: Use the class that the tokenizer's own files name, not that of the model in
            the same folder. This is how bertft loads its own folders, because a model may be
            trained with a tokenizer of another family.

    Raises:
        UsageError: There is no usable tokenizer, or its files contradict each other.
        SystemResourceError: The Hub cannot be reached.
    """
    from transformers import PreTrainedConfig

    path = settings.tokenizer or settings.path
    if path is None:
        raise UsageError(
            "no tokenizer", where="model.tokenizer", hint="Set it to a folder or Hub id"
        )
    if settings.tokenizer is None:
        source = find_model_source(path, settings.revision)
    else:
        source = find_model_source(path, setting="model.tokenizer")
    has_config = source.kind == "hub" or (Path(source.load) / "config.json").is_file()
    where = "model.path" if settings.tokenizer is None else "model.tokenizer"
    with explain_load_errors("config", source, where), silence_transformers():
        config = read_model_config(source, settings.trust_remote_code) if has_config else None
    with explain_load_errors("tokenizer", source, where), silence_transformers():
        class_config = PreTrainedConfig() if use_file_class else config
        tokenizer = _load_any_tokenizer(source, class_config, settings.trust_remote_code)
        tokenizer = _match_tokenizer_file(tokenizer, source, f"model.tokenizer={path}")
        if not use_file_class:
            _set_token_types(tokenizer, source, _config_for_tokenizer(settings, config))
    max_length = tokenizer.model_max_length
    if (
        isinstance(max_length, bool)
        or not isinstance(max_length, int | float)
        or not max_length > 0
    ):
        raise UsageError(
            f"tokenizer_config.json: model_max_length is {max_length!r}, not a positive number",
            where=f"model.tokenizer={path}",
            hint="Correct it, or remove the entry",
        )
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        backend.no_padding()
        backend.no_truncation()
    probe = tokenizer("the 的", add_special_tokens=False)["input_ids"]
    if probe and all(token == tokenizer.unk_token_id for token in probe):
        raise UsageError(
            "the tokenizer turns every word into its unknown token",
            where=f"model.tokenizer={path}",
            hint="Its folder needs tokenizer.json, or vocab.txt with tokenizer_config.json",
        )
    return tokenizer


def _load_any_tokenizer(source: ModelSource, config: Any, trust_remote_code: bool) -> Any:
    """A tokenizer of the class that its files name, or else of a general class."""
    from transformers import AutoTokenizer

    revision = source.revision if source.kind == "hub" else None
    try:
        return AutoTokenizer.from_pretrained(
            source.load, config=config, revision=revision, trust_remote_code=trust_remote_code
        )
    except Exception as error:
        if "trust_remote_code" in str(error):
            raise
        tokenizer = None
        with contextlib.suppress(Exception):
            tokenizer = _tokenizer_from_file(source)
        if tokenizer is None:
            raise
        return tokenizer


def _config_for_tokenizer(settings: ModelConfig, tokenizer_config: Any) -> Any:
    """The config of the model; ``tokenizer_config`` is the one in the tokenizer's folder."""
    if settings.tokenizer is None:
        return tokenizer_config
    if settings.path is None:
        return SimpleNamespace(**(settings.architecture or {}))
    folder = expand_home(settings.path, "model.path")
    if folder.is_dir() and not (folder / "config.json").is_file():
        return None  # a run: the caller opens it
    return read_model_config(
        find_model_source(settings.path, settings.revision), settings.trust_remote_code
    )


def _match_tokenizer_file(tokenizer: Any, source: ModelSource, where: str) -> Any:
    """``tokenizer`` if it encodes as the ``tokenizer.json`` of ``source``, else one built from it.

    ``where`` is the setting for messages. Raises UsageError if the file and the other files of
    the tokenizer give one token two ids, or if the file describes random tokenization.
    """
    file = _find_file(source, _TOKENIZER_FILE)
    if file is None or type(tokenizer).__module__.startswith("transformers_modules"):
        return tokenizer  # code of the model's author may do more than a file can describe
    import tokenizers

    file_tokenizer = tokenizers.Tokenizer.from_file(str(file))
    file_tokenizer.no_padding()
    file_tokenizer.no_truncation()
    dropout = getattr(file_tokenizer.model, "dropout", None)
    if dropout:
        raise UsageError(
            f"tokenizer.json has a BPE dropout of {dropout:g}: the same text is split differently"
            " each time",
            where=where,
            hint='Set "dropout" to null in its "model"',
        )
    probe = _probe_texts(file_tokenizer)
    expected = [_encode(file_tokenizer, *texts) for texts in probe]
    if len(tokenizer) == file_tokenizer.get_vocab_size() and _encodes_as_expected(
        tokenizer, probe, expected
    ):
        return tokenizer
    rebuilt = _rebuild_tokenizer(file_tokenizer, tokenizer, _recorded_tokens(source), where)
    if not _encodes_as_expected(rebuilt, probe, expected):
        raise UsageError(
            "transformers does not split texts as tokenizer.json describes",
            where=where,
            hint="Use another copy of the tokenizer. If the tokens of transformers are right, load"
            " it with AutoTokenizer and write the file again with save_pretrained",
        )
    return rebuilt


def _tokenizer_from_file(source: ModelSource) -> Any:
    """A tokenizer of a general class from ``tokenizer.json``; None if ``source`` has no such file.

    It supports files that the class in tokenizer_config.json cannot load.
    """
    if _find_file(source, _TOKENIZER_FILE) is None:
        return None
    from transformers import PreTrainedTokenizerFast

    revision = source.revision if source.kind == "hub" else None
    return PreTrainedTokenizerFast.from_pretrained(source.load, revision=revision or "main")


def _set_token_types(tokenizer: Any, source: ModelSource, config: Any) -> None:
    """Decide whether ``tokenizer`` returns token types, if transformers' default is wrong.

    For some classes, such as ALBERT's, transformers 4 returns them and transformers 5 does not. A
    model with two types that transformers 4 saved would read both texts of a pair as the first.
    If the tokenizer has more types than the model's embedding has rows, none are returned.
    """
    type_rows = getattr(config, "type_vocab_size", None)
    if not isinstance(type_rows, int) or type_rows < 1:
        return
    with without_padding(tokenizer) as backend:
        if backend is None:
            return
        highest_type = max(backend.encode("a", "a").type_ids, default=0)
    input_names = [name for name in tokenizer.model_input_names if name != _TOKEN_TYPE_IDS]
    if highest_type < type_rows:
        if highest_type == 0 or not _had_token_types_in_v4(source, config):
            return
        input_names.append(_TOKEN_TYPE_IDS)
    tokenizer.model_input_names = tokenizer.init_kwargs["model_input_names"] = input_names


def _had_token_types_in_v4(source: ModelSource, config: Any) -> bool:
    """Whether transformers 4 saved the tokenizer and returns token types with its class."""
    file = _find_file(source, "tokenizer_config.json")
    settings = json.loads(file.read_text(encoding="utf-8")) if file is not None else {}
    # "backend": saved by transformers 5. "model_input_names": the file itself decides.
    if "backend" in settings or "model_input_names" in settings:
        return False
    name = settings.get("tokenizer_class")
    if name is None:
        model_type = getattr(config, "model_type", None)
        return model_type is not None and model_type in _CLASSES_WITH_TYPES_IN_V4.values()
    return str(name).removesuffix("Fast") in _CLASSES_WITH_TYPES_IN_V4


def unknown_id(tokenizer: Any) -> int | None:
    """The id of the unknown token; None if no text is encoded as unknown (byte-level BPE)."""
    unknown = tokenizer.unk_token_id
    if unknown is not None and getattr(tokenizer, "is_fast", False):
        # RoBERTa's byte-level tokenizers declare an unknown token that they never return.
        model = tokenizer.backend_tokenizer.model
        if type(model).__name__ == "BPE" and model.unk_token is None:
            return None
    return unknown


def _find_file(source: ModelSource, name: str) -> Path | None:
    """The local path of a file of ``source``, downloaded if needed; None if it does not exist."""
    if source.kind != "hub":
        file = Path(source.load) / name
        return file if file.is_file() else None
    from transformers.utils.hub import cached_file

    cached = cached_file(
        source.load,
        name,
        revision=source.revision,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_gated_repo=False,
    )
    return None if cached is None else Path(cached)


def _probe_texts(file_tokenizer: Any) -> list[tuple[str, ...]]:
    """Single texts and one pair; they contain added tokens and a sample of the vocabulary."""
    added_tokens = [token.content for token in file_tokenizer.get_added_tokens_decoder().values()]
    vocabulary = sorted(file_tokenizer.get_vocab())
    sampled = vocabulary[:: max(1, len(vocabulary) // _PROBE_VOCABULARY_SIZE)]
    sampled_words = [
        word.removeprefix("##").replace("▁", " ").replace("Ġ", " ") for word in sampled
    ]
    texts = [
        *_PROBE_TEXTS,
        " ".join(sampled_words),
        "".join(f"A {token}b" for token in added_tokens[:40]),
    ]
    return [*((text,) for text in texts), (_PROBE_TEXTS[0], _PROBE_TEXTS[1])]


def _encode(tokenizer: Any, *texts: str) -> tuple[list[int], list[int]]:
    encoding = tokenizer.encode(*texts)
    return encoding.ids, encoding.type_ids


def _encodes_as_expected(tokenizer: Any, probe: list[tuple[str, ...]], expected: list[Any]) -> bool:
    with without_padding(tokenizer) as backend:
        if backend is None:
            encoded = [tokenizer(*texts, verbose=False)["input_ids"] for texts in probe]
            return encoded == [ids for ids, _ in expected]
        return [_encode(backend, *texts) for texts in probe] == expected


def _rebuild_tokenizer(
    file_tokenizer: Any, tokenizer: Any, recorded_tokens: dict[str, int | None], where: str
) -> Any:
    """A tokenizer around ``file_tokenizer`` with the settings of ``tokenizer``.

    Tokens that other files of the folder record and that ``file_tokenizer`` does not have are
    added. Defaults of the class of ``tokenizer`` are not.
    """
    from transformers import PreTrainedTokenizerFast

    for _, token in sorted(tokenizer.added_tokens_decoder.items()):
        if (
            token.content not in recorded_tokens
            or file_tokenizer.token_to_id(token.content) is not None
        ):
            continue
        (file_tokenizer.add_special_tokens if token.special else file_tokenizer.add_tokens)([token])
        token_id = file_tokenizer.token_to_id(token.content)
        recorded_id = recorded_tokens[token.content]
        if recorded_id not in (None, token_id):
            raise UsageError(
                f"the token {token.content!r} has the id {recorded_id} in another file of the"
                f" folder, but would have the id {token_id} according to tokenizer.json",
                where=where,
                hint="Load the tokenizer with the library that wrote it, and save it again",
            )
    special_tokens = {
        name: token
        for name, token in tokenizer._special_tokens_map.items()
        if token is not None and file_tokenizer.token_to_id(str(token)) is not None
    }
    extra_special_tokens = [
        token
        for token in tokenizer.extra_special_tokens
        if file_tokenizer.token_to_id(str(token)) is not None
    ]
    return PreTrainedTokenizerFast(
        tokenizer_object=file_tokenizer,
        model_max_length=tokenizer.model_max_length,
        model_input_names=list(tokenizer.model_input_names),
        padding_side=tokenizer.padding_side,
        truncation_side=tokenizer.truncation_side,
        extra_special_tokens=extra_special_tokens,
        **special_tokens,
    )


def _recorded_tokens(source: ModelSource) -> dict[str, int | None]:
    """Tokens in the files next to ``tokenizer.json``, with their ids; None: no id is recorded."""
    recorded: dict[str, int | None] = {}
    for name in ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"):
        file = _find_file(source, name)
        content = json.loads(file.read_text(encoding="utf-8")) if file is not None else {}
        if name == "added_tokens.json":
            recorded |= {token: number for token, number in content.items() if type(number) is int}
            continue
        for key, value in content.items():
            if key == "added_tokens_decoder":
                recorded |= {_token_text(token): int(number) for number, token in value.items()}
            else:
                for token in value if isinstance(value, list) else [value]:
                    recorded.setdefault(_token_text(token), None)
    return recorded


def _token_text(token: Any) -> str:
    """The text of a token that is stored as a string or as an object with its properties."""
    return str(token.get("content", "")) if isinstance(token, dict) else str(token)
