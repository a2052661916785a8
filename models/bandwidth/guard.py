"""Who is heard about a link: the net, the last value and the EWMA, each by its record on this link's own history.

Weights are what is believed beforehand times exp(−summed error), the errors in units of what the better simple method
gets wrong here (exponential weights: Littlestone and Warmuth, 1994; Vovk, 1998). So a few answers hardly move what is
believed, and many overrule it. Horizons are judged apart: the last value may know best what comes in a second, and
nothing of what comes in a minute. What is said is the weighted mean of the three, in logarithms, and the net's band
around it is as much wider or narrower as the errors here were than the net expected them.
"""

import numpy as np

from models.bandwidth.data import Array
from models.bandwidth.features import SIMPLE

HEARD = (SIMPLE.index("last"), SIMPLE.index("ewma"))
"""Places of the simple methods that are heard beside the net."""
# Beforehand: the net's weight far ahead, half of it after so many seconds; its weight on a link unlike all that it was
# trained on; and how far ahead the last value is believed as much as the EWMA, and how soon that changes.
_BELIEVED, _HALF_S, _BELIEVED_FAR = 0.8, 0.6, 0.05
_EVEN_S, _STEEP = 5.0, 2.0
_FAR_SHARE = 0.1  # of the features, beyond what training met: then it is such a link
_ELSEWHERE = 0.03  # what an answer for another horizon counts
_START, _LEAST = 0.1, 0.02  # of the unit: an error as if one answer had been given, and its least
_AS_EXPECTED = 4.0  # so many answers as the net expects them are added to the record of its bands
_NARROWEST, _WIDEST = 0.5, 3.0


def weights(count: Array, errors: Array, far: Array, horizons_s: Array) -> Array:
    """The weights ``[B, H, 1 + len(HEARD)]`` of the net and of `HEARD`; they sum to 1.

    Without any record the net speaks alone, unless the link is far from what it was trained on.

    Args:
        count: answers whose truth is known ``[B, H]``.
        errors: their summed |log error|, of the net and of every simple method ``[B, H, 1 + len(SIMPLE)]``.
        far: share of each link's features that lie beyond what training met ``[B]``.
        horizons_s: how far ahead, seconds ``[H]``.
    """
    heard = errors[..., [0, *(1 + place for place in HEARD)]]
    heard = heard + _ELSEWHERE * (heard.sum(1, keepdims=True) - heard)
    answers = count + _ELSEWHERE * (count.sum(1, keepdims=True) - count)
    unit = np.maximum((heard[..., 1:].min(2) + _START) / (answers + 1), _LEAST)
    strange = far > _FAR_SHARE
    believed = _BELIEVED * horizons_s / (horizons_s + _HALF_S)
    net = np.where(strange[:, None], _BELIEVED_FAR, believed[None, :])
    last = 1 / (1 + (horizons_s / _EVEN_S) ** _STEEP)
    before = np.stack([net, (1 - net) * last, (1 - net) * (1 - last)], axis=2)
    logs = np.log(np.maximum(before, 1e-9)) - heard / unit[..., None]
    out: Array = np.exp(logs - logs.max(2, keepdims=True))
    out /= out.sum(2, keepdims=True)
    out[(count.sum(1) == 0) & ~strange] = np.eye(1 + len(HEARD))[0]
    return out


def stretch(heard: Array, errors: Array, expected: Array, expects: Array) -> Array:
    """What a band is multiplied with ``[B, H]``, in logarithms around the point; 1 without a record.

    Args:
        heard: the weights.
        errors: as in `weights`.
        expected: the summed |log error| that the net expected of the same answers ``[B, H]``.
        expects: what it expects now ``[B, H]``.
    """
    mine = errors[..., [0, *(1 + place for place in HEARD)]]
    was = (heard * mine).sum((1, 2))[:, None] + _AS_EXPECTED * expects
    out: Array = np.clip(was / (expected.sum(1)[:, None] + _AS_EXPECTED * expects), _NARROWEST, _WIDEST)
    return out


def loudest(heard: Array) -> Array:
    """Of weights ``[B, H, 1 + len(HEARD)]`` who has the most say over all horizons ``[B]``: 0 the net, then `HEARD`."""
    out: Array = heard.mean(1).argmax(1)
    return out
