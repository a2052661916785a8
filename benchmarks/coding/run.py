"""All measurements of one recorded guest, as rows."""

import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final

from actors.encoding.encoder import Settings
from benchmarks.coding import hde, kernels, tools
from benchmarks.coding.hde import Piece, Request
from benchmarks.coding.recording import Recording, mapped
from benchmarks.coding.rows import NOVACRON, PAIR, SNAPSHOT, Coded, Setting, kernel_row, of_sent, row
from benchmarks.coding.stream import Layout, layout
from benchmarks.report import Row

_STEP_S: Final = 300.0
_LEVEL: Final = 3
_OFF: Final = {"dedupe": False, "delta": False, "zstd": False}


def _settings(cache_mib: int, **on: bool) -> Settings:
    return Settings(dedupe_cache_mib=cache_mib, **on)


def layers(cache_mib: int) -> dict[str, tuple[Settings, int, bool]]:
    """By name: the layers that run (`zero` always, it costs nothing), zstd's level, whether the image is known."""
    return {
        "zero": (_settings(cache_mib, **_OFF), _LEVEL, False),
        "image": (_settings(cache_mib, **_OFF), _LEVEL, True),
        "dedupe": (_settings(cache_mib, **_OFF | {"dedupe": True}), _LEVEL, False),
        "zstd-1": (_settings(cache_mib, **_OFF | {"zstd": True}), 1, False),
        "zstd-3": (_settings(cache_mib, **_OFF | {"zstd": True}), 3, False),
        "all": (_settings(cache_mib), _LEVEL, False),
        "all, image known": (_settings(cache_mib), _LEVEL, True),
    }


def pair_layers(cache_mib: int) -> dict[str, tuple[Settings, int, bool]]:
    """As `layers`, for a snapshot whose predecessor was sent before it."""
    return {
        "delta": (_settings(cache_mib, **_OFF | {"delta": True}), _LEVEL, False),
        "dedupe and delta": (_settings(cache_mib, zstd=False), _LEVEL, False),
        "all": (_settings(cache_mib), _LEVEL, False),
        "all, image known": (_settings(cache_mib), _LEVEL, True),
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

    def _tasks(self, recording: Recording, scratch: Path) -> Iterator[tuple[str, str, str, Callable[[], Coded]]]:
        """(system, of what, layer, how to measure it)."""
        first, second = recording.image(1), recording.image(2)
        for layer in layers(self._cache_mib):
            yield NOVACRON, SNAPSHOT, layer, partial(self._single, recording, scratch, layer)
        for layer in pair_layers(self._cache_mib):
            yield NOVACRON, PAIR, layer, partial(self._pair, recording, scratch, layer)
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
                "running; its second pass, the first took as long as the two snapshots are apart"
                if of == PAIR
                else "standing still, to a second QEMU"
            )
            yield system, of, "", partial(of_sent, sent, note)

    def _single(self, recording: Recording, scratch: Path, layer: str) -> Coded:
        settings, level, image = layers(self._cache_mib)[layer]
        found = _layout(recording.stream(1))
        return hde.measure(
            Request(
                pieces=[Piece(str(recording.stream(1)))],
                guest_bytes=found.guest_bytes,
                settings=settings,
                level=level,
                frames=str(scratch / "frames"),
                image=recording.root if image else "",
            ),
            _STEP_S,
        )

    def _pair(self, recording: Recording, scratch: Path, layer: str) -> Coded:
        settings, level, image = pair_layers(self._cache_mib)[layer]
        first, second = _layout(recording.stream(1)), _layout(recording.stream(2))
        return hde.measure(
            Request(
                pieces=[Piece(str(recording.stream(1)), 0, first.ram_end), Piece(str(recording.stream(2)), 8)],
                guest_bytes=second.guest_bytes,
                settings=settings,
                level=level,
                frames=str(scratch / "frames"),
                image=recording.root if image else "",
            ),
            _STEP_S,
        )


def _layout(path: Path) -> Layout:
    return layout(mapped(path))
