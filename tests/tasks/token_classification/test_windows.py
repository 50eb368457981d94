"""Windows own every word once, where it has the most context, and hold what there is room for."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bertft.tasks.token_classification.encoding import WordWindow, split_into_windows


@given(st.data())
def test_every_word_is_owned_once_where_its_context_is_widest(data):
    room = data.draw(st.integers(1, 12))
    sizes = data.draw(st.lists(st.integers(1, room), min_size=1, max_size=40))
    actual = split_into_windows(sizes, room, data.draw(st.integers(0, room)))
    owned = [word for each in actual for word in range(each.answer_start, each.answer_stop)]
    assert owned == list(range(len(sizes)))

    def context(window, word):
        before, after = sizes[window.start : word], sizes[word + 1 : window.stop]
        return min(sum(before), sum(after))

    for each in actual:
        assert sum(sizes[each.start : each.stop]) <= room
        for word in range(each.answer_start, each.answer_stop):
            holding = [other for other in actual if other.start <= word < other.stop]
            assert context(each, word) == max(context(other, word) for other in holding)


def test_what_fits_is_one_window():
    assert split_into_windows([2, 1, 3], 6, 2) == [WordWindow(0, 3, 0, 3)]


def test_neighbours_share_words():
    assert split_into_windows([1] * 10, 6, 2) == [WordWindow(0, 6, 0, 5), WordWindow(4, 10, 5, 10)]
    assert split_into_windows([1] * 8, 4, 0) == [WordWindow(0, 4, 0, 4), WordWindow(4, 8, 4, 8)]
    # Words as long as the room leave none to share.
    assert split_into_windows([4, 4], 4, 4) == [WordWindow(0, 1, 0, 1), WordWindow(1, 2, 1, 2)]
