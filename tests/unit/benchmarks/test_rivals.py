"""What QEMU's own ways are told must be what libvirt calls it."""

import libvirt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.errors import BadRequest
from actors.lab.plan import LIBVIRT_TCP_PORT
from benchmarks.moving import rivals
from benchmarks.moving.rivals import RIVALS, SYSTEMS, Rival, Tuning, flags, params, parse_systems

_BASE = (
    libvirt.VIR_MIGRATE_LIVE
    | libvirt.VIR_MIGRATE_PEER2PEER
    | libvirt.VIR_MIGRATE_PERSIST_DEST
    | libvirt.VIR_MIGRATE_UNDEFINE_SOURCE
)
_TUNING = Tuning(channels=4, zstd_level=3, xbzrle_cache_mib=64)


@pytest.mark.parametrize(
    ("rival", "extra"),
    [
        ("qemu-plain", 0),
        ("qemu-xbzrle", libvirt.VIR_MIGRATE_COMPRESSED),
        ("qemu-multifd", libvirt.VIR_MIGRATE_PARALLEL),
        ("qemu-multifd-zstd", libvirt.VIR_MIGRATE_PARALLEL | libvirt.VIR_MIGRATE_COMPRESSED),
    ],
)
def test_flags_are_libvirts(rival: Rival, extra: int) -> None:
    assert flags(rival) == _BASE | extra


@pytest.mark.parametrize(
    ("rival", "expected"),
    [
        ("qemu-plain", {}),
        (
            "qemu-xbzrle",
            {
                libvirt.VIR_MIGRATE_PARAM_COMPRESSION: "xbzrle",
                libvirt.VIR_MIGRATE_PARAM_COMPRESSION_XBZRLE_CACHE: 64 << 20,
            },
        ),
        ("qemu-multifd", {libvirt.VIR_MIGRATE_PARAM_PARALLEL_CONNECTIONS: 4}),
        (
            "qemu-multifd-zstd",
            {
                libvirt.VIR_MIGRATE_PARAM_PARALLEL_CONNECTIONS: 4,
                libvirt.VIR_MIGRATE_PARAM_COMPRESSION: "zstd",
                libvirt.VIR_MIGRATE_PARAM_COMPRESSION_ZSTD_LEVEL: 3,
            },
        ),
    ],
)
def test_params_are_libvirts(rival: Rival, expected: dict[str, rivals.Param]) -> None:
    found = params(rival, _TUNING, "10.77.2.11")
    assert found == {libvirt.VIR_MIGRATE_PARAM_URI: f"tcp://10.77.2.11:{rivals.RAM_PORT}", **expected}


def test_the_targets_libvirtd_is_the_labs() -> None:
    assert rivals.target_uri("10.77.2.11") == f"qemu+tcp://10.77.2.11:{LIBVIRT_TCP_PORT}/system"


@given(memory_mib=st.integers(1, 1 << 20))
def test_xbzrle_has_the_largest_cache_that_the_guest_can_use(memory_mib: int) -> None:
    cache_mib = Tuning.of("qemu-xbzrle", memory_mib, 8, 3).xbzrle_cache_mib
    assert cache_mib & (cache_mib - 1) == 0
    assert cache_mib <= memory_mib < 2 * cache_mib


def test_a_tuning_has_only_what_its_rival_knows() -> None:
    assert Tuning.of("qemu-plain", 1024, 8, 3) == Tuning()
    assert Tuning.of("qemu-multifd", 1024, 8, 3) == Tuning(channels=8)
    assert Tuning.of("qemu-multifd-zstd", 1024, 8, 3) == Tuning(channels=8, zstd_level=3)


def test_systems() -> None:
    assert parse_systems("") == list(SYSTEMS) == [*RIVALS, "novacron", "qemu-raised"]
    assert parse_systems(" novacron , qemu-plain,") == ["qemu-plain", "novacron"]


def test_an_unknown_system_is_named() -> None:
    with pytest.raises(BadRequest, match=r"qemu-rdma: there are qemu-plain, qemu-xbzrle, "):
        parse_systems("novacron,qemu-rdma")
