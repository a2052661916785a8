"""Files in place: which are used, what is remembered of them, and that one that changes never harms a guest."""

import os
import threading
from pathlib import Path

import numpy as np
import pytest

from actors.encoding import files
from actors.encoding.files import FileLibrary
from actors.encoding.find import PRINT_MASK
from actors.encoding.kernel import Words
from actors.encoding.shelf import Shelf
from tests.unit.encoding import kit

PATIENCE_S = 30.0


def content(seed: int, blocks: int = 300) -> bytes:
    """A file with zero blocks, equal blocks and a tail that is no whole block."""
    chance = np.random.default_rng(seed)
    made = chance.integers(0, 256, (blocks, 4096), np.uint8)
    made[chance.integers(1, blocks, blocks // 5)] = 0
    made[chance.integers(1, blocks, blocks // 5)] = made[0]
    return made.tobytes() + bytes(range(100))


@pytest.fixture
def library(tmp_path: Path) -> FileLibrary:
    return FileLibrary(tmp_path / "prints", kit.KEY)


def test_every_block_is_told_of_but_zeros(tmp_path: Path, library: FileLibrary) -> None:
    (tmp_path / "root.raw").write_bytes(content(1))
    (file,) = library.open([str(tmp_path / "root.raw")], PATIENCE_S)
    _, prints, _ = file.prints()
    blocks = content(1)[: 300 * 4096]
    zeros = ~np.frombuffer(blocks, np.uint64).reshape(-1, 512).any(axis=1)
    assert np.array_equal(prints, np.where(zeros, 0, kit.digests_of(blocks)[:, 0] & PRINT_MASK))
    assert 0 < zeros.sum() < 300
    file.close()


@pytest.mark.parametrize("change", ["cut", "written"])
def test_a_file_that_changes_under_a_move_harms_no_guest(tmp_path: Path, library: FileLibrary, change: str) -> None:
    path = tmp_path / "root.raw"
    path.write_bytes(content(1))
    (file,) = library.open([str(path)], PATIENCE_S)
    stream = kit.guest_stream(1, image=content(1)[: 300 * 4096])
    parts = kit.pieces(stream, range(0, len(stream), 60_000))

    def harm() -> None:
        if change == "cut":
            os.truncate(path, 4096)
        else:
            path.write_bytes(content(2))

    out, encoder, _ = kit.moved(parts, Shelf(kit.KEY, None, [file]), damage=(1, harm))
    assert out == stream
    assert encoder.layers["store"].pages > 0
    assert encoder.missed > 0
    file.close()


def test_what_is_no_file_is_left_alone(tmp_path: Path, library: FileLibrary, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "small").write_bytes(bytes(4095))
    (tmp_path / "image").write_bytes(content(1))
    (tmp_path / "link").symlink_to(tmp_path / "image")
    os.mkfifo(tmp_path / "fifo")
    monkeypatch.chdir(tmp_path)
    paths = [str(tmp_path / name) for name in ("small", "link", "fifo", "absent", "")]
    assert library.open([*paths, "image", "/dev/zero", "/bad\0name"], PATIENCE_S) == []
    monkeypatch.setattr(files, "FILE_MAX_BYTES", 4096)
    assert library.open([str(tmp_path / "image")], PATIENCE_S) == []


def test_prints_are_remembered_until_the_file_changes(
    tmp_path: Path, library: FileLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "root.raw"
    path.write_bytes(content(1))
    reads: list[str] = []
    read = FileLibrary._read

    def counted(self: FileLibrary, path: str, state: files.FileState) -> Words | None:
        reads.append(path)
        return read(self, path, state)

    monkeypatch.setattr(FileLibrary, "_read", counted)

    def source(by: FileLibrary) -> bytes:
        (file,) = by.open([str(path), str(path)], PATIENCE_S)
        file.close()
        return file.source

    first = source(library)
    assert (source(library), source(FileLibrary(tmp_path / "prints", kit.KEY)), len(reads)) == (first, first, 1)
    times = path.stat()
    path.write_bytes(content(2))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    second = source(library)
    assert (second != first, len(reads)) == (True, 2)
    (tmp_path / "prints" / second.hex()).write_bytes(b"no prints at all")
    assert (source(FileLibrary(tmp_path / "prints", kit.KEY)), len(reads)) == (second, 3)


def test_a_move_does_not_wait_for_a_slow_file_and_the_next_one_has_it(
    tmp_path: Path, library: FileLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "root.raw"
    path.write_bytes(content(1))
    goes_on = threading.Event()
    read = FileLibrary._read

    def slow(self: FileLibrary, path: str, state: files.FileState) -> Words | None:
        assert goes_on.wait(PATIENCE_S)
        return read(self, path, state)

    monkeypatch.setattr(FileLibrary, "_read", slow)
    assert library.open([str(path)], 0.01) == []
    goes_on.set()
    (file,) = library.open([str(path)], PATIENCE_S)
    file.close()
