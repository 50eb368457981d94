"""Near-duplicates between two lists of texts, with MinHash and locality-sensitive hashing.

    S(t)      the set of 5-grams of characters of the text t
    J(s, t)   Jaccard similarity of S(s) and S(t): size of the intersection / size of the union
    m_k(t)    min over x in S(t) of h_k(x);   P(m_k(s) = m_k(t)) = J(s, t)

Two texts are candidates if all 3 minima of one of 6 bands are equal. A candidate is a
near-duplicate if its exact J is at least 0.8: pairs that are reported are never wrong, and a pair
with J = 0.8 is missed with a probability of 1.4 %.

Memory and time are bounded: the keys of ``queries`` are stored (48 bytes per text), those of
``references`` are computed in chunks, only the first 1,000 characters of a text are used, and the
number of exact comparisons is limited, per query and in total.

Broder 1997; Leskovec, Rajaraman & Ullman, Mining of Massive Datasets, ch. 3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

__all__ = ["MAX_TEXT_LENGTH", "find_near_duplicates", "jaccard"]

MAX_TEXT_LENGTH = 1_000  # characters
_THRESHOLD = 0.8
_SHINGLE = 5
_BANDS, _ROWS_PER_BAND = 6, 3
_CHUNK_CHARACTERS = 1 << 20
_MAX_COMPARISONS = 50_000  # in total
_COMPARISONS_PER_QUERY = 10
# Constants of the hash functions: a polynomial base, and an odd number that mixes the bits.
_BASE = np.uint64(1_000_003)
_MIX = np.uint64(0x9E3779B97F4A7C15)


def find_near_duplicates(
    queries: Sequence[tuple[str, ...]],
    references: Iterable[Sequence[tuple[str, ...]]],
    is_candidate: Callable[[int, int], bool] = lambda query, reference: True,
) -> dict[int, tuple[int, tuple[str, ...]]]:
    """Query number → (number of a near-duplicate reference, its texts).

    Args:
        queries: The texts of each row: one, or two for pairs. All texts of a near-duplicate must be
            similar.
        references: Chunks of rows, numbered from 0 over all chunks.
        is_candidate: Whether a query and a reference, by their numbers, are compared.
    """
    duplicates: dict[int, tuple[int, tuple[str, ...]]] = {}
    if not queries:
        return duplicates
    buckets = [_queries_by_key(keys) for keys in _band_keys(_joined(queries)).T]
    comparisons = [0] * len(queries)
    total_comparisons = chunk_start = 0
    for chunk in references:
        for queries_by_key, keys in zip(buckets, _band_keys(_joined(chunk)).T, strict=True):
            for number, key in enumerate(keys.tolist()):
                bucket = queries_by_key.get(key)
                if not bucket:
                    continue
                remaining = []
                for query in bucket:
                    if query in duplicates or comparisons[query] >= _COMPARISONS_PER_QUERY:
                        continue
                    if not is_candidate(query, chunk_start + number):
                        remaining.append(query)
                        continue
                    comparisons[query] += 1
                    total_comparisons += 1
                    if _are_similar(queries[query], chunk[number]):
                        duplicates[query] = (chunk_start + number, chunk[number])
                    else:
                        remaining.append(query)
                    if total_comparisons >= _MAX_COMPARISONS:
                        return duplicates
                queries_by_key[key] = remaining
        chunk_start += len(chunk)
    return duplicates


def jaccard(text_a: str, text_b: str) -> float:
    """The exact J of two texts."""
    shingles_a, shingles_b = _shingles(text_a), _shingles(text_b)
    return len(shingles_a & shingles_b) / len(shingles_a | shingles_b)


def _queries_by_key(keys: np.ndarray) -> dict[int, list[int]]:
    """Key of a band → the queries with this key that may still be compared."""
    queries_by_key: dict[int, list[int]] = {}
    for query, key in enumerate(keys.tolist()):
        queries_by_key.setdefault(key, []).append(query)
    return queries_by_key


def _are_similar(texts_a: tuple[str, ...], texts_b: tuple[str, ...]) -> bool:
    return all(jaccard(*pair) >= _THRESHOLD for pair in zip(texts_a, texts_b, strict=True))


def _shingles(text: str) -> set[str]:
    text = text[:MAX_TEXT_LENGTH].ljust(_SHINGLE)
    return {text[start : start + _SHINGLE] for start in range(len(text) - _SHINGLE + 1)}


def _joined(rows: Sequence[tuple[str, ...]]) -> list[str]:
    return [" ".join(text[:MAX_TEXT_LENGTH] for text in row).ljust(_SHINGLE) for row in rows]


def _band_keys(texts: Sequence[str]) -> np.ndarray:
    """One key per text and band, uint64 [texts, bands]."""
    keys = np.empty((len(texts), _BANDS), np.uint64)
    start = 0
    while start < len(texts):
        stop, characters = start, 0
        while stop < len(texts) and characters < _CHUNK_CHARACTERS:
            characters += len(texts[stop])
            stop += 1
        minima = _min_hashes(texts[start:stop]).astype(np.uint64)
        for band in range(_BANDS):
            key = np.full(stop - start, np.uint64(band))
            for column in range(band * _ROWS_PER_BAND, (band + 1) * _ROWS_PER_BAND):
                key = (key ^ minima[:, column]) * _MIX
                key ^= key >> np.uint64(29)
            keys[start:stop, band] = key
        start = stop
    return keys


def _min_hashes(texts: Sequence[str]) -> np.ndarray:
    """The minimum of each hash function over the shingles of each text, uint32 [texts, hashes]."""
    code_points = np.frombuffer(
        "".join(texts).encode("utf-32-le", "surrogatepass"), np.uint32
    ).astype(np.uint64)
    lengths = np.array([len(text) for text in texts])
    windows = code_points[: len(code_points) - _SHINGLE + 1].copy()
    for offset in range(1, _SHINGLE):
        windows *= _BASE
        windows += code_points[offset : len(code_points) - _SHINGLE + 1 + offset]
    # The windows that start in the last characters of a text extend into the next one.
    is_inside = np.ones(len(windows), bool)
    ends = np.cumsum(lengths)[:-1]
    for back in range(1, _SHINGLE):
        is_inside[ends - back] = False
    windows = windows[is_inside] * _MIX
    windows ^= windows >> np.uint64(32)
    counts = lengths - _SHINGLE + 1
    starts = np.cumsum(counts) - counts
    generator = np.random.default_rng(0)
    hashes = _BANDS * _ROWS_PER_BAND
    factors = generator.integers(1 << 63, size=hashes, dtype=np.uint64) | np.uint64(1)
    result = np.empty((len(texts), hashes), np.uint32)
    for column, factor in enumerate(factors):
        values = ((windows * factor) >> np.uint64(32)).astype(np.uint32)
        result[:, column] = np.minimum.reduceat(values, starts)
    return result
