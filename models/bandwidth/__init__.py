"""Forecasts of what a link will carry: pure numpy, times passed in; torch trains."""

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from models.bandwidth.predict import Forecaster

WEIGHTS = "weights.npz"

__all__ = ["WEIGHTS", "load_forecaster"]


@lru_cache(maxsize=4)
def load_forecaster(version: str | None = None, registry: Path | None = None) -> "Forecaster":
    """The forecaster of a version in the registry; without one, that which is in use there, or came with the package.

    Where none is in use at all, the guarded simple methods answer: their forecaster's version is ``simple``.

    Raises:
        RegistryError: there is no such version, or it is damaged or not trusted.
    """
    from models.bandwidth.calibration import Levels
    from models.bandwidth.predict import Forecaster, load_members
    from models.registry import Registry

    known = Registry(registry, "bandwidth")
    if version is None and known.state().in_use is None:
        return Forecaster([], Levels.plain(), "simple")
    loaded = known.load(version)
    members, levels = load_members(loaded.arrays(WEIGHTS))
    return Forecaster(members, levels, loaded.version)
