"""Feeds one target for long: ``python -m tests.fuzz TARGET --runs N``, guided by coverage (atheris).

Kernels check their bounds here, which they don't in service. A fault ends the run and leaves its input in ``crash-…``:
put it into ``tests/fuzz/corpus/TARGET/`` and every test run replays it from then on.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType, ModuleType

_WATCHED = (
    *(f"actors.transport.{name}" for name in ("calls", "channel", "frames", "handshake", "schedule", "session")),
    *(
        f"actors.encoding.{name}"
        for name in ("codec", "decoder", "encoder", "far", "format", "nbd", "parser", "reverse", "window")
    ),
    "actors.calls.directory",
    "actors.calls.service",
    "actors.security.groups",
)
_HANG_S = 20


def main() -> None:
    """Run libFuzzer on the target that the command line names; it does not return."""
    asked = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    asked.add_argument("target")
    asked.add_argument("--runs", type=int, default=1_000_000, help="inputs to try")
    asked.add_argument("--seconds", type=int, default=0, help="at most this long; 0: until all inputs are tried")
    asked.add_argument("--seed", type=int, default=1)
    order = asked.parse_args()
    os.environ["NUMBA_BOUNDSCHECK"] = "1"
    os.environ["NUMBA_CACHE_DIR"] = str(Path(tempfile.gettempdir()) / "novacron-fuzz-kernels")

    import atheris

    from tests.fuzz.targets import TARGETS, corpus

    if order.target not in TARGETS:
        asked.error(f"no target {order.target!r}; there are {', '.join(TARGETS)}")
    target = TARGETS[order.target]
    for data in target.seeds():  # compiles kernels, which would look like a hang
        target.run(data)
    for module in _WATCHED:
        for function in _functions(sys.modules[module]):
            atheris.instrument_func(function)
    with tempfile.TemporaryDirectory() as folder:
        for number, seed in enumerate(corpus(target)):
            (Path(folder) / f"{number}").write_bytes(seed)
        options = [
            f"-runs={order.runs}",
            f"-seed={order.seed}",
            f"-max_len={target.longest_bytes}",
            f"-timeout={_HANG_S}",
        ]
        options += ["-rss_limit_mb=2048", "-print_final_stats=1", f"-max_total_time={order.seconds}"]
        atheris.Setup([sys.argv[0], *options, folder], target.run)
        atheris.Fuzz()


def _functions(module: ModuleType) -> Iterator[FunctionType]:
    """Every Python function and method that `module` defines; compiled kernels are none."""
    for thing in list(vars(module).values()):
        inside = list(vars(thing).values()) if isinstance(thing, type) and thing.__module__ == module.__name__ else []
        for each in (thing, *inside):
            function = getattr(each, "fget", None) or getattr(each, "__func__", None) or each
            if isinstance(function, FunctionType) and function.__module__ == module.__name__:
                yield function


if __name__ == "__main__":
    main()
