"""Who may come to a host, and what a disk needs there."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.errors import BodyInvalid, GuestExists, Incompatible, NoRoom, NoTakeover
from actors.hypervisor.engine.domain import Domain
from actors.hypervisor.engine.fit import (
    DiskHere,
    HostView,
    check_boots,
    check_disk,
    check_disk_for_boot,
    check_guest,
    free_mib,
    missing_parents,
    portable_cpu,
)
from actors.hypervisor.messages import NO_ATTRIBUTES, DiskSpec, GuestInfo

UUID = "8a1bb3c8-7c4b-4be5-9d3a-0b1c2d3e4f50"
FOLDERS = ("/var/lib/novacron/images",)


def guest(**changes: object) -> GuestInfo:
    return GuestInfo(
        **{
            "name": "web1", "uuid": UUID, "node": "a", "site": "s", "state": "running", "memory_mib": 512, "vcpus": 1,
            "machine": "pc-q35-10.0", "cpu_model": "qemu64", **changes,
        }
    )  # fmt: skip


def definition(**changes: object) -> Domain:
    return Domain(
        **{
            "name": "web1", "uuid": UUID, "memory_mib": 512, "vcpus": 1, "arch": "x86_64", "machine": "pc-q35-10.0",
            "cpu_model": "qemu64", "emulator": "", "boot_files": [], "disks": [],
            "attributes": NO_ATTRIBUTES, **changes,
        }
    )  # fmt: skip


def host(**changes: object) -> HostView:
    return HostView(
        **{
            "node": "b", "arch": "x86_64", "cpu_model": "Skylake", "cpu_models_usable": frozenset({"qemu64"}),
            "machine_types": frozenset({"pc-q35-10.0"}), "free_mib": 512, "names": frozenset({"db"}),
            "uuids": frozenset({"other"}), **changes,
        }
    )  # fmt: skip


def test_guest_that_fits_exactly_may_come() -> None:
    check_guest(guest(), definition(), host())


@pytest.mark.parametrize(
    "info, domain, view, error, says",
    [
        ({}, {}, {"names": frozenset({"web1"})}, GuestExists, "already has"),
        ({}, {}, {"uuids": frozenset({UUID})}, GuestExists, "already has"),
        ({}, {}, {"free_mib": 511}, NoRoom, "needs 512 MiB of memory, 511 MiB"),
        ({}, {}, {"machine_types": frozenset({"pc"})}, Incompatible, "machine type pc-q35-10.0"),
        ({}, {"arch": "aarch64"}, {}, Incompatible, "aarch64"),
        ({"cpu_model": "EPYC"}, {}, {}, Incompatible, "CPU model EPYC"),
        ({"cpu_model": "host-passthrough/EPYC"}, {}, {}, Incompatible, "a EPYC; this host has a Skylake"),
        ({}, {"name": "web2"}, {}, BodyInvalid, "not that of web1"),
        ({}, {"memory_mib": 64}, {}, BodyInvalid, "not that of web1"),
        ({}, {"uuid": "x"}, {}, BodyInvalid, "not that of web1"),
    ],
)
def test_guest_that_does_not_fit_is_told_why(
    info: dict[str, object], domain: dict[str, object], view: dict[str, object], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        check_guest(guest(**info), definition(**domain), host(**view))


def test_passed_through_cpu_needs_the_same_model() -> None:
    assert portable_cpu("qemu64", "Skylake") == "qemu64"
    check_guest(guest(cpu_model=portable_cpu("host-passthrough", "Skylake")), definition(), host())


def test_a_guest_may_be_started_from_nothing_where_its_own_older_copy_is() -> None:
    check_boots(definition(), host(names=frozenset({"web1"}), uuids=frozenset({UUID})))


@pytest.mark.parametrize("cpu", ["", "host-passthrough", "host-model", "maximum"])
def test_a_cpu_of_any_host_is_that_of_the_host_where_it_starts(cpu: str) -> None:
    check_boots(definition(cpu_model=cpu), host(cpu_model="EPYC", cpu_models_usable=frozenset()))


@pytest.mark.parametrize(
    ("domain", "error", "says"),
    [
        ({"memory_mib": 513}, NoRoom, "needs 513 MiB of memory, 512 MiB"),
        ({"machine": "pc-q35-99.0"}, Incompatible, "machine type pc-q35-99.0"),
        ({"arch": "aarch64"}, Incompatible, "aarch64"),
        ({"cpu_model": "EPYC"}, Incompatible, "CPU model EPYC"),
    ],
)
def test_a_guest_that_can_not_be_started_is_told_why(
    domain: dict[str, object], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        check_boots(definition(**domain), host())


@given(st.integers(0, 1 << 20), st.integers(0, 1 << 20), *[st.integers(0, 1 << 20)] * 3)
def test_room_is_never_promised_twice(total: int, available: int, guests: int, reserved: int, reserve: int) -> None:
    free = free_mib(total, min(total, available), guests, reserved, reserve)
    assert free >= 0
    assert free == 0 or free + guests + reserved + reserve <= total
    if free:
        assert free_mib(total, min(total, available), guests, reserved + free, reserve) == 0


def disk(**changes: object) -> DiskSpec:
    return DiskSpec(
        **{
            "target": "vda", "path": "/var/lib/novacron/images/a.raw", "format": "raw", "size_bytes": 100,
            "moves": True, **changes,
        }
    )  # fmt: skip


def check(asked: DiskSpec, here: DiskHere) -> bool:
    return check_disk(guest(), asked, here, "b", FOLDERS)


def test_missing_disk_that_travels_is_made() -> None:
    assert check(disk(), DiskHere(exists=False))


def test_left_over_disk_of_the_same_size_is_used() -> None:
    assert not check(disk(), DiskHere(exists=True, size_bytes=100))


def test_shared_image_of_a_running_guest_is_fine() -> None:
    assert not check(disk(moves=False, read_only=True), DiskHere(exists=True, size_bytes=100, used_by="db"))


@pytest.mark.parametrize(
    "changes, here, says",
    [
        ({}, DiskHere(exists=True, size_bytes=100, used_by="db"), "belongs to guest db"),
        ({}, DiskHere(exists=True, size_bytes=100, regular=False), "would be overwritten"),
        ({"size_bytes": 0}, DiskHere(exists=True, size_bytes=100), "would be overwritten"),
        ({}, DiskHere(exists=True, size_bytes=99), "has 99 bytes, not 100"),
        ({"moves": False, "read_only": True}, DiskHere(exists=False), "does not travel"),
        ({"path": "/etc/cron.d/x"}, DiskHere(exists=False), "made only in"),
        ({"path": "/var/lib/novacron/images"}, DiskHere(exists=False), "made only in"),
        ({"format": "vmdk"}, DiskHere(exists=False), "can't be made"),
        ({"size_bytes": 0}, DiskHere(exists=False), "can't be made"),
    ],
)
def test_disk_that_can_not_be_had_is_told(changes: dict[str, object], here: DiskHere, says: str) -> None:
    with pytest.raises(Incompatible, match=says):
        check(disk(**changes), here)


def boots(asked: DiskSpec, here: DiskHere, *, accepted: bool = False) -> None:
    check_disk_for_boot("web1", asked, here, "b", accepted=accepted)


def test_a_disk_that_every_host_has_is_booted_from() -> None:
    shared = disk(moves=False, read_only=True)
    boots(shared, DiskHere(exists=True))
    boots(shared, DiskHere(exists=True, used_by="db"))


def test_a_guests_own_disk_is_booted_from_only_at_an_operators_word() -> None:
    with pytest.raises(NoTakeover, match=r"may be an old copy.*--disks-here"):
        boots(disk(), DiskHere(exists=True, size_bytes=100))
    boots(disk(), DiskHere(exists=True, size_bytes=100), accepted=True)


@pytest.mark.parametrize(
    ("changes", "here", "says"),
    [
        ({}, DiskHere(exists=False), "is not there; it was where the guest ran"),
        ({"moves": False}, DiskHere(exists=False), "is not there; every host needs it"),
        ({}, DiskHere(exists=True, used_by="db"), "belongs to guest db"),
    ],
)
def test_no_word_helps_where_the_disk_is_missing_or_anothers(
    changes: dict[str, object], here: DiskHere, says: str
) -> None:
    with pytest.raises(NoTakeover, match=says):
        boots(disk(**changes), here, accepted=True)


def test_missing_parents_come_outermost_first() -> None:
    assert missing_parents("/a/b/c/d.raw", frozenset({"/", "/a"})) == ["/a/b", "/a/b/c"]
