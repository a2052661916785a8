"""How the simulator's hot loops are compiled: one decorator, so that all drop the GIL and are cached on disk."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt

_Function = TypeVar("_Function", bound=Callable[..., Any])

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


def _cache_folder() -> str:
    """Where the machine code of exactly these kernels lies: numba itself looks only at a kernel's own file."""
    here = Path(__file__).parent
    sources = hashlib.blake2b(digest_size=8)
    for source in sorted(here.glob("*.py")):
        text = source.read_bytes()
        if b"placement.kernel" in text:  # kernels, and what they take their constants from; a mere user recompiles none
            sources.update(text)
    return str(here / "__pycache__" / f"kernels-{sources.hexdigest()}")


_FOLDER = _cache_folder()


def kernel(function: _Function) -> _Function:
    """Compile `function` without the GIL; the machine code is kept beside the module, so only the first run pays.

    Passing `State` and its like to a kernel counts a reference to each of their columns: what is called once for each
    node takes the columns themselves.
    """
    config = cast(Any, numba.config)
    before, config.CACHE_DIR = config.CACHE_DIR, _FOLDER
    try:
        return cast(_Function, numba.njit(nogil=True, cache=True, error_model="numpy")(function))
    finally:
        config.CACHE_DIR = before
