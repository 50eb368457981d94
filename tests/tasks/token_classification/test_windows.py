"""Windows predict every word once, with the most context, and contain what fits."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bertft.tasks.token_classification.encoding import WordWindow, split_into_windows


@given(st.data())
def test_every_word_is_predicted_in_the_window_with_most_context(data):
    room = data.draw(st.integers(1, 12))
    sizes = data.draw(st.lists(st.integers(1, room), min_size=1, max_size=40))
    actual = split_into_windows(sizes, room, data.draw(st.integers(0, room)))
    predicted = [
        word for window in actual for word in range(window.answer_start, window.answer_stop)
    ]
    assert predicted == list(range(len(sizes)))

    def context(window, word):
        before, after = sizes[window.start : word], sizes[word + 1 : window.stop]
        return min(sum(before), sum(after))

    for window in actual:
        assert sum(sizes[window.start : window.stop]) <= room
        for word in range(window.answer_start, window.answer_stop):
            holding = [other for other in actual if other.start <= word < other.stop]
            assert context(window, word) == max(context(other, word) for other in holding)


def test_a_short_sentence_is_one_window():
    assert split_into_windows([2, 1, 3], 6, 2) == [WordWindow(0, 3, 0, 3)]


def test_adjacent_windows_share_words():
    assert split_into_windows([1] * 10, 6, 2) == [WordWindow(0, 6, 0, 5), WordWindow(4, 10, 5, 10)]
    assert split_into_windows([1] * 8, 4, 0) == [WordWindow(0, 4, 0, 4), WordWindow(4, 8, 4, 8)]
    # Words as long as the room leave none to share.
    assert split_into_windows([4, 4], 4, 4) == [WordWindow(0, 1, 0, 1), WordWindow(1, 2, 1, 2)]
