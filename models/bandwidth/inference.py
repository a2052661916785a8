"""A trained net as it is served: what `models.bandwidth.module` computes, in numpy and one compiled loop.

A lead node asks a net of a few thousand weights once a second; torch would take longer to be imported than it is of
use, and its memory stays.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.bandwidth.data import Array
from models.bandwidth.recalling import recall
from models.bandwidth.seeing import CLIP, COLUMNS, FEATURES, LEVEL, SIMPLE_METHODS

Floats = NDArray[np.float32]
BINS = 48
NEAR = 0.05  # around the centre bins are equal, farther out they grow
REACH = float(np.arcsinh(CLIP / NEAR))
EDGES: Array = NEAR * np.sinh(np.linspace(-REACH, REACH, BINS + 1))
"""Edges of the bins around the centre."""
CLIPPED = 4.0  # spreads from the mean: a feature farther off counts as so far
LEVEL_FAR = 2.0
_LAYERS = ("head.0", "head.3", "head.6")


class Lstm:
    """One net of an ensemble.

    Args:
        arrays: its weights and scalers by torch's names, as `Net.arrays` gives them.

    Raises:
        ValueError: one is missing or has another shape.
    """

    def __init__(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        hidden, width = self._sizes(arrays)
        shapes = {
            "mean": (FEATURES,), "scale": (FEATURES,), "used": (COLUMNS,),
            "memory.weight_ih_l0": (4 * hidden, COLUMNS), "memory.weight_hh_l0": (4 * hidden, hidden),
            "memory.bias_ih_l0": (4 * hidden,), "memory.bias_hh_l0": (4 * hidden,),
            "head.0.weight": (width, hidden + 2 * FEATURES), "head.0.bias": (width,),
            "head.3.weight": (width, width), "head.3.bias": (width,),
            "head.6.weight": (SIMPLE_METHODS + 1 + BINS, width), "head.6.bias": (SIMPLE_METHODS + 1 + BINS,),
        }  # fmt: skip
        for name, shape in shapes.items():
            if name not in arrays or arrays[name].shape != shape:
                found = arrays[name].shape if name in arrays else "nothing"
                raise ValueError(f"the net's {name} must have the shape {shape}, not {found}")
        self.arrays = {name: np.ascontiguousarray(arrays[name], np.float32) for name in shapes}
        one = self.arrays
        self.mean, self.scale = one["mean"], one["scale"]
        self._enter = np.ascontiguousarray((one["memory.weight_ih_l0"] * one["used"]).T)
        self._bias = one["memory.bias_ih_l0"] + one["memory.bias_hh_l0"]
        self._recurrent = np.ascontiguousarray(one["memory.weight_hh_l0"].T)
        self._head = [(np.ascontiguousarray(one[f"{at}.weight"].T), one[f"{at}.bias"]) for at in _LAYERS]

    @staticmethod
    def _sizes(arrays: Mapping[str, NDArray[Any]]) -> tuple[int, int]:
        try:
            return arrays["memory.weight_hh_l0"].shape[1], arrays["head.3.weight"].shape[0]
        except (KeyError, IndexError) as error:
            raise ValueError(f"these are not the weights of an LSTM: {error!r}") from error

    def __call__(
        self, steps: Floats, link: np.ndarray, at: np.ndarray, features: Floats, simple: Floats
    ) -> tuple[Array, Array]:
        """Of N questions: cells ``[B, T, C]``, link and cell of each ``[N]``, features ``[N, F]``, simple ``[N, K]``.

        Returns the centre ``[N]`` and the distribution at the edges of the bins around it ``[N, BINS + 1]``.
        """
        last = np.zeros(len(steps), np.int64)
        np.maximum.at(last, link, at)
        states = np.zeros((*steps.shape[:2], len(self._recurrent)), np.float32)
        recall(steps @ self._enter + self._bias, self._recurrent, last, states)
        # What was never met in training is unknown: its mean is NaN. So is a level far from all that were.
        scaled = (features - self.mean) / self.scale
        known = np.isfinite(scaled)
        known[:, LEVEL] &= ~self.elsewhere(features)
        scaled = np.where(known, np.clip(scaled, -CLIPPED, CLIPPED), np.float32(0))
        out = np.concatenate([scaled, known.astype(np.float32) - 1, states[link, at]], axis=1)
        for place, (weight, bias) in enumerate(self._head):
            out = out @ weight + bias
            if place < len(self._head) - 1:
                with np.errstate(over="ignore"):  # of what is far below 0 nothing is left
                    out /= 1 + np.exp(-out)
        gate, shift, bins = _shares(out[:, :SIMPLE_METHODS]), out[:, SIMPLE_METHODS], out[:, SIMPLE_METHODS + 1 :]
        centre: Array = ((gate * simple).sum(1) + shift).astype(np.float64)
        cdf = np.zeros((len(out), BINS + 1))
        np.cumsum(_shares(bins), axis=1, out=cdf[:, 1:])
        return centre, np.minimum(cdf, 1.0)

    def elsewhere(self, features: Floats) -> np.ndarray:
        """Whether the level of each question ``[N]`` is far from all that were met in training."""
        off: np.ndarray = np.abs(features[:, LEVEL] - self.mean[LEVEL]) >= LEVEL_FAR * self.scale[LEVEL]
        return off


def _shares(logs: Floats) -> Floats:
    """Softmax over the columns."""
    out: Floats = np.exp(logs - logs.max(1, keepdims=True))
    out /= out.sum(1, keepdims=True)
    return out
