"""Questions and contexts to windows: a context that is too long goes in overlapping pieces.

    tokens of a window    [special] question [special] context[k·step : k·step + room] [special]
    room = max_length − special tokens − question,   step = room − stride
    windows               k = 0, 1, … until one reaches the context's end

which is what tokenizers' own truncation "only_second" with a stride gives. Each question and each
context is tokenised once, however many questions a context has.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bertft.data.bare import bare
from bertft.data.table import Ragged
from bertft.errors import UsageError

__all__ = ["Frame", "Windows", "frame_of", "windows_of"]

_SLICE_TEXTS = 1024

Tokens = tuple[np.ndarray, np.ndarray]  # ids [n] and offsets [n, 2] in characters


@dataclass(frozen=True)
class Frame:
    """Special tokens around a pair: ids and types before, between and after; types of the texts."""

    ids: tuple[np.ndarray, np.ndarray, np.ndarray]
    types: tuple[np.ndarray, np.ndarray, np.ndarray]
    text_types: tuple[int, int]

    @property
    def size(self) -> int:
        return sum(map(len, self.ids))


@dataclass
class Windows:
    """Windows in the order of rows: ``row`` [w]; ragged columns aligned with ``input_ids``.

    ``char_start`` and ``char_end`` are the token's characters in the context, with the accents
    behind it that no token has; −1 for tokens that are not of the context.
    """

    row: np.ndarray
    input_ids: Ragged
    token_type_ids: Ragged
    char_start: Ragged
    char_end: Ragged


def frame_of(tokenizer: Any) -> Frame:
    """UsageError for a tokenizer that does not tell where its tokens stand, or has no [CLS]."""
    if not getattr(tokenizer, "is_fast", False):
        raise UsageError(
            "this tokenizer does not tell where its tokens stand in the text",
            where="model.tokenizer", hint="Take one with a tokenizer.json",
        )  # fmt: skip
    with bare(tokenizer) as backend:
        probe = backend.encode("a", "a")
    owner = [-1 if each is None else each for each in probe.sequence_ids]
    ids, types, places = np.asarray(probe.ids), np.asarray(probe.type_ids), np.asarray(owner)
    if not owner or owner[0] != -1:
        raise UsageError(
            "this tokenizer puts no special token first, which means no answer",
            where="model.tokenizer", hint="Take an encoder such as BERT",
        )  # fmt: skip
    one, two = np.flatnonzero(places == 0), np.flatnonzero(places == 1)
    cuts = (slice(0, one[0]), slice(one[-1] + 1, two[0]), slice(two[-1] + 1, None))
    return Frame(
        (ids[cuts[0]], ids[cuts[1]], ids[cuts[2]]),
        (types[cuts[0]], types[cuts[1]], types[cuts[2]]),
        (int(types[one[0]]), int(types[two[0]])),
    )


def windows_of(
    tokenizer: Any,
    questions: Sequence[str],
    contexts: Sequence[str],
    max_length: int,
    stride: int,
) -> Windows:
    """No window for a question that leaves no step (``room`` ≤ ``stride``) in a long context."""
    frame = frame_of(tokenizer)
    asked = _tokens(tokenizer, list(dict.fromkeys(questions)))
    told = _tokens(tokenizer, list(dict.fromkeys(contexts)))
    rows: list[int] = []
    parts: dict[str, list[np.ndarray]] = {"ids": [], "types": [], "starts": [], "ends": []}
    sizes: list[int] = []
    before, between, after = frame.ids
    for row, (question, context) in enumerate(zip(questions, contexts, strict=True)):
        question_ids, (ids, offsets) = asked[question][0], told[context]
        room = max_length - frame.size - len(question_ids)
        if len(ids) > room and room <= stride:
            continue
        head = np.concatenate([before, question_ids, between])
        head_types = np.concatenate(
            [
                frame.types[0],
                np.full(len(question_ids), frame.text_types[0]),
                frame.types[1],
            ]
        )
        nowhere, behind = np.full(len(head), -1), np.full(len(after), -1)
        for start in _starts(len(ids), room, stride):
            piece = slice(start, min(start + room, len(ids)))
            count = piece.stop - start
            rows.append(row)
            sizes.append(len(head) + count + len(after))
            parts["ids"] += [head, ids[piece], after]
            parts["types"] += [head_types, np.full(count, frame.text_types[1]), frame.types[2]]
            parts["starts"] += [nowhere, offsets[piece, 0], behind]
            parts["ends"] += [nowhere, offsets[piece, 1], behind]
    runs = np.asarray(sizes, np.int64)
    return Windows(
        np.asarray(rows, np.int64),
        Ragged(_joined(parts["ids"], np.int32), runs),
        Ragged(_joined(parts["types"], np.int8), runs),
        Ragged(_joined(parts["starts"], np.int32), runs),
        Ragged(_joined(parts["ends"], np.int32), runs),
    )


def _starts(length: int, room: int, stride: int) -> range:
    """Where the windows over ``length`` tokens start."""
    if length <= room:
        return range(1)
    step = room - stride
    return range(0, length - room + step, step)


def _joined(parts: Sequence[np.ndarray], dtype: Any) -> np.ndarray:
    return np.concatenate(parts).astype(dtype) if parts else np.empty(0, dtype)


def _tokens(tokenizer: Any, texts: list[str]) -> dict[str, Tokens]:
    """Each text's tokens, special ones left out."""
    found: dict[str, Tokens] = {}
    with bare(tokenizer) as backend:
        for at in range(0, len(texts), _SLICE_TEXTS):
            part = texts[at : at + _SLICE_TEXTS]
            encodings = backend.encode_batch(part, add_special_tokens=False)
            for each, encoding in zip(part, encodings, strict=True):
                offsets = np.asarray(encoding.offsets, np.int32).reshape(-1, 2)
                found[each] = np.asarray(encoding.ids, np.int32), _with_marks(each, offsets)
    return found


def _with_marks(text: str, offsets: np.ndarray) -> np.ndarray:
    """``offsets`` [n, 2] where a token takes the marks after it (accents) that no token has.

    Tokenizers that strip accents drop them with their place: an answer would lack its last one.
    """
    if text.isascii() or not len(offsets):
        return offsets
    marks = [at for at, each in enumerate(text) if unicodedata.category(each) in ("Mn", "Me")]
    for at in marks:  # ascending, so that each of several marks is taken after the one before it
        ending = offsets[:, 1] == at
        if not (offsets[:, 0] == at).any():
            offsets[ending & (offsets[:, 0] < at), 1] = at + 1
    return offsets
