"""Disk files and job directories: made, measured, and removed exactly as far as they were made."""

import os
import stat
from pathlib import Path

import pytest

from actors.errors import BodyInvalid, Failed
from actors.hypervisor import disks, jobdirs, kvm
from actors.hypervisor.messages import DiskSpec

ME = (os.getuid(), os.getgid())


def disk(path: Path, kind: str = "raw", size_bytes: int = 1 << 20) -> DiskSpec:
    return DiskSpec(target="vda", path=str(path), format=kind, size_bytes=size_bytes, moves=True)


@pytest.mark.parametrize("kind", ["raw", "qcow2"])
def test_made_disk_has_its_size_and_goes_again(tmp_path: Path, kind: str) -> None:
    made: list[str] = []
    asked = disk(tmp_path / "new" / "er" / "a.img", kind)
    disks.make(asked, ME, made.append)
    assert disks.size_bytes(asked) == 1 << 20
    assert made == [str(tmp_path / "new"), str(tmp_path / "new" / "er"), asked.path]
    assert stat.S_IMODE(Path(asked.path).stat().st_mode) == 0o600
    disks.unmake(made)
    assert list(tmp_path.iterdir()) == []


def test_what_others_put_beside_it_stays(tmp_path: Path) -> None:
    made: list[str] = []
    asked = disk(tmp_path / "new" / "a.img")
    disks.make(asked, ME, made.append)
    (tmp_path / "new" / "theirs").write_text("x")
    disks.unmake(made)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["theirs"]
    disks.unmake(made)


def test_disk_that_is_there_is_never_overwritten(tmp_path: Path) -> None:
    asked = disk(tmp_path / "a.img")
    Path(asked.path).write_bytes(b"precious")
    made: list[str] = []
    with pytest.raises(Failed, match="appeared"):
        disks.make(asked, ME, made.append)
    assert made == []
    assert Path(asked.path).read_bytes() == b"precious"


def test_crash_after_the_record_leaves_nothing_to_hurt(tmp_path: Path) -> None:
    disks.unmake([str(tmp_path / "recorded"), str(tmp_path / "recorded" / "never-made")])
    assert tmp_path.exists()


def test_image_that_is_none_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.img").write_bytes(b"no qcow2")
    with pytest.raises(Failed, match="qemu-img"):
        disks.size_bytes(disk(tmp_path / "a.img", "qcow2"))
    assert disks.size_bytes(disk(tmp_path / "none.img")) == 0


def test_job_directory_is_made_empty_and_removed(tmp_path: Path) -> None:
    paths = jobdirs.paths_of(tmp_path, Path("/run/libvirt/libvirt-sock"), "j1")
    jobdirs.make(paths, ME)
    Path(paths.ram).write_text("left over")
    jobdirs.make(paths, ME)
    assert list(Path(paths.directory).iterdir()) == []
    assert stat.S_IMODE(Path(paths.directory).stat().st_mode) == 0o770
    jobdirs.remove(paths)
    jobdirs.remove(paths)
    assert list((tmp_path / "jobs").iterdir()) == []


def test_job_directory_can_not_leave_run_dir(tmp_path: Path) -> None:
    with pytest.raises(BodyInvalid):
        jobdirs.paths_of(tmp_path, Path("/s"), "../../etc")
    with pytest.raises(Failed, match="too long"):
        jobdirs.paths_of(tmp_path / ("x" * 100), Path("/s"), "j")


def test_kvm_is_asked_once_per_emulator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    emulator = tmp_path / "qemu"
    emulator.write_text("1")
    monkeypatch.setattr(kvm, "usable", lambda path: bool(asked.append(path)) or True)
    memory = tmp_path / "kvm.json"
    assert kvm.remembered(str(emulator), memory) and kvm.remembered(str(emulator), memory)
    assert len(asked) == 1
    os.utime(emulator, (1, 1))
    memory_before = memory.read_bytes()
    assert kvm.remembered(str(emulator), memory)
    assert len(asked) == 2
    assert memory.read_bytes() != memory_before
    memory.write_bytes(b"damaged")
    assert kvm.remembered(str(emulator), memory)
    assert len(asked) == 3
    assert not kvm.remembered(str(tmp_path / "none"), memory)
