"""Pure: QEMU's own ways to move a guest, as libvirt's migration flags and typed parameters.

Every rival moves memory and device state straight from QEMU to QEMU over TCP, peer to peer between the two libvirtd,
with the pause that NovaCron is allowed too and without a cap on bandwidth: libvirt lifts QEMU's where none is named.
"""

import math
from typing import Final, Literal, Self, get_args

import msgspec

from actors.errors import BadRequest

Rival = Literal["qemu-plain", "qemu-xbzrle", "qemu-multifd", "qemu-multifd-zstd"]
RIVALS: Final[tuple[Rival, ...]] = get_args(Rival)
NOVACRON: Final = "novacron"
# multifd+zstd whose pause is raised until it ends about when NovaCron does.
RAISED_RIVAL: Final = "qemu-raised"
SYSTEMS: Final[tuple[str, ...]] = (*RIVALS, NOVACRON, RAISED_RIVAL)
PAUSE_MS: Final = 300
RAISE_EVERY_S: Final = 0.5
_PAUSE_MAX_MS, _STEPS_MAX = 60_000, 20
LIBVIRT_TCP_PORT: Final = 16509
RAM_PORT: Final = 49152

# libvirt-domain.h, enum virDomainMigrateFlags
LIVE, PEER2PEER, PERSIST_DEST, UNDEFINE_SOURCE = 1 << 0, 1 << 1, 1 << 3, 1 << 4
COMPRESSED, PARALLEL = 1 << 11, 1 << 17
_ALWAYS: Final = LIVE | PEER2PEER | PERSIST_DEST | UNDEFINE_SOURCE

Param = str | int


class Tuning(msgspec.Struct, frozen=True, kw_only=True):
    """What can be chosen for a rival; 0: the rival has no such thing. `xbzrle_cache_mib` is a power of two.

    `raise_after_s`: from then on the allowed pause grows, see `allowed_pause_ms`.
    """

    channels: int = 0
    zstd_level: int = 0
    xbzrle_cache_mib: int = 0
    raise_after_s: float = 0.0

    @classmethod
    def of(cls, rival: Rival, memory_mib: int, channels: int, zstd_level: int) -> Self:
        """The part of these choices that `rival` knows; XBZRLE's cache holds the guest as far as a power of two can."""
        match rival:
            case "qemu-plain":
                return cls()
            case "qemu-xbzrle":
                return cls(xbzrle_cache_mib=1 << (memory_mib.bit_length() - 1))
            case "qemu-multifd":
                return cls(channels=channels)
            case "qemu-multifd-zstd":
                return cls(channels=channels, zstd_level=zstd_level)


def flags(rival: Rival) -> int:
    """libvirt's migration flags of `rival`."""
    match rival:
        case "qemu-plain":
            return _ALWAYS
        case "qemu-xbzrle":
            return _ALWAYS | COMPRESSED
        case "qemu-multifd":
            return _ALWAYS | PARALLEL
        case "qemu-multifd-zstd":
            return _ALWAYS | PARALLEL | COMPRESSED


def params(rival: Rival, tuning: Tuning, target_address: str) -> dict[str, Param]:
    """libvirt's typed parameters of `rival`: names as in libvirt-domain.h, VIR_MIGRATE_PARAM_*."""
    found: dict[str, Param] = {"migrate_uri": f"tcp://{target_address}:{RAM_PORT}"}
    if rival == "qemu-xbzrle":
        found |= {"compression": "xbzrle", "compression.xbzrle.cache": tuning.xbzrle_cache_mib << 20}
    if rival in ("qemu-multifd", "qemu-multifd-zstd"):
        found["parallel.connections"] = tuning.channels
    if rival == "qemu-multifd-zstd":
        found |= {"compression": "zstd", "compression.zstd.level": tuning.zstd_level}
    return found


def allowed_pause_ms(since_s: float) -> int:
    """The pause that QEMU is allowed `since_s` after it began to be raised: half as much again every half second."""
    steps = min(_STEPS_MAX, 1 + since_s / RAISE_EVERY_S)
    return min(_PAUSE_MAX_MS, round(PAUSE_MS * math.pow(1.5, steps)))


def target_uri(target_address: str) -> str:
    """The target's libvirtd as the source's libvirtd reaches it, over the line."""
    return f"qemu+tcp://{target_address}:{LIBVIRT_TCP_PORT}/system"


def parse_systems(text: str) -> list[str]:
    """The systems that `novacron,qemu-plain` names, in the order of `SYSTEMS`; all of them for an empty text.

    Raises:
        BadRequest: one of them does not exist.
    """
    named = {part.strip() for part in text.split(",") if part.strip()}
    unknown = sorted(named - set(SYSTEMS))
    if unknown:
        raise BadRequest(detail=f"--only {', '.join(unknown)}: there are {', '.join(SYSTEMS)}")
    return [system for system in SYSTEMS if not named or system in named]
