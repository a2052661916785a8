"""Recordings of real guests, kept on disk: two snapshots seconds apart, and what QEMU itself makes of the guest."""

import hashlib
import mmap
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from actors.errors import BadRequest
from actors.hypervisor.messages import GuestSpec
from actors.lab.guests import GuestImages, Load, guest_spec
from actors.lab.guests.spec import Kind
from api.cli.guest_spec import IMAGES
from benchmarks.coding.machine import Machine, machine
from benchmarks.coding.rows import Sent
from benchmarks.coding.stream import image, layout

FOLDER: Final = IMAGES.parent / "recordings"
"""Where recordings lie; nothing else needs them."""
FORMAT: Final = "2"  # raise it when recordings are made in another way
_BOOT_S: Final = 300.0
_STEP_S: Final = 120.0
_FACTS: Final = "facts.json"
_ZSTD_LEVELS: Final = (1, 3)
_MULTIFD_CHANNELS: Final = 2


class Recipe(msgspec.Struct, frozen=True):
    """What runs in one of the recorded guests."""

    kind: Kind
    load: Load
    cache_mib: int


GUESTS: Final[dict[str, Recipe]] = {
    "idle": Recipe("memory", Load(region_mib=0, per_s=0, bytes_each=0), 320),
    "redis": Recipe("redis", Load(region_mib=96, per_s=2000, bytes_each=1024), 64),
    "python": Recipe("python", Load(region_mib=160, per_s=0, bytes_each=0), 96),
    "random": Recipe("random", Load(region_mib=256, per_s=500, bytes_each=64), 32),
}


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What was noted while recording. `apart_s`: from the first snapshot's end to the second's beginning.

    `qemu`: what QEMU sent, by system; XBZRLE's is about a third pass, when the two before took `apart_s` each.
    """

    guest: str
    memory_mib: int
    apart_s: float
    snapshot_s: float
    qemu: dict[str, Sent]


class Recording(msgspec.Struct, frozen=True, kw_only=True):
    """One guest's files: streams and memory images of two instants, the second `facts.apart_s` later."""

    facts: Facts
    folder: Path
    root: str

    def stream(self, number: int) -> Path:
        """QEMU's stream of snapshot 1 or 2."""
        return self.folder / f"{number}.stream"

    def image(self, number: int) -> Path:
        """The RAM of snapshot 1 or 2 as a dump has it; zeros are holes."""
        return self.folder / f"{number}.image"


def parse_guests(text: str) -> list[str]:
    """The guests that `idle,redis` names, all for an empty text.

    Raises:
        BadRequest: one of them does not exist.
    """
    named = {part.strip() for part in text.split(",") if part.strip()}
    unknown = sorted(named - set(GUESTS))
    if unknown:
        raise BadRequest(detail=f"--guests {', '.join(unknown)}: there are {', '.join(GUESTS)}")
    return [guest for guest in GUESTS if not named or guest in named]


def key(spec: GuestSpec, settle_s: float, apart_s: float) -> str:
    """Names a recording: another one for whatever makes another recording."""
    text = "\n".join((FORMAT, spec.kernel, spec.initrd, spec.cmdline, str(spec.memory_mib), f"{settle_s} {apart_s}"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def recorded(
    guest: str, memory_mib: int, settle_s: float, apart_s: float, images: GuestImages, tell: Callable[[str], None]
) -> Recording:
    """The recording of `guest`, made now if there is none; older ones of this guest are then removed.

    Args:
        settle_s: how long its workload runs before the first snapshot.
        apart_s: how long it runs between the two.

    Raises:
        Failed, DeadlineExceeded: the guest or QEMU did not do its part.
    """
    recipe = GUESTS[guest]
    spec = guest_spec(f"bench-{guest}", recipe.kind, memory_mib, recipe.load, recipe.cache_mib, images)
    folder = FOLDER / f"{guest}-{key(spec, settle_s, apart_s)}"
    if not (folder / _FACTS).exists():
        FOLDER.mkdir(parents=True, exist_ok=True)
        for old in (*FOLDER.glob(f"{guest}-*"), *FOLDER.glob(f"making-{guest}-*")):
            shutil.rmtree(old)
        with tempfile.TemporaryDirectory(dir=FOLDER, prefix=f"making-{guest}-") as scratch:
            facts = _record(guest, spec, (settle_s, apart_s), Path(scratch), tell)
            (Path(scratch) / _FACTS).write_bytes(msgspec.json.encode(facts))
            # Whole or not at all: the facts came last, and the name comes after them.
            shutil.copytree(scratch, folder, copy_function=shutil.move)
    facts = msgspec.json.decode((folder / _FACTS).read_bytes(), type=Facts)
    return Recording(facts=facts, folder=folder, root=images.root)


def _record(
    guest: str, spec: GuestSpec, times_s: tuple[float, float], folder: Path, tell: Callable[[str], None]
) -> Facts:
    settle_s, apart_s = times_s
    tell(f"{guest}: booting")
    with machine(spec, folder) as source:
        source.wait_ready(_BOOT_S)
        tell(f"{guest}: its workload runs; first snapshot in {settle_s:g} s, second {apart_s:g} s later")
        time.sleep(settle_s)
        began = time.monotonic()
        source.snapshot(folder / "1.stream", _STEP_S)
        snapshot_s = time.monotonic() - began
        resumed = time.monotonic()
        time.sleep(apart_s)
        apart_s = time.monotonic() - resumed
        source.snapshot(folder / "2.stream", _STEP_S)
        qemu = _ask_qemu(spec, folder, source, apart_s, tell)
    for number in (1, 2):
        write_image(folder / f"{number}.stream", folder / f"{number}.image")
    return Facts(guest=guest, memory_mib=spec.memory_mib, apart_s=apart_s, snapshot_s=snapshot_s, qemu=qemu)


def _ask_qemu(
    spec: GuestSpec, folder: Path, source: Machine, apart_s: float, tell: Callable[[str], None]
) -> dict[str, Sent]:
    """Migrate the guest to a second QEMU on this machine, once with each of QEMU's own encodings."""
    found: dict[str, Sent] = {}
    for level in _ZSTD_LEVELS:
        tell(f"{spec.name}: to a second QEMU with multifd and zstd level {level}")
        told: dict[str, object] = {
            "multifd-compression": "zstd", "multifd-zstd-level": level, "multifd-channels": _MULTIFD_CHANNELS,
        }  # fmt: skip
        with machine(spec, folder, "sink") as sink:
            found[f"qemu-multifd-zstd-{level}"] = source.send_stopped(sink, ["multifd"], told, _STEP_S)
    tell(f"{spec.name}: to a second QEMU with XBZRLE, three times, {apart_s:.0f} s apart")
    cache: dict[str, object] = {"xbzrle-cache-size": 1 << (spec.memory_mib.bit_length() + 19)}
    with machine(spec, folder, "sink") as sink:
        found["qemu-xbzrle"] = source.send_again(sink, ["xbzrle"], cache, apart_s, _STEP_S)
    return found


def write_image(stream: Path, target: Path) -> None:
    """Write the RAM of a recorded stream as a sparse file."""
    content = mapped(stream)
    found = layout(content)
    with target.open("wb") as file:
        for address, page in image(content, found):
            file.seek(address)
            file.write(page)
        file.truncate(max(found.memory_bytes, file.seek(0, 2)))


def mapped(path: Path) -> memoryview:
    """A file's content, for reading; unmapped when the last piece of it is forgotten."""
    with path.open("rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
