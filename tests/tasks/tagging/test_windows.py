"""Windows own every word once, where it has the most context, and hold what there is room for."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bertft.tasks.tagging.windows import Window, windows


@given(st.data())
def test_every_word_is_owned_once_where_its_context_is_widest(data):
    room = data.draw(st.integers(1, 12))
    sizes = data.draw(st.lists(st.integers(1, room), min_size=1, max_size=40))
    found = windows(sizes, room, data.draw(st.integers(0, room)))
    owned = [word for each in found for word in range(each.own, each.own_stop)]
    assert owned == list(range(len(sizes)))

    def context(window, word):
        before, after = sizes[window.first : word], sizes[word + 1 : window.stop]
        return min(sum(before), sum(after))

    for each in found:
        assert sum(sizes[each.first : each.stop]) <= room
        for word in range(each.own, each.own_stop):
            holding = [other for other in found if other.first <= word < other.stop]
            assert context(each, word) == max(context(other, word) for other in holding)


def test_what_fits_is_one_window():
    assert windows([2, 1, 3], 6, 2) == [Window(0, 3, 0, 3)]


def test_neighbours_share_words():
    assert windows([1] * 10, 6, 2) == [Window(0, 6, 0, 5), Window(4, 10, 5, 10)]
    assert windows([1] * 8, 4, 0) == [Window(0, 4, 0, 4), Window(4, 8, 4, 8)]
    # Words as long as the room leave none to share.
    assert windows([4, 4], 4, 4) == [Window(0, 1, 0, 1), Window(1, 2, 1, 2)]
