# ruff: noqa: RUF001 (texts in other scripts)
from __future__ import annotations

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertft.data.readers import text_files
from bertft.data.text_detection import detect_encoding, detect_text_format, guess_wide_encoding

CHINESE = "这部电影非常好看，演员的表演也很精彩，推荐大家去看。\n房间很小，服务态度不好。\n" * 20
TRADITIONAL = (
    "這部電影非常好看，演員的表演也很精彩，推薦大家去看。\n房間很小，服務態度不好。\n" * 20
)
JAPANESE = "この映画はとても面白かったです。\n部屋は狭くて、サービスもよくなかった。\n" * 20
KOREAN = "이 영화는 정말 재미있었어요.\n방이 너무 작고 서비스도 좋지 않았어요.\n" * 20
FRENCH = "Le film était très long, mais la fin est réussie.\nÇa coûte cher à l’entrée…\n" * 20
RUSSIAN = "Фильм оказался очень скучным, актёры играют плохо.\nОтличная музыка и сюжет.\n" * 20


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (CHINESE, "gb18030"),
        (TRADITIONAL, "big5"),
        (JAPANESE, "shift_jis"),
        (JAPANESE, "euc_jp"),
        (KOREAN, "euc_kr"),
        (FRENCH, "cp1252"),
        (RUSSIAN, "cp1251"),
        (RUSSIAN, "koi8_r"),
    ],
)
def test_the_encoding_decodes_the_text(text, encoding):
    content = text.encode(encoding)
    assert content.decode(detect_encoding(content)) == text


@pytest.mark.parametrize(
    ("word", "encoding"),
    [
        ("很好", "gb18030"),
        ("质量差", "gb18030"),
        ("很好看", "big5"),
        ("おもしろい", "shift_jis"),
        ("おもしろい", "euc_jp"),
        ("좋았어요", "euc_kr"),
        ("фильм", "cp1251"),
        ("фильм", "koi8_r"),
        ("naïve coração", "cp1252"),
        ("AÇÃO", "cp1252"),  # four bytes that are two Chinese characters
        ("für 30 €", "cp1252"),
    ],
)
def test_a_few_words_in_english_texts(word, encoding):
    lines = [f"the film number {n} was long but we liked its end\n" for n in range(100)]
    for n in (40, 60):
        lines[n] = f"the film was {word} and we would see it again with all of our friends\n"
    content = "".join(lines).encode(encoding)
    detected = detect_encoding(content)
    assert detected == encoding.replace("_", "-") and content.decode(detected) == "".join(lines)


@pytest.mark.parametrize("text", ["plain words\n" * 50, CHINESE, FRENCH, ""])
def test_utf_8_is_the_default(text):
    assert detect_encoding(text.encode()) is None


def test_a_few_damaged_lines_are_no_other_encoding():
    lines = CHINESE.encode().split(b"\n")
    lines[3] = b"\xff\xfe\xe9 broken"
    assert detect_encoding(b"\n".join(lines)) is None


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-16-le", "utf-16-be"])
def test_wide_encodings(encoding):
    assert guess_wide_encoding("text,label\na film,1\n".encode(encoding)) == encoding


@pytest.mark.parametrize("head", [b"text,label\n", b"", CHINESE.encode(), bytes(range(256)) * 4])
def test_other_bytes_are_not_wide(head):
    assert guess_wide_encoding(head) is None


@pytest.mark.parametrize(
    ("head", "settings"),
    [
        ("text\tlabel\na film\t1\na bore\t0\n", ["data.format=tsv"]),
        ("id,text,label\n" + '1,"a film, long",1\n2,b,0\n' * 5, ["data.format=csv"]),
        ("text;label\n" + "a film;1\n" * 9, ["data.format=csv", "data.separator=;"]),
        ("text|label\n" + "a film|1\n" * 9, ["data.format=csv", "data.separator=|"]),
        ('{"text": "a"}\n{"text": "b"}\n', ["data.format=jsonl"]),
        ('[{"text": "a"},\n {"text": "b"}]', ["data.format=json"]),
        ('{\n "text": "a"\n}\n', ["data.format=json"]),
        ("__label__pos so good\n__label__neg a bore\n", ["data.format=fasttext"]),
        (
            "EU B-ORG\nrejects O\n\nPeter B-PER\nsleeps O\n\n" * 3,
            ["data.format=conll", "data.task=token_classification"],
        ),
        ("A film, so good.\nDull, long, and loud.\nNothing.\nWell, a joke.\nOh.\n", []),
        ("A note, which was long.\nA film, so dull.\nA book, a joy.\nA play, so so.\n", []),
        ("".join(f"note {n}, which was long.\n" for n in range(20)), []),
        ("".join(f"a note on {n},{n % 2}\n" for n in range(20)), ["data.format=csv"]),
        ("a, b, c" * 40_000, []),  # one field for ; and |, longer than csv reads
        ("one text\n", []),
        ("\n\n", []),
    ],
)
def test_the_format_of_a_text_without_an_extension(head, settings):
    assert detect_text_format(head) == settings


@pytest.mark.parametrize("separator", ["\u2028", "\x1c", "\x85", "\v", "\f"])
def test_only_line_ends_end_a_line(separator):
    """str.splitlines would split these texts in the middle."""
    rows = "".join(f"a{separator}b {number}\t{'xy'[number % 2]}\n" for number in range(8))
    assert detect_text_format(rows) == ["data.format=tsv"]
    assert detect_text_format(rows.replace("\n", "\r\n")) == ["data.format=tsv"]
    lines = "".join(json.dumps({"text": f"a{separator}b"}, ensure_ascii=False) + "\n" for _ in "ab")
    assert detect_text_format(lines) == ["data.format=jsonl"]


@given(
    text=st.text(st.sampled_from("\n\n\r ab"), max_size=30),
    block=st.sampled_from([3, 8, 1 << 16]),
    max_rest=st.sampled_from([0, 4, 100]),
)
def test_blank_lines_are_skipped_in_blocks(text, block, max_rest):
    expected = [line for line in io.StringIO(text, newline="") if line.strip()][:1] or [""]
    rest = text[text.find(expected[0]) + len(expected[0]) :] if expected[0] else ""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_files, "_HEAD_CHARACTERS", block)
        for blank_lines in (0, 2, 100):
            patch.setattr(text_files, "_MAX_BLANK_LINES", blank_lines)
            actual = text_files._read_lines(io.BytesIO(text.encode()), "utf-8", max_rest)
            if expected[0] and text.count(expected[0]) == 1:
                assert actual == (expected[0], rest[:max_rest])
            assert actual[0] == expected[0]
