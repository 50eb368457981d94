"""Questions and contexts → windows: a context that is too long is split into overlapping windows.

    tokens of a window    [special] question [special] context[k·step : k·step + room] [special]
    room = max_length − special tokens − question,   step = room − stride
    windows               k = 0, 1, … until one reaches the context's end

The result equals that of tokenizers' truncation "only_second" with a stride. Each question and
each context is tokenized once, however many questions share a context.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bertft.data.features import RaggedColumn, without_padding
from bertft.errors import UsageError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = [
    "PairTemplate",
    "Windows",
    "answer_positions",
    "encode_windows",
    "pair_template",
]


_INFINITY = np.iinfo(np.int32).max


def answer_positions(
    windows: Windows, answers: Sequence[Sequence[str]], offsets: Sequence[Sequence[int]]
) -> tuple[np.ndarray, np.ndarray]:
    """Start and end token of the first answer of each row: two arrays, int64 [windows].

    0, the [CLS] token, where a window does not contain the answer; −1 where its offset is unknown.
    """
    first = np.array([row_offsets[0] if row_offsets else -1 for row_offsets in offsets], np.int64)
    last = first + np.array(
        [len(row_answers[0]) if row_answers else 0 for row_answers in answers], np.int64
    )
    start = np.zeros(len(windows.row), np.int64)
    end = np.zeros(len(windows.row), np.int64)
    has_unknown_offset = np.array([bool(row_answers) for row_answers in answers], bool) & (
        first < 0
    )
    start[has_unknown_offset[windows.row]] = end[has_unknown_offset[windows.row]] = -1
    # The characters covered by the tokens of the answer, in whichever window they are.
    begin, stop = np.full(len(first), _INFINITY, np.int64), np.full(len(first), -1, np.int64)
    contexts = list(_iter_contexts(windows))
    for _, row, _, begins, ends in contexts:
        if first[row] >= 0:
            begin[row] = min(begin[row], begins[ends > first[row]].min(initial=_INFINITY))
            stop[row] = max(stop[row], ends[begins < last[row]].max(initial=-1))
    for window, row, inside, begins, ends in contexts:
        if first[row] >= 0 and begins[0] <= begin[row] < stop[row] <= ends[-1]:
            start[window] = inside[np.searchsorted(ends, first[row], side="right")]
            end[window] = inside[np.searchsorted(begins, last[row], side="left") - 1]
    return start, end


_Context = tuple[int, int, np.ndarray, np.ndarray, np.ndarray]


def _iter_contexts(windows: Windows) -> Iterator[_Context]:
    """(window, row, positions of the context tokens, first character of each, last one + 1)."""
    stops = np.cumsum(windows.input_ids.sizes)
    for window, row in enumerate(windows.row):
        stop = stops[window]
        token_slice = slice(stop - windows.input_ids.sizes[window], stop)
        begins = windows.char_start.values[token_slice]
        context_tokens = np.flatnonzero(begins >= 0)
        if len(context_tokens):
            yield (
                window,
                row,
                context_tokens,
                begins[context_tokens],
                windows.char_end.values[token_slice][context_tokens],
            )


_SLICE_TEXTS = 1024

TokenOffsets = tuple[np.ndarray, np.ndarray]  # ids [n] and offsets [n, 2] in characters


@dataclass(frozen=True)
class PairTemplate:
    """Special tokens of a pair: ids and type ids before, between and after the texts."""

    ids: tuple[np.ndarray, np.ndarray, np.ndarray]
    types: tuple[np.ndarray, np.ndarray, np.ndarray]
    text_types: tuple[int, int]

    @property
    def size(self) -> int:
        return sum(map(len, self.ids))


@dataclass
class Windows:
    """Windows in the order of rows: ``row`` [windows]; ragged columns aligned with ``input_ids``.

    ``char_start`` and ``char_end`` are the token's characters in the context, including following
    combining marks that no token covers; −1 for tokens outside the context.
    """

    row: np.ndarray
    input_ids: RaggedColumn
    token_type_ids: RaggedColumn
    char_start: RaggedColumn
    char_end: RaggedColumn


def pair_template(tokenizer: PreTrainedTokenizerBase) -> PairTemplate:
    """The special tokens that ``tokenizer`` adds to a pair.

    Raises UsageError for a tokenizer without token offsets, or without a [CLS] token.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise UsageError(
            "the tokenizer has no token offsets",
            where="model.tokenizer",
            hint="Choose a model with a fast tokenizer (tokenizer.json)",
        )
    with without_padding(tokenizer) as backend:
        probe = backend.encode("a", "a")
    sequence_ids = [
        -1 if sequence_id is None else sequence_id for sequence_id in probe.sequence_ids
    ]
    ids, types, text_numbers = (
        np.asarray(probe.ids),
        np.asarray(probe.type_ids),
        np.asarray(sequence_ids),
    )
    if not sequence_ids or sequence_ids[0] != -1:
        raise UsageError(
            "the tokenizer adds no special token at the start, which would stand for no answer",
            where="model.tokenizer",
            hint="Choose an encoder such as BERT",
        )
    first_text, second_text = np.flatnonzero(text_numbers == 0), np.flatnonzero(text_numbers == 1)
    special_slices = (
        slice(0, first_text[0]),
        slice(first_text[-1] + 1, second_text[0]),
        slice(second_text[-1] + 1, None),
    )
    return PairTemplate(
        (ids[special_slices[0]], ids[special_slices[1]], ids[special_slices[2]]),
        (types[special_slices[0]], types[special_slices[1]], types[special_slices[2]]),
        (int(types[first_text[0]]), int(types[second_text[0]])),
    )


