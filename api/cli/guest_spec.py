"""From what the command line says to a `GuestSpec`."""

from pathlib import Path

from actors.errors import BadRequest
from actors.hypervisor.messages import DiskSpec, GuestSpec

# Outside the directories that a lab's node has for itself, so that the files lie at the same path on every node.
IMAGES = Path("/var/cache/novacron/guests")
_MIB = 1 << 20


def lab_spec(name: str, kind: str, memory_mib: int, load: str, cache_mib: int, data_mib: int) -> GuestSpec:
    """A guest of the lab: `kind` of workload under `load`, with `cache_mib` of files in its page cache.

    `data_mib` is the size of a disk of its own, 0 for none. Builds the guests' images on this
    machine if they are not there yet.

    Raises:
        BadRequest: the kind, the load or the memory can't be.
        SetupMissing: the images can't be built.
    """
    from actors.lab.guests import KINDS, Load, build, guest_spec

    known = next((one for one in KINDS if one == kind), None)
    if known is None:
        raise BadRequest(detail=f"--kind {kind}: there are {', '.join(KINDS)}")
    disk = DiskSpec(target="vdb", path="", format="raw", size_bytes=data_mib * _MIB, moves=True) if data_mib else None
    return guest_spec(name, known, memory_mib, Load.parse(load), cache_mib, build(IMAGES), data_disk=disk)


def parse_disk(text: str) -> DiskSpec:
    """The disk that ``TARGET=PATH[,raw|qcow2][,SIZE_MIB][,ro][,moves]`` means.

    Raises:
        BadRequest: says which word can't be read.
    """
    first, *words = text.split(",")
    target, equals, path = first.partition("=")
    if not (target and equals):
        raise BadRequest(detail=f"--disk {text}: begin with TARGET=PATH, for example vda=/srv/web1.qcow2,qcow2,moves")
    found: dict[str, str | int | bool] = {"format": "raw"}
    for word in words:
        match word:
            case "raw" | "qcow2":
                found["format"] = word
            case "ro":
                found["read_only"] = True
            case "moves":
                found["moves"] = True
            case _ if word.isascii() and word.isdigit():
                found["size_bytes"] = int(word) * _MIB
            case _:
                raise BadRequest(detail=f"--disk {text}: {word!r} is neither raw, qcow2, a size in MiB, ro nor moves")
    return _disk(target, path, found)


def _disk(target: str, path: str, found: dict[str, str | int | bool]) -> DiskSpec:
    return DiskSpec(
        target=target,
        path=path,
        format=str(found["format"]),
        size_bytes=int(found.get("size_bytes", 0)),
        read_only=bool(found.get("read_only", False)),
        moves=bool(found.get("moves", False)),
    )
