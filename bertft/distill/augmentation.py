"""Augmented copies of training rows: words are replaced by similar ones, and the teacher answers.

    similar(w) = the k whole words w' ≠ w with the largest cosine(e(w), e(w'))

e are the input embeddings of the teacher, so that every encoder supports it. Jiao et al. 2020,
section 3.2, replace words by neighbours too (of GloVe), and by predictions of a masked language
model (arXiv 1909.10351). A word is replaced if it is one token; a copy has the length of its row.

The words of a copy are a function of (data.seed, copy, feature) alone. At least one word of a copy
is replaced if its row has one that can be.
"""

from __future__ import annotations

import hashlib
import json
import string
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from bertft.data.cache import load_cached, store_cached, write_arrow_file
from bertft.data.features import FeatureTable, RaggedColumn, make_record_batch

__all__ = [
    "NEIGHBOURS",
    "REPLACED_COLUMN",
    "Augmentation",
    "Vocabulary",
    "augment_features",
    "augmentation_key",
    "classify_tokens",
    "nearest_words",
    "replace_words",
]

NEIGHBOURS = 15  # similar words of a word, as in the reference
REPLACED_COLUMN = "replaced"  # number of replaced words per copy
_VERSION = 1  # raise it when the same rows and settings should give other copies
_CHUNK_FEATURES = 50_000
_BLOCK_WORDS = 256  # rows of the similarity matrix at a time
# With more decimals, the order of equal similarities would depend on the matrix product.
_DECIMALS = 9
_PREFIX_MARKS = ("Ġ", "▁")  # of a token after a space, in byte-level BPE and in SentencePiece


@dataclass(frozen=True)
class Augmentation:
    """``copies`` of each row, in which each word is replaced with ``probability``."""

    copies: int
    probability: float
    seed: int


@dataclass(frozen=True)
class Vocabulary:
    """Which tokens are words.

    Attributes:
        is_word: bool [V], whether the token alone can be a word of letters.
        continues: bool [V], whether the token continues the word of the token before it.
        group: int64 [V], equal for tokens that differ in case only.
    """

    is_word: np.ndarray
    continues: np.ndarray
    group: np.ndarray


def classify_tokens(tokens: Sequence[str], special_ids: Collection[int]) -> Vocabulary:
    """The vocabulary of a WordPiece, BPE or SentencePiece tokenizer; ``tokens``: by id."""
    has_continuation_mark = any(token.startswith("##") for token in tokens)
    marks = tuple(mark for mark in _PREFIX_MARKS if any(token.startswith(mark) for token in tokens))
    is_word, continues = np.zeros(len(tokens), bool), np.zeros(len(tokens), bool)
    groups: dict[str, int] = {}
    group = np.empty(len(tokens), np.int64)
    for number, token in enumerate(tokens):
        if has_continuation_mark:
            starts, word = not token.startswith("##"), token
        elif marks:
            starts, word = token.startswith(marks), token[1:]
        else:
            starts, word = True, token
        is_punctuation = all(character in string.punctuation for character in token)
        is_special = number in special_ids
        continues[number] = not (starts or is_punctuation or is_special)
        # Single letters are rarely words, but many single characters of Chinese are.
        is_long_enough = len(word) > 1 or not word.isascii()
        is_word[number] = starts and not is_special and word.isalpha() and is_long_enough
        group[number] = groups.setdefault(token.casefold(), len(groups))
    return Vocabulary(is_word, continues, group)


def nearest_words(
    embeddings: np.ndarray, words: np.ndarray, vocabulary: Vocabulary, count: int = NEIGHBOURS
) -> np.ndarray:
    """The ids of the ``count`` most similar words of each of ``words``, int32 [n, count].

    Computed in fp64; equal similarities are ordered by id. A vocabulary with fewer other words
    repeats them.

    Args:
        embeddings: [V, H].
        words: ids [n].
    """
    candidates = np.flatnonzero(vocabulary.is_word[: len(embeddings)])
    vectors = _unit_vectors(embeddings[candidates])
    result = np.empty((len(words), count), np.int32)
    for start in range(0, len(words), _BLOCK_WORDS):
        block = words[start : start + _BLOCK_WORDS]
        similarity = np.round(_unit_vectors(embeddings[block]) @ vectors.T, _DECIMALS)
        is_same = vocabulary.group[block][:, None] == vocabulary.group[candidates][None, :]
        similarity[is_same] = -np.inf
        for row, values in enumerate(similarity):
            result[start + row] = candidates[_largest(values, count)]
    return result


def _unit_vectors(vectors: np.ndarray) -> np.ndarray:
    vectors = vectors.astype(np.float64)
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.maximum(norms, np.finfo(np.float64).tiny)


def _largest(values: np.ndarray, count: int) -> np.ndarray:
    """Positions of the ``count`` largest finite values, the first of equal ones first."""
    available = min(count, int(np.isfinite(values).sum()))
    if not available:
        raise ValueError("there is no other word")
    threshold = np.partition(values, len(values) - available)[len(values) - available]
    positions = np.flatnonzero(values >= threshold)
    order = positions[np.argsort(-values[positions], kind="stable")][:available]
    return np.resize(order, count)


