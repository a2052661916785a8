"""Reading apt's index, module order, the cpio archive, and what a guest is asked for."""

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.errors import BodyInvalid, SetupMissing
from actors.hypervisor.messages import DiskSpec
from actors.lab.guests import initramfs, packages
from actors.lab.guests.images import GuestImages
from actors.lab.guests.spec import Load, guest_spec

DIGEST = "00be21c0c17f08ddf26e82d3b53fe7a41efa4a288938da6bb69e89c4b25c281d"
URIS = f"""Reading package lists...
'http://deb.debian.org/r/redis_7.0%7edeb12_amd64.deb' redis_5%3a7.0~deb12_amd64.deb 73908 SHA256:{DIGEST}
'http://deb.debian.org/x/a_1.deb' a_1.deb 10 SHA256:{DIGEST[::-1]}
'http://deb.debian.org/x/old.deb' old.deb 10 MD5Sum:0123
"""
IMAGES = GuestImages(kernel="/i/k", initrd="/i/r", root="/i/root.raw", root_content_mib=400)


def test_uris_are_read_and_sorted() -> None:
    found = packages.parse_uris(URIS)
    assert [(p.file, p.size_bytes) for p in found] == [("a_1.deb", 10), ("redis_5%3a7.0~deb12_amd64.deb", 73908)]


def test_recipe_follows_content_and_sources() -> None:
    found = packages.parse_uris(URIS)
    assert packages.recipe(found, b"a") == packages.recipe(found, b"a")
    assert len({packages.recipe(found, b"a"), packages.recipe(found, b"b"), packages.recipe(found[:1], b"a")}) == 3
    assert packages.recipe(found, b"ab", b"c") != packages.recipe(found, b"a", b"bc")


def test_damaged_package_is_never_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a_1.deb").write_bytes(b"0123456789")
    monkeypatch.setattr(packages, "_run", lambda *_: "")  # the mirror that gives nothing better
    with pytest.raises(SetupMissing, match="undamaged a_1"):
        packages.fetch(("a",), packages.parse_uris(URIS)[:1], tmp_path)


def test_modules_load_after_what_they_need() -> None:
    depends = {"ext4": ["jbd2", "mbcache"], "jbd2": [], "mbcache": [], "virtio_blk": ["virtio"]}
    order = initramfs.load_order(["ext4", "virtio-blk", "built_in"], depends)
    assert order == ["jbd2", "mbcache", "ext4", "virtio_blk"]


def test_modules_in_a_circle_are_refused() -> None:
    with pytest.raises(ValueError, match="need each other"):
        initramfs.load_order(["a"], {"a": ["b"], "b": ["a"]})


def test_depends_are_read_from_the_module() -> None:
    assert initramfs.depends_of(b"\x7fELF\0license=GPL\0depends=jbd2,crc-16\0name=ext4\0") == ["jbd2", "crc_16"]
    assert initramfs.depends_of(b"\x7fELF\0depends=\0") == []
    assert initramfs.depends_of(b"") == []


@given(st.dictionaries(st.from_regex(r"[a-z]{1,12}", fullmatch=True), st.binary(max_size=200), max_size=5))
def test_archive_unpacks_to_what_went_in(contents: dict[str, bytes]) -> None:
    archive = initramfs.archive({name: (0o100644, content) for name, content in contents.items()})
    listed = subprocess.run(
        ["cpio", "--list", "--quiet", "--numeric-uid-gid", "--verbose"], input=archive, capture_output=True, check=True
    )
    sizes = {line.split()[-1]: int(line.split()[4]) for line in listed.stdout.decode().splitlines()}
    assert sizes == {name: len(content) for name, content in contents.items()}


def test_guest_spec_carries_load_cache_and_disks() -> None:
    disk = DiskSpec(target="vda", path="", format="qcow2", size_bytes=1 << 20, moves=True)
    spec = guest_spec("g", "memory", 512, Load.parse("64,2000,64"), 200, IMAGES, data_disk=disk)
    words = spec.cmdline.split()
    assert {"console=ttyS0", "nova.kind=memory", "nova.load=64,2000,64", "nova.cache=200", "nova.disk=20"} <= set(words)
    assert [(d.target, d.read_only) for d in spec.disks] == [("vda", True), ("vdb", False)]
    assert (spec.kernel, spec.initrd, spec.disks[0].path) == (IMAGES.kernel, IMAGES.initrd, IMAGES.root)


@pytest.mark.parametrize("memory_mib, cache_mib", [(100, 0), (256, 200), (4096, 401)])
def test_guest_that_can_not_work_is_refused(memory_mib: int, cache_mib: int) -> None:
    with pytest.raises(BodyInvalid):
        guest_spec("g", "memory", memory_mib, Load(), cache_mib, IMAGES)


@pytest.mark.parametrize("text", ["", "1,2", "1,2,3,4", "-1,2,3", "a,b,c", "1,2,3.5", "²,1,1"])
def test_malformed_load_is_refused(text: str) -> None:
    with pytest.raises(BodyInvalid):
        Load.parse(text)


def test_images_move_to_another_folder() -> None:
    assert IMAGES.moved_to(Path("/n")).root == "/n/root.raw"


@pytest.mark.parametrize("release", ["bookworm", "trixie"])
def test_every_release_has_each_package_once(release: str) -> None:
    names = packages.root_packages(release)
    assert len(set(names)) == len(names)
    assert "redis-server" in names


def test_another_distribution_is_told_what_is_needed() -> None:
    with pytest.raises(SetupMissing, match="noble"):
        packages.root_packages("noble")
