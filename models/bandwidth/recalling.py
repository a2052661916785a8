"""The loop behind `models.bandwidth.inference`, compiled: an LSTM's way over the cells of each link.

Arrays are float32 and C-contiguous; gates lie as torch has them: input, forget, candidate, output.
"""

import numpy as np
from numpy.typing import NDArray

from models.bandwidth.kernel import fast_kernel

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
_SATURATED = np.float32(9.0)
_ONE, _TWO, _HALF = np.float32(1), np.float32(2), np.float32(0.5)
# Numerator and denominator of Lambert's continued fraction of tanh, cut after seven terms.
_OVER = (np.float32(135135), np.float32(17325), np.float32(378))
_UNDER = (np.float32(135135), np.float32(62370), np.float32(3150), np.float32(28))


@fast_kernel
def _tanh(values: Floats) -> None:
    """In place, to 1e-6: without branches and calls, so that a processor does several at once."""
    for i in range(len(values)):
        half = min(max(values[i], -_SATURATED), _SATURATED) * _HALF
        square = half * half
        over = half * (_OVER[0] + square * (_OVER[1] + square * (_OVER[2] + square)))
        under = _UNDER[0] + square * (_UNDER[1] + square * (_UNDER[2] + square * _UNDER[3]))
        part = over / under
        values[i] = _TWO * part / (_ONE + part * part)


@fast_kernel
def recall(entering: Floats, recurrent: Floats, last: Ints, out: Floats) -> None:
    """Hidden states ``out [B, T, H]`` up to cell ``last [B]`` of each link; later ones stay as they are.

    ``entering [B, T, 4H]`` is each cell's own part of the gates, bias included; ``recurrent [H, 4H]`` weighs the state
    before.
    """
    size = recurrent.shape[0]
    gates, state, told = np.empty(4 * size, np.float32), np.empty(size, np.float32), np.empty(size, np.float32)
    for b in range(len(entering)):
        state[:] = 0
        told[:] = 0
        for t in range(last[b] + 1):
            gates[:] = entering[b, t]
            for k in range(size):
                for j in range(4 * size):
                    gates[j] += told[k] * recurrent[k, j]
            # sigmoid(x) = (1 + tanh(x / 2)) / 2
            for j in range(2 * size):
                gates[j] *= _HALF
            for j in range(3 * size, 4 * size):
                gates[j] *= _HALF
            _tanh(gates)
            for j in range(size):
                keep, take = _HALF + _HALF * gates[size + j], _HALF + _HALF * gates[j]
                state[j] = keep * state[j] + take * gates[2 * size + j]
                told[j] = state[j]
            _tanh(told)
            for j in range(size):
                told[j] *= _HALF + _HALF * gates[3 * size + j]
                out[b, t, j] = told[j]