def encode_windows(
    tokenizer: PreTrainedTokenizerBase,
    questions: Sequence[str],
    contexts: Sequence[str],
    max_length: int,
    stride: int,
) -> Windows:
    """The windows of all rows.

    A row has no window if its question leaves room for ``stride`` tokens or fewer of a longer
    context.
    """
    template = pair_template(tokenizer)
    question_tokens = _tokenize(tokenizer, list(dict.fromkeys(questions)))
    context_tokens = _tokenize(tokenizer, list(dict.fromkeys(contexts)))
    rows: list[int] = []
    parts: dict[str, list[np.ndarray]] = {"ids": [], "types": [], "starts": [], "ends": []}
    sizes: list[int] = []
    before, between, after = template.ids
    for row, (question, context) in enumerate(zip(questions, contexts, strict=True)):
        question_ids, (ids, offsets) = question_tokens[question][0], context_tokens[context]
        context_room = max_length - template.size - len(question_ids)
        if len(ids) > context_room and context_room <= stride:
            continue
        prefix_ids = np.concatenate([before, question_ids, between])
        prefix_types = np.concatenate(
            [
                template.types[0],
                np.full(len(question_ids), template.text_types[0]),
                template.types[1],
            ]
        )
        head_offsets, tail_offsets = np.full(len(prefix_ids), -1), np.full(len(after), -1)
        for start in _window_starts(len(ids), context_room, stride):
            piece = slice(start, min(start + context_room, len(ids)))
            count = piece.stop - start
            rows.append(row)
            sizes.append(len(prefix_ids) + count + len(after))
            parts["ids"] += [prefix_ids, ids[piece], after]
            parts["types"] += [
                prefix_types,
                np.full(count, template.text_types[1]),
                template.types[2],
            ]
            parts["starts"] += [head_offsets, offsets[piece, 0], tail_offsets]
            parts["ends"] += [head_offsets, offsets[piece, 1], tail_offsets]
    window_sizes = np.asarray(sizes, np.int64)
    return Windows(
        np.asarray(rows, np.int64),
        RaggedColumn(_concatenate(parts["ids"], np.int32), window_sizes),
        RaggedColumn(_concatenate(parts["types"], np.int8), window_sizes),
        RaggedColumn(_concatenate(parts["starts"], np.int32), window_sizes),
        RaggedColumn(_concatenate(parts["ends"], np.int32), window_sizes),
    )


def _window_starts(length: int, room: int, stride: int) -> range:
    """Where the windows over ``length`` tokens start."""
    if length <= room:
        return range(1)
    step = room - stride
    return range(0, length - room + step, step)


def _concatenate(parts: Sequence[np.ndarray], dtype: Any) -> np.ndarray:
    return np.concatenate(parts).astype(dtype) if parts else np.empty(0, dtype)


def _tokenize(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> dict[str, TokenOffsets]:
    """The tokens of each text, without special tokens."""
    tokens_by_text: dict[str, TokenOffsets] = {}
    with without_padding(tokenizer) as backend:
        for start in range(0, len(texts), _SLICE_TEXTS):
            text_slice = texts[start : start + _SLICE_TEXTS]
            encodings = backend.encode_batch(text_slice, add_special_tokens=False)
            for text, encoding in zip(text_slice, encodings, strict=True):
                offsets = np.asarray(encoding.offsets, np.int32).reshape(-1, 2)
                tokens_by_text[text] = (
                    np.asarray(encoding.ids, np.int32),
                    _include_combining_marks(text, offsets),
                )
    return tokens_by_text


def _include_combining_marks(text: str, offsets: np.ndarray) -> np.ndarray:
    """``offsets`` [n, 2] extended over following combining marks that no token covers.

    Tokenizers that strip accents have no offsets for them: an answer would lose a final accent.
    """
    if text.isascii() or not len(offsets):
        return offsets
    marks = [
        at for at, character in enumerate(text) if unicodedata.category(character) in ("Mn", "Me")
    ]
    # In ascending order, so that a token is extended over several marks one by one.
    for position in marks:
        ends_here = offsets[:, 1] == position
        if not (offsets[:, 0] == position).any():
            offsets[ends_here & (offsets[:, 0] < position), 1] = position + 1
    return offsets
