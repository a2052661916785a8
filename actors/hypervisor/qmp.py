"""QEMU's own monitor, through libvirt: what libvirt's API does not tell or set of a migration. Blocking."""

from typing import Any

import libvirt_qemu
import msgspec

from actors.hypervisor.engine.switchover import Limit


class RamLeft(msgspec.Struct, frozen=True, kw_only=True, rename="kebab"):
    """QEMU's account of guest memory under way; bytes."""

    remaining: int = 0
    dirty_sync_count: int = 0
    dirty_pages_rate: int = 0
    page_size: int = 4096


class Migration(msgspec.Struct, frozen=True, kw_only=True):
    """QEMU's account of its migration; `status` is '' when it has had none."""

    status: str = ""
    ram: RamLeft = RamLeft()


class _Answer(msgspec.Struct, frozen=True):
    result: Migration = msgspec.field(name="return", default=Migration())


class _Refusal(msgspec.Struct, frozen=True):
    error: dict[str, str] = {}


def query_migration(domain: Any) -> Migration:
    """How QEMU's migration of `domain` stands."""
    return msgspec.json.decode(_command(domain, "query-migrate"), type=_Answer).result


def set_limit(domain: Any, limit: Limit) -> None:
    """Tell QEMU when it may stop the guest. QEMU before 8.2 knows no bandwidth but the one it measures itself."""
    wanted = {"downtime-limit": limit.downtime_ms, "max-bandwidth": limit.rate_bytes_per_s}
    both = wanted | {"avail-switchover-bandwidth": limit.bandwidth_bytes_per_s}
    if msgspec.json.decode(_command(domain, "migrate-set-parameters", both), type=_Refusal).error:
        _command(domain, "migrate-set-parameters", wanted)


def _command(domain: Any, name: str, arguments: dict[str, int] | None = None) -> str:
    order: dict[str, object] = {"execute": name}
    if arguments is not None:
        order["arguments"] = arguments
    answer: str = libvirt_qemu.qemuMonitorCommand(domain, msgspec.json.encode(order).decode(), 0)
    return answer
