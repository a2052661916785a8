"""How the hot loops are compiled: one decorator, so that every one of them drops the GIL and is cached on disk."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt

_Function = TypeVar("_Function", bound=Callable[..., Any])

Bytes = npt.NDArray[np.uint8]
Words = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]

PAGE_BYTES = 4096
PAGE_WORDS = PAGE_BYTES // 8


def kernel(function: _Function) -> _Function:
    """Compile `function` without the GIL; the machine code is kept beside the module, so only the first run pays."""
    return cast(_Function, numba.njit(nogil=True, cache=True, boundscheck=False)(function))


@kernel
def signed(value: Any) -> int:
    """`value` as a signed 64-bit number: signed and unsigned ones would otherwise meet as floats."""
    return np.int64(value)  # type: ignore[return-value]
