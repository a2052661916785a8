"""All measurements of one recorded guest, as rows."""

import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from actors.encoding.encoder import Settings
from benchmarks.coding import hde, kernels, tools
from benchmarks.coding.hde import Piece, Request
from benchmarks.coding.recording import Recording, mapped
from benchmarks.coding.rows import NOVACRON, PAIR, SNAPSHOT, Coded, Setting, kernel_row, of_sent, row
from benchmarks.coding.stream import Layout, joined, layout
from benchmarks.report import Row

_STEP_S: Final = 300.0
_LEVEL: Final = 3
_ALL: Final = ("store", "files", "dedupe", "delta", "zstd")


class Layers(msgspec.Struct, frozen=True, kw_only=True):
    """Which layers run (`zero` always, it costs nothing) at which level of zstd, and what the far side has.

    `image`: the root disk's image. `visited`: in its store what the guest's memory was at the first snapshot. `sent`:
    the first snapshot was the first pass of this very move.
    """

    on: tuple[str, ...] = ()
    level: int = 3
    image: bool = False
    visited: bool = False
    sent: bool = False

    def settings(self, cache_mib: int) -> Settings:
        """The encoder's."""
        return Settings(dedupe_cache_mib=cache_mib, **{name: name in self.on for name in _ALL})


# The first snapshot by itself.
SINGLE: Final = {
    "zero": Layers(),
    "store": Layers(on=("files",), image=True),
    "dedupe": Layers(on=("dedupe",)),
    "zstd-1": Layers(on=("zstd",), level=1),
    "zstd-3": Layers(on=("zstd",)),
    "all": Layers(on=_ALL),
    "all, image known": Layers(on=_ALL, image=True),
}
# The second snapshot when the first is known.
AFTER: Final = {
    "store, visited": Layers(on=("store",), visited=True),
    "delta": Layers(on=("delta",), sent=True),
    "dedupe and delta": Layers(on=("dedupe", "delta"), sent=True),
    "all": Layers(on=_ALL, sent=True),
    "all, visited": Layers(on=_ALL, visited=True, image=True),
}


class Bench:
    """Measures recordings.

    Args:
        systems: names of `rows.SYSTEMS`.
        cache_mib: what NovaCron's caches may hold.
        tell: called with each step, for people.
    """

    def __init__(self, systems: list[str], cache_mib: int, tell: Callable[[str], None]) -> None:
        self._systems = systems
        self._cache_mib = cache_mib
        self._tell = tell
        self._memcpy = kernels.memcpy()

    def rows(self, recording: Recording) -> Iterator[Row]:
        """One row after the other."""
        facts = recording.facts
        copied, copied_s = self._memcpy
        setting = Setting(
            guest=facts.guest,
            memory_mib=facts.memory_mib,
            apart_s=facts.apart_s,
            memcpy_gb_per_s=copied / copied_s / 1e9,
        )
        with tempfile.TemporaryDirectory(dir=recording.folder.parent, prefix="work-") as scratch:
            for system, of, layer, measure in self._tasks(recording, Path(scratch)):
                if system in self._systems:
                    self._tell(f"{facts.guest}: {system} {of} {layer}")
                    yield row(setting, system, of, layer, measure())
        if "kernels" in self._systems:
            yield kernel_row(setting, "memcpy", copied, copied_s, "128 MiB")
            yield kernel_row(setting, "parse", *kernels.parse(recording.stream(1)), "bytes of stream")
            yield kernel_row(setting, "hash", *kernels.hash_pages(recording.image(1)), "bytes of pages not zero")
            yield kernel_row(setting, "digest", *kernels.digest(recording.image(1)), "bytes of pages not zero")

    def _tasks(self, recording: Recording, scratch: Path) -> Iterator[tuple[str, str, str, Callable[[], Coded]]]:
        """(system, of what, layer, how to measure it)."""
        first, second = recording.image(1), recording.image(2)
        for of, kinds in ((SNAPSHOT, SINGLE), (PAIR, AFTER)):
            for name, layers in kinds.items():
                yield NOVACRON, of, name, partial(self._hde, recording, scratch, of, layers)
        for system in ("zstd-1", "zstd-3"):
            yield system, SNAPSHOT, "", partial(tools.whole, system, first, scratch, _STEP_S)
        for system in ("zstd-patch-from", "xdelta3"):
            yield system, PAIR, "", partial(tools.against, system, first, second, scratch, _STEP_S)
        chunks = f"chunks of {kernels.CHUNK_MEAN >> 10} KiB"
        yield "fastcdc-zstd-3", SNAPSHOT, "", partial(kernels.chunked, first, None, chunks)
        yield "fastcdc-zstd-3", PAIR, "", partial(kernels.chunked, second, first, chunks)
        for system, sent in recording.facts.qemu.items():
            of = PAIR if system == "qemu-xbzrle" else SNAPSHOT
            note = (
                "running; its third pass, after two as long as the snapshots are apart"
                if of == PAIR
                else "standing still, to a second QEMU"
            )
            yield system, of, "", partial(of_sent, sent, note)

    def _hde(self, recording: Recording, scratch: Path, of: str, layers: Layers) -> Coded:
        first, second = recording.stream(1), recording.stream(2)
        measured = first if of == SNAPSHOT else second
        pieces = [Piece(str(measured))]
        if layers.sent:
            ends, goes_on = joined(_layout(first))
            pieces = [Piece(str(first), 0, ends), Piece(str(second), goes_on)]
        return hde.measure(
            Request(
                pieces=pieces,
                guest_bytes=_layout(measured).guest_bytes,
                settings=layers.settings(self._cache_mib),
                level=layers.level,
                frames=str(scratch / "frames"),
                image=recording.root if layers.image else "",
                visited=str(recording.image(1)) if layers.visited else "",
            ),
            _STEP_S,
        )


def _layout(path: Path) -> Layout:
    return layout(mapped(path))
