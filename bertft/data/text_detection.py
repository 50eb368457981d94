"""Detect the encoding of a text from its bytes, and the format of a text from its lines."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Sequence
from itertools import islice

from bertft.data.guess_columns import LABEL_COLUMN_NAMES, TEXT_COLUMN_NAMES
from bertft.data.readers.json_documents import is_json_document
from bertft.data.readers.labelled_lines import is_fasttext
from bertft.data.readers.text_files import parse_json_object

__all__ = [
    "MARKED_ENCODINGS",
    "detect_encoding",
    "detect_text_format",
    "guess_wide_encoding",
    "is_binary",
]

_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
MARKED_ENCODINGS = ("utf-16", "utf-32")  # detected by a byte order mark only
# Characters that are frequent in texts in an encoding. Wrong encodings give other characters.
_HAN, _PUNCTUATION = "\u4e00-\u9fff", "\u2010-\u2026\u3000-\u303f\uff01-\uff5e"
_FREQUENT = {
    "euc_kr": re.compile(f"[\uac00-\ud7a3{_PUNCTUATION}]"),
    "shift_jis": re.compile(f"[\u3040-\u30ff{_HAN}{_PUNCTUATION}]"),
    "euc_jp": re.compile(f"[\u3040-\u30ff{_HAN}{_PUNCTUATION}]"),
    "gb18030": re.compile(f"[{_HAN}{_PUNCTUATION}]"),
    "big5": re.compile(f"[{_HAN}{_PUNCTUATION}]"),
    "cp1251": re.compile("[\u0430-\u044f\u0451\u2013\u2014\u00ab\u00bb]"),  # small letters
    "koi8_r": re.compile("[\u0430-\u044f\u0451]"),
    "cp1252": re.compile("[\u00c0-\u00ff\u2013-\u2026\u20ac\u00ab\u00bb\u00b0\u0153]"),
}
# The most frequent characters: a few words can be valid text in several of these encodings.
_HIRAGANA = "のにはをたがでてとしれさあるいうもなこそよからりくきっまんだすみえおけせ"
_MOST_FREQUENT = {
    "gb18030": "的一是不了在人有我他这个们中来上大为和国地到以说时要就出会可也你对生能而子那得于"
    "着下自之年过发后作里用道行所然家事成方多经么去法学如都同现没动面起看定天分还进好"
    "小部其些主样理心本前开但因只从想实很非常",
    "big5": "的一是不了在人有我他這個們中來上大為和國地到以說時要就出會可也你對生能而子那得於"
    "著下自之年過發後作裡用道行所然家事成方多經麼去法學如都同現沒動面起看定天分還進好"
    "小部其些主樣理心本前開但因只從想實很非常",
    "euc_kr": "이다는에을의가고하지한도은를기로서어아사나리자시해인그대만으들게라있었습니요정스"
    "일여보부좋않것수없전장거성상너무오안면제우주구",
    "shift_jis": _HIRAGANA,
    "euc_jp": _HIRAGANA,
}
_KANA = re.compile("[\u3040-\u30ff]")
_MIN_KANA_SHARE = 0.2  # of Japanese texts
# Chinese characters are ordered by frequency: the first byte of frequent ones.
_FREQUENT_LEADS = {"gb18030": range(0xA1, 0xD8), "big5": range(0xA1, 0xC7)}
_MIN_FREQUENT_SHARE = 0.8
_MAX_LATIN_SHARE = 0.35  # of the letters of a Latin text have an accent
# Characters in a row that are a word of another script. With an alphabet, Latin letters next to
# them mean accents, as in coração.
_WORD = re.compile(r"[^\x00-\x7f]{2,}")
_ALPHABETIC_WORD = re.compile(r"(?<![A-Za-z\x80-\U0010ffff])[^\x00-\x7f]{2,}(?![A-Za-z])")
_ALPHABETIC = ("cp1252", "cp1251", "koi8_r")
_MIN_WORD_SHARE = 0.7  # of the characters of another script are in such words
_MAX_DAMAGED_SHARE = 0.05  # of the lines that are not ASCII: more are another encoding
_MAX_DETECTED_LINES = 500
# Of a text: all bytes but control codes; with form feeds, and escapes of ISO 2022.
_TEXT_BYTES = bytes({*range(0x20, 0x100), *b"\t\n\r\f\v\x1b"} - {0x7F})
_MAX_CONTROL_SHARE = 0.05
_MIN_NUL_SHARE = 0.2  # of the bytes of text in UTF-16
_MIN_LINES = 3  # from which the separator of columns is detected
_MAX_LINES = 100
_CONSISTENT_SHARE = 0.9  # of the lines have the same number of columns
_TAG = re.compile(r"\S+[ \t]+(?:\S+[ \t]+)*(?:O|[BIESLUM]-\S+)")


def is_binary(head: bytes) -> bool:
    """Whether a file that begins with ``head`` is not text in an 8-bit encoding."""
    count = len(head.translate(None, delete=_TEXT_BYTES))
    return count > _MAX_CONTROL_SHARE * len(head)


def guess_wide_encoding(head: bytes) -> str | None:
    """The encoding of a text in UTF-16 or UTF-32 that begins with ``head``; None for any other."""
    for mark, name in _BYTE_ORDER_MARKS:
        if head.startswith(mark):
            return name
    # In UTF-16, every second byte of ASCII text is NUL.
    if not head:
        return None
    even, odd = head[0::2].count(0), head[1::2].count(0)
    if max(even, odd) < _MIN_NUL_SHARE * len(head) or min(even, odd) > max(even, odd) / 10:
        return None
    return "utf-16-le" if odd > even else "utf-16-be"


def detect_encoding(content: bytes) -> str | None:
    """The encoding of ``content``, which is not in UTF-16; None for UTF-8.

    Content with a few damaged lines, or in an unknown encoding, counts as UTF-8: its reader reports
    the lines.
    """
    if content.isascii():
        return None
    lines = [line for line in content.split(b"\n") if not line.isascii()]
    damaged = sum(not _is_valid(line, "utf-8") for line in lines)
    if damaged <= _MAX_DAMAGED_SHARE * len(lines):
        return None
    sample = b"\n".join(lines[:_MAX_DETECTED_LINES])
    shares = {name: _frequent_share(sample, name) for name in _FREQUENT}
    best = max(shares, key=lambda name: shares[name] + _most_frequent_share(sample, name))
    damaged = sum(not _is_valid(line, best) for line in lines)
    if shares[best] < _MIN_FREQUENT_SHARE or damaged > _MAX_DAMAGED_SHARE * len(lines):
        return None
    return best.replace("_", "-")


def _most_frequent_share(content: bytes, encoding: str) -> float:
    """The share of the characters outside of ASCII that are the most frequent ones of all."""
    characters = _other_characters(content.decode(encoding, "replace"))
    most_frequent = frozenset(_MOST_FREQUENT.get(encoding, ""))
    return sum(character in most_frequent for character in characters) / len(characters)


def _other_characters(text: str) -> list[str]:
    return [character for character in text if not character.isascii()]


def _frequent_share(content: bytes, encoding: str) -> float:
    """The share of the characters outside of ASCII that are frequent in texts in ``encoding``."""
    text = content.decode(encoding, "replace")
    characters = _other_characters(text)
    frequent = [c for c in characters if _FREQUENT[encoding].match(c)]
    if encoding in _FREQUENT_LEADS:
        leads = _FREQUENT_LEADS[encoding]
        frequent = [c for c in frequent if c.encode(encoding, "replace")[0] in leads]
    share = len(frequent) / len(characters)
    letters = sum(character.isalpha() for character in text)
    accented_share = sum(character.isalpha() for character in characters) / max(1, letters)
    kana = sum(_KANA.match(character) is not None for character in characters)
    if encoding in ("shift_jis", "euc_jp") and kana < _MIN_KANA_SHARE * len(characters):
        return 0.0
    # Most letters of a Latin text are ASCII, with single accented ones between them. Words of
    # another script in such a text have several of its characters in a row.
    is_latin = accented_share <= _MAX_LATIN_SHARE
    word = _ALPHABETIC_WORD if encoding in _ALPHABETIC else _WORD
    has_words = sum(map(len, word.findall(text))) >= _MIN_WORD_SHARE * len(characters)
    is_possible = is_latin and not has_words if encoding == "cp1252" else has_words or not is_latin
    return share if is_possible else 0.0


def _is_valid(content: bytes, encoding: str) -> bool:
    try:
        content.decode(encoding)
    except UnicodeError:
        return False
    return True


def detect_text_format(head: str) -> list[str]:
    """The settings that read a text without a known extension, such as ``["data.format=tsv"]``.

    Empty for a text without columns.
    """
    if is_json_document(head):
        return ["data.format=json"]
    lines = [line for line in _first_lines(head) if line.strip()]
    if not lines:
        return []
    if parse_json_object(lines[0]) is not None:
        return ["data.format=jsonl"]
    if is_fasttext(head):
        return ["data.format=fasttext"]
    if len(lines) > 1 and _is_conll(head):
        return ["data.format=conll", "data.task=token_classification"]
    for separator, settings in (
        ("\t", ["data.format=tsv"]),
        (",", ["data.format=csv"]),
        (";", ["data.format=csv", "data.separator=;"]),
        ("|", ["data.format=csv", "data.separator=|"]),
    ):
        if _has_columns(lines, separator):
            return settings
    return []


def _first_lines(head: str) -> list[str]:
    """The first lines, without their ends; unlike str.splitlines, U+2028 and so on end no line."""
    lines = io.StringIO(head, newline=None)
    return [line.removesuffix("\n") for line in islice(lines, _MAX_LINES)]


def _is_conll(head: str) -> bool:
    """Whether lines of words with entity tags are separated by blank lines."""
    lines = _first_lines(head)
    words = [line for line in lines if line.strip() and not line.startswith(("#", "-DOCSTART-"))]
    tagged = sum(_TAG.fullmatch(line.strip()) is not None for line in words)
    has_blank_line = any(not line.strip() for line in lines[1:-1])
    return has_blank_line and tagged >= _CONSISTENT_SHARE * len(words)


def _has_columns(lines: Sequence[str], separator: str) -> bool:
    """Whether nearly all lines have the same number of columns, and more than one.

    Texts can have one comma per line by chance: without tabs, the first line must have names of
    columns, or a column must have values that repeat, as labels do.
    """
    complete = lines[:-1] if len(lines) > _MIN_LINES else lines  # the last line may be cut
    if separator == "\t":
        widths = [line.count(separator) + 1 for line in complete]
        return _is_consistent(widths)
    try:
        rows = list(csv.reader(complete, delimiter=separator))
    except csv.Error:  # a field that is longer than csv's limit
        return False
    widths = [len(row) for row in rows]
    if len(rows) < _MIN_LINES or not _is_consistent(widths):
        return False
    width = _usual(widths)
    names = {name.strip().casefold() for name in rows[0]}
    if names & {*TEXT_COLUMN_NAMES, *LABEL_COLUMN_NAMES}:
        return True
    columns = zip(*(row for row in rows[1:] if len(row) == width), strict=True)
    return any(1 < len(set(column)) <= len(column) / 2 for column in columns)


def _is_consistent(widths: Sequence[int]) -> bool:
    width = _usual(widths)
    return width > 1 and widths.count(width) >= _CONSISTENT_SHARE * len(widths)


def _usual(widths: Sequence[int]) -> int:
    return max(set(widths), key=widths.count)
