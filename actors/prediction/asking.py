"""A learned model's side of a forecast: loads a version, and turns links' samples into fans. Runs in a thread."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from actors.prediction.engine import Counted
from actors.prediction.fan import HORIZONS_S, Fan
from actors.prediction.record import Key
from models.bandwidth import load_forecaster

if TYPE_CHECKING:
    from models.bandwidth.predict import Forecaster

_BYTES_PER_S = 125_000.0  # of one Mbit/s
_DAY_S = 86_400


class ModelUnfit(Exception):
    """A version can't be loaded, or fails on what it is asked; the text says why."""


def load(version: str, registry: Path) -> "Forecaster":
    """The forecaster of `version`, tried once, so that its first question by a link is no slower than the others.

    Raises:
        ModelUnfit: it is damaged, not trusted, or no forecaster.
    """
    try:
        forecaster = load_forecaster(version, registry)
        tried = forecaster.predict([1.0] * 30, [float(at) for at in range(30)], horizons_s=HORIZONS_S)
    except Exception as error:  # whatever weights that are none lead to
        raise ModelUnfit(str(error) or repr(error)) from error
    if not np.all(np.isfinite(tried.mean)) or not np.all(np.isfinite(tried.quantiles)):
        raise ModelUnfit("it answers with what are no numbers")
    return forecaster


def ask(forecaster: "Forecaster", links: Mapping[Key, Sequence[Counted]]) -> dict[Key, Fan]:
    """What the model says of each link, all in one batch; a link about which it says nothing usable is left out.

    Raises:
        ModelUnfit: it fails.
    """
    try:
        said = forecaster.predict_batch([_series(samples) for samples in links.values()], HORIZONS_S)
    except Exception as error:
        raise ModelUnfit(str(error) or repr(error)) from error
    found = {}
    for (key, samples), one in zip(links.items(), said, strict=True):
        if np.all(np.isfinite(one.mean) & (one.mean >= 0)) and np.all(np.isfinite(one.quantiles)):
            found[key] = Fan(
                one.method,
                forecaster.version,
                samples[-1].at,
                tuple((one.mean * _BYTES_PER_S).tolist()),
                tuple(tuple(row) for row in (np.maximum(one.quantiles, 0.0) * _BYTES_PER_S).tolist()),
            )
    return found


def _series(samples: Sequence[Counted]) -> tuple[list[float], list[float], dict[str, list[float]]]:
    """A link's samples in the units of recordings; what was not measured is NaN."""
    begin_s = samples[0].at
    return (
        [one.bytes_per_s / _BYTES_PER_S for one in samples],
        [one.at - begin_s for one in samples],
        {
            "rtt_ms": [one.rtt_ms if one.rtt_ms > 0 else float("nan") for one in samples],
            "jitter_ms": [one.jitter_ms if one.rtt_ms > 0 else float("nan") for one in samples],
            "loss": [one.loss for one in samples],
            "retrans": [float(one.retransmits) for one in samples],
            "tod_s": [one.at % _DAY_S for one in samples],
        },
    )
