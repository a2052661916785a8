"""What the store is filled with while a move runs, and at its end."""

import numpy as np

from actors.encoding.filler import take_new
from actors.encoding.pages import PAGE_WORDS, PageRing, append, replace

SLOTS = 8


class Filling:
    """A ring with four pages, and how far it was taken."""

    def __init__(self) -> None:
        self.ring = PageRing.of(SLOTS)
        self.taken, self.seen = np.zeros((2, SLOTS), np.uint8)
        self.pages = np.empty((SLOTS, PAGE_WORDS), np.uint64)
        for value in range(1, 5):
            append(self.ring, self.page(value))

    @staticmethod
    def page(value: int) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
        return np.full(PAGE_WORDS, value, np.uint64)

    def take(self, *, rested: bool) -> list[int]:
        slot, count = take_new(self.ring, self.taken, self.seen, 0, self.pages, rested)
        assert slot == 4
        return [int(page[0]) for page in self.pages[:count]]


def test_a_page_is_taken_once_it_has_rested_and_only_once() -> None:
    filling = Filling()
    assert filling.take(rested=True) == []
    assert filling.take(rested=True) == [1, 2, 3, 4]
    assert filling.take(rested=True) == []


def test_pages_that_change_all_the_time_wait_for_the_end() -> None:
    filling = Filling()
    for value in range(10, 15):
        replace(filling.ring, 1, filling.page(value))
        assert 2 not in filling.take(rested=True)
    assert filling.take(rested=False) == [14]


def test_at_the_end_everything_is_taken_that_was_not_yet() -> None:
    assert Filling().take(rested=False) == [1, 2, 3, 4]


def test_zero_pages_are_left_out() -> None:
    filling = Filling()
    replace(filling.ring, 2, filling.page(0))
    assert filling.take(rested=False) == [1, 2, 4]
