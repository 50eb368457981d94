"""CoNLL files: what separates columns, what is no word, what is not CoNLL at all."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertft.config.data import DataConfig
from bertft.data.readers.conll import WORD_COLUMNS, read_conll
from bertft.data.rows import BadRows
from bertft.data.schema import ColumnSpec
from bertft.errors import DataError

FIRST_AND_LAST = ColumnSpec(("text",), ("label",))
WORDS_ALONE = ColumnSpec(WORD_COLUMNS[:1], (), (), WORD_COLUMNS)

# White space that is no separator: each can be a word, or part of one.
SPACES = "\u00a0\u3000\u2003\u2028\u2029\u0085\u000b\u000c\u001c\u200b\ufeff"


@pytest.fixture
def read(tmp_path):
    def build(content, columns=FIRST_AND_LAST, **options):
        path = tmp_path / "a.conll"
        path.write_bytes(content.encode("utf-8", "surrogateescape"))
        bad = BadRows("a.conll")
        rows = list(read_conll(path, columns, DataConfig(name="t", **options), bad))
        assert options.get("on_bad_row") == "skip" or not bad, bad.first_errors
        return [fields for _, fields in rows]

    return build


@pytest.mark.parametrize("separator", ["\t", " ", " \t ", "   "])
@pytest.mark.parametrize("space", SPACES)
def test_only_spaces_and_tabs_separate(read, separator, space):
    first, *rest = [("Ann", "B-X"), (space, "O"), (f"1{space}000", "O"), (f"b{space}", "I-X")]
    if separator == " \t ":  # then the first line has a tab, and all lines are split there
        separator = " \t"
    text = "".join(f"{word}{separator}{tag}\n" for word, tag in (first, *rest))
    assert read(text) == [
        [[first[0], space, f"1{space}000", f"b{space}"], ["B-X", "O", "O", "I-X"]]
    ]


@pytest.mark.parametrize("separator", ["\t", " "])
def test_words_and_tags_round_trip(tmp_path, separator):
    symbol = st.characters(blacklist_categories=("Cs",), blacklist_characters="\r\n\t \ufeff")
    words = st.text(symbol, min_size=1, max_size=4).filter(
        lambda word: not word.startswith(("#", "-DOCSTART-", "<", "{", "["))
    )
    sentence = st.lists(st.tuples(words, st.sampled_from(["O", "B-X", "I-X"])), min_size=1)

    @settings(max_examples=40, deadline=None)
    @given(st.lists(sentence, min_size=1, max_size=4))
    def check(sentences):
        path, bad = tmp_path / "a.conll", BadRows("a.conll")
        blocks = ("".join(f"{w}{separator}{t}\n" for w, t in sentence) for sentence in sentences)
        path.write_text("\n".join(blocks), encoding="utf-8", newline="")
        rows = read_conll(path, FIRST_AND_LAST, DataConfig(name="t"), bad)
        actual = [list(zip(*fields, strict=True)) for _, fields in rows]
        assert (actual, len(bad)) == (sentences, 0)
        assert (bad.read, lines_of(bad)) == (len(actual), path.read_bytes().count(b"\n"))

    check()


def lines_of(bad):
    return bad.read + bad.blank_lines + bad.other_lines.total()


@pytest.mark.parametrize("count", [0, 1, 99, 100, 101, 102, 1_000])
@pytest.mark.parametrize("header", [False, True])
def test_every_line_is_counted(tmp_path, count, header):
    path, bad = tmp_path / "a.conll", BadRows("a.conll")
    text = (
        "# made by a tool\n\nword tag\n" * header + "-DOCSTART- O\n\n# text = ...\na O\nb B-X\n \n"
    )
    for folder in range(count):
        kind = ("a O\nb\nc O\n", "# here it is\n#\nz O\n\n# all alone here\n", "d O\n")[folder % 3]
        text += f"{kind}\n"
    path.write_text(text, encoding="utf-8")
    options = DataConfig(name="t", header=header or None)
    rows = [fields for _, fields in read_conll(path, FIRST_AND_LAST, options, bad)]
    faulty = (count + 2) // 3
    assert (len(rows), len(bad), bad.read) == (1 + count - faulty, faulty, 1 + count)
    assert lines_of(bad) == text.count("\n")


def test_comments_that_have_as_many_columns_as_a_word(read):
    text = "# id 5239\tdomain=en\nAnn _ _ B-X\n\n# sent_id = 3\n# _ _ O\nb _ _ O\n"
    assert read(text) == [[["Ann"], ["B-X"]], [["#", "b"], ["O", "O"]]]


def test_a_header(read):
    text = "word pos tag\nAnn N B-X\nsang V O\n"
    assert read(text, ColumnSpec(("word",), ("tag",)), header=True) == [
        [["Ann", "sang"], ["B-X", "O"]]
    ]
    assert read(text, header=True) == [[["Ann", "sang"], ["B-X", "O"]]]
    with pytest.raises(DataError, match=r"column 'ner' not found .columns: 'word', 'pos', 'tag'"):
        read(text, ColumnSpec(("word",), ("ner",)), header=True)


SENTENCE = "Ann\tB-X\nsang\tO\n\n"
REFUSED = {
    "json lines": ('{"tokens": ["a"], "tags": ["O"]}\n' * 3, "looks like JSON, not CoNLL"),
    "json": ('[\n  {\n    "tokens": ["a", "b"]\n  }\n]\n', "looks like JSON, not CoNLL"),
    "json lists": ('["a b", "O O"]\n["a", "O"]\n', "looks like JSON, not CoNLL"),
    "xml": ('<?xml version="1.0"?>\n<s><w>a</w></s>\n', "looks like XML or HTML, not CoNLL"),
    "one column": ("Ann\nsang\n", "have 1 column, but a word and its tag need two"),
    "commas": ("Ann,B-X\nsang,O\n", r"Then set 'data\.separator=,'"),
    "one sentence": ("a O\nb B-X\n" * 501, r"1,002 words in 1 sentences: the blank lines"),
    "sentences": ("text\tlabel\nAnn sings\tB-X O\n", "each line has a sentence and its tags"),
    "prose": ("It was late.\nAnn sang a song.\n\nWe left.\n\nIt rained on us.\n\nThen we slept.\n",
              r"not CoNLL: 3 of 4 sentences have lines with a different number of columns"),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_content_that_is_not_conll(read, kind):
    text, message = REFUSED[kind]
    with pytest.raises(DataError, match=message):
        read(text, on_bad_row="skip", max_skipped=1.0)


def test_words_that_look_like_other_formats(read):
    words = ["{", '"', "[", "<b>", "]", "["]
    text = "".join(f"{word} O\n" for word in words)
    assert read(text) == [[words, ["O"] * 6]]
    assert read("[\n{\n<b>\n", WORDS_ALONE) == [[["[", "{", "<b>"]]]


def test_one_column_for_words_and_tags_is_rejected(read):
    with pytest.raises(DataError, match="words and tags are both in column 1"):
        read(SENTENCE, ColumnSpec((1,), ("label",)))


def test_words_alone_may_be_one_long_document(read):
    text = "word\n" * 1_500
    assert [len(words) for (words,) in read(text, WORDS_ALONE)] == [1_500]
