"""How the loops of a forecast are compiled: a site asks about a hundred links every second."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba

_Function = TypeVar("_Function", bound=Callable[..., Any])


def _cache_folder() -> str:
    """Where the machine code of exactly these sources lies: numba itself looks only at a kernel's own file."""
    here = Path(__file__).parent
    sources = hashlib.blake2b(digest_size=8)
    for name in ("kernel.py", "seeing.py", "reckoning.py", "recalling.py", "descending.py"):
        sources.update((here / name).read_bytes())
    return str(here / "__pycache__" / f"kernels-{sources.hexdigest()}")


_FOLDER = _cache_folder()


def kernel(function: _Function) -> _Function:
    """Compile `function` without the GIL; the machine code is kept beside the module, so only the first run pays."""
    return _compiled(function, fastmath=False)


def fast_kernel(function: _Function) -> _Function:
    """As `kernel`, for loops that know no NaN and may add up in any order, so that a processor does several at once."""
    return _compiled(function, fastmath=True)


def _compiled(function: _Function, *, fastmath: bool) -> _Function:
    config = cast(Any, numba.config)
    before, config.CACHE_DIR = config.CACHE_DIR, _FOLDER
    try:
        compiled = numba.njit(nogil=True, cache=True, error_model="numpy", fastmath=fastmath)(function)
    finally:
        config.CACHE_DIR = before
    return cast(_Function, compiled)
