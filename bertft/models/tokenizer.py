"""Make sure that a tokenizer does what its ``tokenizer.json`` says.

transformers 5 rebuilds many tokenizers from the vocabulary in that file and the defaults of a
class. A cased BERT whose ``tokenizer_config.json`` does not repeat ``do_lower_case: false`` then
lower-cases its texts and strips their accents. The file is what the encoder was trained with, so
both tokenizers encode a probe; where they differ, one is built from the file alone.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bertft.data.features import without_padding
from bertft.errors import UsageError
from bertft.models.source import ModelSource

__all__ = ["match_tokenizer_file", "set_token_types", "tokenizer_from_file", "unknown_id"]

TOKENIZER_FILE = "tokenizer.json"
_TOKEN_TYPE_IDS = "token_type_ids"
# Classes that gave them in transformers 4 and do not in 5, and the model_type that implies each.
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
_PROBE_VOCABULARY_SIZE = 256  # entries of the vocabulary that the probe holds besides


def match_tokenizer_file(tokenizer: Any, source: ModelSource, where: str) -> Any:
    """``tokenizer``, or one built from the ``tokenizer.json`` of ``source`` where the two differ.

    ``where`` names the setting in messages. Raises UsageError if the file and the other files of
    the tokenizer give one token two ids.
    """
    file = _find_file(source, TOKENIZER_FILE)
    if file is None or type(tokenizer).__module__.startswith("transformers_modules"):
        return tokenizer  # a class of its own may do more than a file can say
    import tokenizers

    file_tokenizer = tokenizers.Tokenizer.from_file(str(file))
    file_tokenizer.no_padding()
    file_tokenizer.no_truncation()
    dropout = getattr(file_tokenizer.model, "dropout", None)
    if dropout:
        raise UsageError(
            f"tokenizer.json has a BPE dropout of {dropout:g}: it splits the same text differently"
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
    rebuilt = _rebuild_tokenizer(file_tokenizer, tokenizer, _stated_tokens(source), where)
    if not _encodes_as_expected(rebuilt, probe, expected):
        raise UsageError(
            "transformers cannot build the tokenizer that tokenizer.json describes",
            where=where,
            hint="Load and save it again with this version of transformers",
        )
    return rebuilt


def tokenizer_from_file(source: ModelSource) -> Any:
    """A tokenizer of no particular class, from the ``tokenizer.json`` of ``source``.

    None where there is no such file. For folders whose stated class cannot hold what the file has.
    """
    if _find_file(source, TOKENIZER_FILE) is None:
        return None
    from transformers import PreTrainedTokenizerFast

    revision = source.revision if source.kind == "hub" else None
    return PreTrainedTokenizerFast.from_pretrained(source.load, revision=revision or "main")


def set_token_types(tokenizer: Any, source: ModelSource, config: Any) -> None:
    """Decide whether ``tokenizer`` gives token types, where transformers' default is wrong.

    Of some classes, ALBERT's among them, transformers 4 gave them and transformers 5 does not: a
    model with two types that was saved by the former would read both texts of a pair as the first.
    And a model whose embedding of types has fewer rows than the tokenizer has types takes none.
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
    """Whether transformers 4 saved the tokenizer, and gave token types with its class."""
    file = _find_file(source, "tokenizer_config.json")
    stated = json.loads(file.read_text(encoding="utf-8")) if file is not None else {}
    if "backend" in stated or "model_input_names" in stated:  # the former by transformers 5
        return False
    name = stated.get("tokenizer_class")
    if name is None:
        model_type = getattr(config, "model_type", None)
        return model_type is not None and model_type in _CLASSES_WITH_TYPES_IN_V4.values()
    return str(name).removesuffix("Fast") in _CLASSES_WITH_TYPES_IN_V4


def unknown_id(tokenizer: Any) -> int | None:
    """The id of the unknown token; None where the vocabulary has none (byte-level BPE)."""
    unknown = tokenizer.unk_token_id
    if unknown is not None and getattr(tokenizer, "is_fast", False):
        # RoBERTa's byte-level tokenizers name an unknown token that they never give.
        model = tokenizer.backend_tokenizer.model
        if type(model).__name__ == "BPE" and model.unk_token is None:
            return None
    return unknown


def _find_file(source: ModelSource, name: str) -> Path | None:
    """A file of the source, fetched from the Hub where it is there; None without one."""
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
    """Texts and a pair, with added tokens and entries spread over the vocabulary among them."""
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
    file_tokenizer: Any, tokenizer: Any, stated_tokens: dict[str, int | None], where: str
) -> Any:
    """A tokenizer around ``file_tokenizer`` with the settings of ``tokenizer``.

    Tokens that the folder's other files state and ``file_tokenizer`` lacks are added; those that
    only the class of ``tokenizer`` brought along are not.
    """
    from transformers import PreTrainedTokenizerFast

    for _, token in sorted(tokenizer.added_tokens_decoder.items()):
        if (
            token.content not in stated_tokens
            or file_tokenizer.token_to_id(token.content) is not None
        ):
            continue
        (file_tokenizer.add_special_tokens if token.special else file_tokenizer.add_tokens)([token])
        token_id, stated_id = (
            file_tokenizer.token_to_id(token.content),
            stated_tokens[token.content],
        )
        if stated_id not in (None, token_id):
            raise UsageError(
                f"the token {token.content!r} has the id {stated_id} in another file of the folder,"
                f" and in tokenizer.json it would get {token_id}",
                where=where,
                hint="Load the tokenizer where it was made and save it again",
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


def _stated_tokens(source: ModelSource) -> dict[str, int | None]:
    """The tokens that the folder's other files name, with their ids where these are named too."""
    stated: dict[str, int | None] = {}
    for name in ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"):
        file = _find_file(source, name)
        content = json.loads(file.read_text(encoding="utf-8")) if file is not None else {}
        if name == "added_tokens.json":
            stated |= {token: number for token, number in content.items() if type(number) is int}
            continue
        for key, value in content.items():
            if key == "added_tokens_decoder":
                stated |= {_token_text(token): int(number) for number, token in value.items()}
            else:
                for token in value if isinstance(value, list) else [value]:
                    stated.setdefault(_token_text(token), None)
    return stated


def _token_text(token: Any) -> str:
    """Of a token as a text or as an object with its properties."""
    return str(token.get("content", "")) if isinstance(token, dict) else str(token)
