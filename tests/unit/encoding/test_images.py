"""Disk images: what comes out of a stream that refers to them, and which files are taken for the same."""

import contextlib
import os
import threading
from pathlib import Path

import blake3
import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.encoding import images
from actors.encoding.blocks import NO_BLOCK, BlockIndex, find_block
from actors.encoding.encoder import Settings
from actors.encoding.images import DIGESTS_FILE, ImageLibrary
from actors.encoding.pages import page_hash
from actors.errors import StreamCorrupt
from tests.unit.encoding import kit

PATIENCE_S = 30.0
LAYERS = st.builds(
    Settings,
    zero=st.booleans(),
    dedupe=st.booleans(),
    delta=st.booleans(),
    zstd=st.booleans(),
    dedupe_cache_mib=st.just(8),
    batch_bytes=st.sampled_from([65536, 1 << 20]),
)


def content(seed: int, blocks: int = 40) -> bytes:
    """An image with zero blocks, equal blocks and a tail that is no whole block."""
    chance = np.random.default_rng(seed)
    made = chance.integers(0, 256, (blocks, 4096), np.uint8)
    made[chance.integers(0, blocks, blocks // 5)] = 0
    made[chance.integers(0, blocks, blocks // 5)] = made[0]
    return made.tobytes() + bytes(range(100))


@pytest.fixture
def library(tmp_path: Path) -> ImageLibrary:
    return ImageLibrary(tmp_path)


# -- streams ------------------------------------------------------------------------------------------------------


@given(seed=st.integers(0, 2**32), layers=LAYERS, flush=st.booleans(), count=st.integers(1, 3), data=st.data())
@settings(max_examples=60, deadline=None)
def test_streams_come_out_as_they_went_in(
    seed: int, layers: Settings, flush: bool, count: int, data: st.DataObject
) -> None:
    contents = [content(seed + i) for i in range(count)]
    stream = kit.guest_stream(seed, image=b"".join(each[: 40 * 4096] for each in contents))
    cuts = data.draw(st.lists(st.integers(1, len(stream) - 1), max_size=20))
    given_images = [kit.indexed(each) for each in contents]
    frames, encoder = kit.encoded(kit.pieces(stream, cuts), layers, flush=flush, images=given_images)
    assert encoder.layers["image"].pages > 0
    # The decoder may know more images, and have them in another order.
    known = [kit.MemoryImage(each) for each in [content(1), *reversed(contents)]]
    assert kit.decoded(frames, images=known) == stream


@given(seed=st.integers(0, 2**32), at=st.integers(0, 40 * 4096 - 1), cut=st.booleans())
@settings(max_examples=60, deadline=None)
def test_an_image_that_changed_under_its_name_never_gives_wrong_bytes(seed: int, at: int, cut: bool) -> None:
    image = content(seed)
    changed = image[:at] if cut else image[:at] + bytes([image[at] ^ 1]) + image[at + 1 :]
    stream = kit.guest_stream(seed, image=image[: 40 * 4096])
    frames, _ = kit.encoded([stream], images=[kit.indexed(image)])
    with contextlib.suppress(StreamCorrupt):
        assert kit.decoded(frames, images=[kit.MemoryImage(changed, named=image)]) == stream


def test_a_block_that_was_referred_to_and_changed_is_noticed() -> None:
    image = content(3)
    changed = bytes(byte ^ 1 for byte in image)
    frames, _ = kit.encoded([kit.guest_stream(3, image=image[: 40 * 4096])], images=[kit.indexed(image)])
    with pytest.raises(StreamCorrupt, match="differs"):
        kit.decoded(frames, images=[kit.MemoryImage(changed, named=image)])
    with pytest.raises(StreamCorrupt, match="shorter"):
        kit.decoded(frames, images=[kit.MemoryImage(b"", named=image)])
    with pytest.raises(StreamCorrupt, match="not offer"):
        kit.decoded(frames, images=[kit.MemoryImage(changed)])


def test_pages_of_the_image_cost_almost_nothing_and_leave_the_ring_to_others() -> None:
    image = np.random.default_rng(1).integers(0, 256, 500 * 4096, np.uint8).tobytes()
    records = [kit.page(index << 12, image[index * 4096 :][:4096]) for index in range(1, 500)]
    start = kit.FILE_HEADER + kit.section(1, kit.block_list(("ram", 500 << 12)))
    stream = start + kit.section(2, kit.page(0, image[:4096], "ram") + b"".join(records) + kit.EOS)
    frames, encoder = kit.encoded([stream], images=[kit.indexed(image)])
    assert kit.decoded(frames, images=[kit.MemoryImage(image)]) == stream
    assert encoder.layers["image"].pages == 500
    assert len(frames) < 6000
    assert encoder.memory_bytes - kit.encoded([], images=[kit.indexed(image)])[1].memory_bytes == 0


def test_every_block_is_found_and_nothing_else() -> None:
    blocks = np.frombuffer(content(9, 300), np.uint64, count=300 * 512).reshape(-1, 512)
    index = BlockIndex.of(blocks)
    for block in range(300):
        page = blocks[block].copy()
        hashed = np.uint64(page_hash(page))
        found = find_block(page, hashed, index)
        assert (found == NO_BLOCK) if not page.any() else (blocks[found] == page).all()
        page[7] ^= np.uint64(1)
        assert find_block(page, np.uint64(page_hash(page)), index) == NO_BLOCK
        # The same hash, another content.
        assert find_block(page, hashed, index) == NO_BLOCK


# -- files --------------------------------------------------------------------------------------------------------


def test_the_same_image_on_both_sides_is_agreed_on(tmp_path: Path) -> None:
    path = tmp_path / "root.raw"
    path.write_bytes(content(1))
    (target,) = ImageLibrary(tmp_path / "target").open([str(path)], PATIENCE_S)
    (source,) = ImageLibrary(tmp_path / "source").agree([target.known], PATIENCE_S)
    assert source.name == target.name
    assert target.name.digest == blake3.blake3(content(1)).digest()
    stream = kit.guest_stream(1, image=content(1)[: 40 * 4096])
    frames, encoder = kit.encoded([stream], images=[source])
    assert encoder.layers["image"].pages > 0
    assert kit.decoded(frames, images=[target]) == stream
    os.truncate(path, 4096)
    with pytest.raises(StreamCorrupt, match="shorter"):
        kit.decoded(frames, images=[target])
    target.close()


def test_images_that_differ_are_not_used(tmp_path: Path, library: ImageLibrary) -> None:
    path = tmp_path / "root.raw"
    path.write_bytes(content(1))
    (opened,) = library.open([str(path)], PATIENCE_S)
    opened.close()
    replaced = msgspec.structs.replace
    assert library.agree([replaced(opened.known, digest="00" * 32)], PATIENCE_S) == []
    assert library.agree([replaced(opened.known, digest="nonsense")], PATIENCE_S) == []
    assert library.agree([replaced(opened.known, blocks=39)], PATIENCE_S) == []
    assert library.agree([replaced(opened.known, path=str(tmp_path / "absent"))], PATIENCE_S) == []
    assert len(library.agree([opened.known, opened.known], PATIENCE_S)) == 1
    path.write_bytes(content(2))
    assert library.agree([opened.known], PATIENCE_S) == []


def test_what_is_no_image_is_left_alone(tmp_path: Path, library: ImageLibrary, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "small").write_bytes(bytes(4095))
    (tmp_path / "image").write_bytes(content(1))
    (tmp_path / "link").symlink_to(tmp_path / "image")
    os.mkfifo(tmp_path / "fifo")
    monkeypatch.chdir(tmp_path)
    paths = [str(tmp_path / name) for name in ("small", "link", "fifo", "absent", "")]
    assert library.open([*paths, "image", "/dev/zero", "/bad\0name"], PATIENCE_S) == []
    monkeypatch.setattr(images, "IMAGE_MAX_BYTES", 4096)
    assert library.open([str(tmp_path / "image")], PATIENCE_S) == []


def test_a_digest_is_remembered_until_the_file_changes(
    tmp_path: Path, library: ImageLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "root.raw"
    path.write_bytes(content(1))
    reads: list[str] = []
    read = ImageLibrary._read

    def counted(self: ImageLibrary, state: images.FileState) -> images.Digest | None:
        reads.append(state.path)
        return read(self, state)

    monkeypatch.setattr(ImageLibrary, "_read", counted)

    def digest(by: ImageLibrary) -> str:
        (image,) = by.open([str(path)], PATIENCE_S)
        image.close()
        return image.known.digest

    first = digest(library)
    assert (digest(library), digest(ImageLibrary(tmp_path)), len(reads)) == (first, first, 1)
    times = path.stat()
    path.write_bytes(content(2))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert digest(library) == blake3.blake3(content(2)).hexdigest()
    assert len(msgspec.json.decode((tmp_path / DIGESTS_FILE).read_bytes())) == 1
    (tmp_path / DIGESTS_FILE).write_bytes(b"no digests at all")
    assert digest(library) == blake3.blake3(content(2)).hexdigest()


def test_a_move_does_not_wait_for_a_slow_image_and_the_next_one_has_it(
    tmp_path: Path, library: ImageLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "root.raw"
    path.write_bytes(content(1))
    goes_on = threading.Event()
    read = ImageLibrary._read

    def slow(self: ImageLibrary, state: images.FileState) -> images.Digest | None:
        assert goes_on.wait(PATIENCE_S)
        return read(self, state)

    monkeypatch.setattr(ImageLibrary, "_read", slow)
    assert library.open([str(path)], 0.01) == []
    goes_on.set()
    (image,) = library.open([str(path)], PATIENCE_S)
    image.close()
