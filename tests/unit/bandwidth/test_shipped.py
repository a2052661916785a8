"""The forecaster that comes with the package: whole, believed, past the gates, trained on what may be shipped."""

import numpy as np

from models.bandwidth import load_forecaster
from models.registry import Registry
from models.registry.gates import objections


def test_it_is_signed_and_nothing_speaks_against_it() -> None:
    registry = Registry(None, "bandwidth")
    loaded = registry.load()
    (listed,) = registry.versions()
    assert (listed.version, listed.role, listed.shipped, listed.problem) == (loaded.version, "in use", True, "")
    assert objections(loaded.card.evaluation, None, None) == []
    assert listed.card is not None
    assert listed.card.data == "permissive"


def test_it_answers_and_says_so() -> None:
    forecaster = load_forecaster()
    seconds = np.arange(60.0)
    said = forecaster.predict(80.0 + 5.0 * np.sin(seconds / 5.0), seconds)
    assert forecaster.version == Registry(None, "bandwidth").load().version
    assert np.isfinite(said.mean).all()
    assert (np.diff(said.quantiles, axis=1) >= 0).all()
    assert said.method == "lstm"
