"""Questions and contexts → windows: a context that is too long is split into overlapping windows.

    tokens of a window    [special] question [special] context[k·step : k·step + room] [special]
    room = max_length − special tokens − question,   step = room − stride
    windows               k = 0, 1, … until one reaches the context's end

The result equals that of tokenizers' truncation "only_second" with a stride. Each question and
each context is tokenized once, however many questions share a context.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bertft.config.data import DataConfig
from bertft.data.features import RaggedColumn, without_padding
from bertft.errors import UsageError
from bertft.tasks.shared.encoding import InputEncoding

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = [
    "DEFAULT_MAX_LENGTH",
    "INPUT_ENCODING",
    "PairTemplate",
    "Windows",
    "answer_positions",
    "encode_windows",
    "pair_template",
]


DEFAULT_MAX_LENGTH = 384
_INFINITY = np.iinfo(np.int32).max
_SLICE_TEXTS = 1024  # texts tokenized at once


def answer_positions(
    windows: Windows, answers: Sequence[Sequence[str]], offsets: Sequence[Sequence[int]]
) -> tuple[np.ndarray, np.ndarray]:
    """Start and end token of the first answer of each row: two arrays, int64 [windows].

    0, the [CLS] token, where a window does not contain the answer; −1 where its offset is unknown.
    """
    answer_start = np.array([row[0] if row else -1 for row in offsets], np.int64)
    answer_length = np.array([len(row[0]) if row else 0 for row in answers], np.int64)
    answer_stop = answer_start + answer_length
    has_answer = np.array([bool(row) for row in answers], bool)
    is_unknown = (has_answer & (answer_start < 0))[windows.row]
    start = np.where(is_unknown, -1, 0)
    end = start.copy()
    # The characters covered by the tokens of the answer, in whichever window they are.
    covered_start = np.full(len(answer_start), _INFINITY, np.int64)
    covered_stop = np.full(len(answer_start), -1, np.int64)
    contexts = [context for context in _iter_contexts(windows) if answer_start[context.row] >= 0]
    for context in contexts:
        row = context.row
        starts = context.char_start[context.char_end > answer_start[row]]
        stops = context.char_end[context.char_start < answer_stop[row]]
        covered_start[row] = min(covered_start[row], starts.min(initial=_INFINITY))
        covered_stop[row] = max(covered_stop[row], stops.max(initial=-1))
    for context in contexts:
        row, char_start, char_end = context.row, context.char_start, context.char_end
        if char_start[0] <= covered_start[row] < covered_stop[row] <= char_end[-1]:
            first_token = np.searchsorted(char_end, answer_start[row], side="right")
            last_token = np.searchsorted(char_start, answer_stop[row], side="left") - 1
            start[context.window] = context.tokens[first_token]
            end[context.window] = context.tokens[last_token]
    return start, end


class _WindowContext(NamedTuple):
    """The context in one window: n ``tokens`` of the window, and their characters [n]."""

    window: int
    row: int
    tokens: np.ndarray
    char_start: np.ndarray
    char_end: np.ndarray


def _iter_contexts(windows: Windows) -> Iterator[_WindowContext]:
    """The windows that contain a part of the context."""
    stops = np.cumsum(windows.input_ids.sizes)
    for window, row in enumerate(windows.row):
        stop = stops[window]
        token_slice = slice(stop - windows.input_ids.sizes[window], stop)
        char_start = windows.char_start.values[token_slice]
        char_end = windows.char_end.values[token_slice]
        tokens = np.flatnonzero(char_start >= 0)
        if len(tokens):
            yield _WindowContext(window, row, tokens, char_start[tokens], char_end[tokens])


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
    ids, types = np.asarray(probe.ids), np.asarray(probe.type_ids)
    text_numbers = np.asarray([-1 if number is None else number for number in probe.sequence_ids])
    if not len(text_numbers) or text_numbers[0] != -1:
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
    sizes: list[int] = []
    arrays: dict[str, list[np.ndarray]] = {"ids": [], "types": [], "starts": [], "ends": []}
    before, between, after = template.ids
    for row, (question, context) in enumerate(zip(questions, contexts, strict=True)):
        question_ids, (ids, offsets) = question_tokens[question][0], context_tokens[context]
        context_room = max_length - template.size - len(question_ids)
        if len(ids) > context_room and context_room <= stride:
            continue
        question_types = np.full(len(question_ids), template.text_types[0])
        prefix_ids = np.concatenate([before, question_ids, between])
        prefix_types = np.concatenate([template.types[0], question_types, template.types[1]])
        prefix_offsets, suffix_offsets = np.full(len(prefix_ids), -1), np.full(len(after), -1)
        for start in _window_starts(len(ids), context_room, stride):
            tokens = slice(start, min(start + context_room, len(ids)))
            count = tokens.stop - start
            context_types = np.full(count, template.text_types[1])
            rows.append(row)
            sizes.append(len(prefix_ids) + count + len(after))
            arrays["ids"] += [prefix_ids, ids[tokens], after]
            arrays["types"] += [prefix_types, context_types, template.types[2]]
            arrays["starts"] += [prefix_offsets, offsets[tokens, 0], suffix_offsets]
            arrays["ends"] += [prefix_offsets, offsets[tokens, 1], suffix_offsets]
    window_sizes = np.asarray(sizes, np.int64)
    return Windows(
        np.asarray(rows, np.int64),
        RaggedColumn(_concatenate(arrays["ids"], np.int32), window_sizes),
        RaggedColumn(_concatenate(arrays["types"], np.int8), window_sizes),
        RaggedColumn(_concatenate(arrays["starts"], np.int32), window_sizes),
        RaggedColumn(_concatenate(arrays["ends"], np.int32), window_sizes),
    )


def _window_starts(length: int, room: int, stride: int) -> range:
    """Where the windows over ``length`` tokens start."""
    if length <= room:
        return range(1)
    step = room - stride
    return range(0, length - room + step, step)


def _concatenate(arrays: Sequence[np.ndarray], dtype: type[np.integer]) -> np.ndarray:
    return np.concatenate(arrays).astype(dtype) if arrays else np.empty(0, dtype)


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
        position
        for position, character in enumerate(text)
        if unicodedata.category(character) in ("Mn", "Me")
    ]
    # In ascending order, so that a token is extended over several marks one by one.
    for position in marks:
        ends_here = offsets[:, 1] == position
        if not (offsets[:, 0] == position).any():
            offsets[ends_here & (offsets[:, 0] < position), 1] = position + 1
    return offsets


def _encode_rows(
    tokenizer: PreTrainedTokenizerBase,
    rows: Mapping[str, Sequence[Any]],
    config: DataConfig,
    max_length: int,
) -> dict[str, Any]:
    windows = encode_windows(
        tokenizer, rows["question"], rows["context"], max_length, config.stride
    )
    return {"input_ids": windows.input_ids, "row": windows.row}


INPUT_ENCODING = InputEncoding(_encode_rows, DEFAULT_MAX_LENGTH)