def replace_words(
    ids: np.ndarray,
    replaceable: np.ndarray,
    neighbours: np.ndarray,
    probability: float,
    generator: np.random.Generator,
) -> tuple[np.ndarray, int]:
    """A copy of the tokens ``ids`` [T] of a row, and the number of its replaced words.

    Args:
        replaceable: bool [T], which tokens may be replaced.
        neighbours: [T, k], the tokens that may replace each.
        probability: of each replacement. At least one token is replaced if there is one.
    """
    chance = np.where(replaceable, generator.random(len(ids)), 1.0)
    choice = generator.integers(0, neighbours.shape[1], len(ids))
    chosen = chance < probability
    if not chosen.any() and replaceable.any():
        chosen[np.argmin(chance)] = True
    return np.where(chosen, neighbours[np.arange(len(ids)), choice], ids), int(chosen.sum())


def augment_features(
    source: FeatureTable,
    row_count: int,
    label_columns: Collection[str],
    embeddings: np.ndarray,
    vocabulary: Vocabulary,
    augmentation: Augmentation,
    key: str,
    cache: Path | None,
) -> FeatureTable:
    """Copies of every feature of ``source``, from the cache if it has them.

    The table has the columns of ``source`` without the labels, and ``REPLACED_COLUMN``. Row r of
    copy c is row c · ``row_count`` + r.

    Args:
        row_count: number of rows that the features of ``source`` belong to.
        embeddings: [V, H].
        key: of the copies (see ``augmentation_key``).
        cache: None keeps the table in memory.

    Raises:
        ValueError: no token of ``source`` is a word.
        SystemResourceError: the cache cannot be written.
    """
    folder = None if cache is None else cache / "features"
    if folder is not None:
        cached = load_cached(folder, key, FeatureTable.open)
        if cached is not None:
            return cached
    replacements = _replacement_table(source, embeddings, vocabulary)
    names = [name for name in source.columns if name not in label_columns]

    def batches() -> Iterator[pa.RecordBatch]:
        schema = None
        for copy in range(augmentation.copies):
            for start in range(0, len(source), _CHUNK_FEATURES):
                features = np.arange(start, min(start + _CHUNK_FEATURES, len(source)))
                columns = {name: _gather(source, name, features) for name in names}
                columns["row"] = source.gather("row", features) + copy * row_count
                ids, lengths = source.gather("input_ids", features), source.lengths[features]
                is_last = np.append(~vocabulary.continues[ids[1:]], True)
                columns[REPLACED_COLUMN] = _replace_in_features(
                    ids, lengths, is_last, replacements, augmentation, copy, start
                )
                columns["input_ids"] = RaggedColumn(ids, lengths)
                batch = make_record_batch(columns, schema)
                schema = batch.schema
                yield batch

    if folder is None:
        sink = pa.BufferOutputStream()
        write_arrow_file(batches(), sink)
        return FeatureTable(sink.getvalue())
    return FeatureTable.open(store_cached(folder, key, batches()))


def augmentation_key(source_keys: Sequence[str], augmentation: Augmentation) -> str:
    """The key of copies; ``source_keys`` identify their rows, the embeddings and the tokenizer."""
    content = ["augmented", _VERSION, NEIGHBOURS, list(source_keys), asdict(augmentation)]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _replacement_table(
    source: FeatureTable, embeddings: np.ndarray, vocabulary: Vocabulary
) -> np.ndarray:
    """The similar words of each token, int32 [V, k]; −1 for tokens that are not a word of a row."""
    seen = np.zeros(len(vocabulary.is_word), bool)
    for ids in source.iter_chunks("input_ids"):
        seen[ids] = True
    words = np.flatnonzero(seen & vocabulary.is_word)
    if not len(words):
        raise ValueError("no token of the rows is a word")
    table = np.full((len(seen), NEIGHBOURS), -1, np.int32)
    table[words] = nearest_words(embeddings, words, vocabulary)
    return table


def _gather(source: FeatureTable, name: str, features: np.ndarray) -> np.ndarray | RaggedColumn:
    values = source.gather(name, features)
    return RaggedColumn(values, source.sizes(name, features)) if source.is_ragged(name) else values


def _replace_in_features(
    ids: np.ndarray,
    lengths: np.ndarray,
    is_last: np.ndarray,
    replacements: np.ndarray,
    augmentation: Augmentation,
    copy: int,
    first_feature: int,
) -> np.ndarray:
    """Replace words in ``ids`` in place; return the number of replaced words per feature.

    Args:
        ids: tokens of consecutive features from ``first_feature``, end to end [N].
        is_last: whether a token is the last one of its word [N].
    """
    counts, stop = np.empty(len(lengths), np.int64), 0
    for number, length in enumerate(lengths.tolist()):
        start, stop = stop, stop + length
        seed = [augmentation.seed, copy, first_feature + number]
        generator = np.random.Generator(np.random.PCG64(seed))
        row = ids[start:stop]
        candidates = replacements[row]
        replaceable = is_last[start:stop] & (candidates[:, 0] >= 0)
        ids[start:stop], counts[number] = replace_words(
            row, replaceable, candidates, augmentation.probability, generator
        )
    return counts
