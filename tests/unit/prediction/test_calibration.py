"""Forecasts stored beside the later truth."""

from models.bandwidth.calibration import Ledger
from models.bandwidth.forecast import Point


def point(low, high):
    return Point(mean=(low + high) / 2, low=low, high=high, quantiles=(), samples=5, errors=0)


def test_without_a_truth_there_is_no_calibration():
    ledger = Ledger()
    ledger.made(0, 10, point(1, 2))
    ledger.settle(9.9, lambda a, b: 1.5)
    assert ledger.calibration == -1


def test_counts_the_share_of_truths_inside():
    ledger = Ledger()
    ledger.made(0, 10, point(1, 2))
    ledger.made(1, 10, point(5, 6))
    ledger.settle(20, lambda after, until: {0: 1.5, 1: 1.5}[after])
    assert ledger.calibration == 0.5
    assert [each.truth for each in ledger.settled] == [1.5, 1.5]


def test_a_window_that_was_never_measured_is_dropped_not_counted():
    ledger = Ledger()
    ledger.made(0, 10, point(1, 2))
    ledger.settle(20, lambda a, b: None)
    ledger.settle(30, lambda a, b: 1.5)
    assert ledger.calibration == -1


def test_is_bounded():
    ledger = Ledger(limit=3)
    for n in range(10):
        ledger.made(n, 1, point(0, 1))
    ledger.settle(100, lambda a, b: 0.5)
    assert [each.made_s for each in ledger.settled] == [7, 8, 9]
