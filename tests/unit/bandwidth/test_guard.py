"""Who is heard: what is believed beforehand, the record, and horizons apart."""

import numpy as np

from models.bandwidth.features import SIMPLE
from models.bandwidth.guard import HEARD, loudest, stretch, weights

NET, LAST, EWMA = range(3)
ERROR = 0.2  # of a simple method, in |log|


def heard(
    answers: float, net: float, last: float = ERROR, ewma: float = ERROR, far: float = 0.0, ahead_s: float = 5.0
) -> np.ndarray:
    """Weights ``[3]`` after so many answers at one horizon with these mean errors."""
    errors = np.full((1, 1, 1 + len(SIMPLE)), 9.0)
    for place, error in zip((0, *(1 + each for each in HEARD)), (net, last, ewma), strict=True):
        errors[..., place] = answers * error
    out = weights(np.full((1, 1), answers), errors, np.array([far]), np.array([ahead_s]))
    np.testing.assert_allclose(out.sum(2), 1)
    return out[0, 0]


def test_without_a_record_the_net_speaks_unless_the_link_is_strange() -> None:
    np.testing.assert_array_equal(heard(0, 0), [1, 0, 0])
    strange = heard(0, 0, far=0.5)
    assert strange[NET] < 0.1
    assert strange[LAST] == strange[EWMA] > 0.4
    soon, later = (heard(0, 0, far=0.5, ahead_s=ahead_s) for ahead_s in (1.0, 30.0))
    assert soon[LAST] > 0.9
    assert later[EWMA] > 0.9


def test_few_answers_hardly_count_and_many_decide() -> None:
    said = [heard(answers, net=1.5 * ERROR)[NET] for answers in (1, 4, 16, 64)]
    assert said == sorted(said, reverse=True)
    assert said[0] > 0.5
    assert said[-1] < 0.01


def test_a_net_that_is_better_is_heard_also_where_it_was_not_believed() -> None:
    assert heard(32, net=0.7 * ERROR)[NET] > 0.99
    assert heard(32, net=0.7 * ERROR, far=0.5)[NET] > 0.9


def test_the_simple_method_with_the_better_record_is_heard() -> None:
    assert heard(40, net=2 * ERROR, last=ERROR / 2)[LAST] > 0.9
    assert heard(40, net=2 * ERROR, ewma=ERROR / 2)[EWMA] > 0.9


def test_it_is_the_ratio_of_errors_that_counts() -> None:
    np.testing.assert_allclose(heard(200, 0.22), heard(200, 0.44, 0.4, 0.4), atol=0.01)


def test_horizons_are_judged_apart() -> None:
    errors = np.full((1, 2, 1 + len(SIMPLE)), 9.0)
    places = [0, *(1 + each for each in HEARD)]
    errors[0][:, places] = [[8, 2, 4], [4, 12, 12]]  # at the first the last value is best, at the second the net
    out = weights(np.full((1, 2), 20.0), errors, np.zeros(1), np.array([5.0, 5.0]))
    assert out[0].argmax(1).tolist() == [LAST, NET]
    assert loudest(out)[0] == out.mean(1).argmax()


def test_a_band_is_stretched_by_what_errors_were_beside_what_was_expected() -> None:
    net = np.zeros((1, 2, 3))
    net[..., NET] = 1.0
    usual = np.full((1, 2), ERROR)

    def stretched(answers: float, times: float) -> float:
        errors = np.full((1, 2, 1 + len(SIMPLE)), answers * times * ERROR)
        return float(stretch(net, errors, np.full((1, 2), answers * ERROR), usual)[0, 0])

    assert stretched(0, 1) == stretched(50, 1) == 1
    said = [stretched(answers, 2) for answers in (0, 1, 4, 400)]
    assert said == sorted(said)
    assert 1.9 < said[-1] <= 2
    assert stretched(1000, 100) == 3
    assert 0.5 <= stretched(1000, 0) < 0.51
