"""Disk images as files: read, identified by their whole content, indexed. What is slow is done once and remembered."""

import mmap
import os
import stat
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import blake3
import msgspec
import numpy as np
import structlog

from actors.encoding.blocks import BlockIndex
from actors.encoding.encoder import IndexedImage
from actors.encoding.format import IMAGES_MAX, ImageName
from actors.encoding.kernel import PAGE_BYTES, PAGE_WORDS
from actors.encoding.messages import KnownImage
from actors.files import write_atomically

log = structlog.get_logger()

DIGESTS_FILE = "image-digests.json"
"""The remembered digests' file in the node's state directory."""
DIGESTS_MAX = 64
INDEXES_MAX = 4
# An index keeps its file open. Larger images are left alone: 8 GiB take 16 to 32 MiB of index, and seconds to read.
IMAGE_MAX_BYTES = 8 << 30
READ_BYTES = 1 << 20
_Made = TypeVar("_Made")


class FileState(msgspec.Struct, frozen=True):
    """What a file's content can't change without."""

    path: str
    device: int
    inode: int
    size: int
    modified_ns: int
    changed_ns: int

    @classmethod
    def of(cls, path: str, descriptor: int) -> "FileState":
        """The open file's."""
        now = os.fstat(descriptor)
        return cls(path, now.st_dev, now.st_ino, now.st_size, now.st_mtime_ns, now.st_ctime_ns)


class Digest(msgspec.Struct, frozen=True):
    """A file's blake3, and the state in which the file had it."""

    state: FileState
    blake3: str


class OpenImage:
    """An image opened for reading: what the decoder reads blocks from. Close it."""

    def __init__(self, path: str, descriptor: int, name: ImageName) -> None:
        self.path = path
        self.name = name
        self._descriptor = descriptor

    def read(self, block: int, into: memoryview) -> bool:
        """See `BlockReader`. Reads rather than maps: a file that shrinks under a map would end the process."""
        return os.preadv(self._descriptor, [into], block * PAGE_BYTES) == len(into)

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._descriptor)

    @property
    def known(self) -> KnownImage:
        """What the other side is told."""
        return KnownImage(path=self.path, digest=self.name.digest.hex(), blocks=self.name.blocks)


class ImageLibrary:
    """The images of one actor. Whatever can't be used is left out: a move goes on without it.

    Args:
        state_dir: where digests are remembered; shared with the node's other actors.
    """

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / DIGESTS_FILE
        # One worker: what a move did not wait for goes on in the background, one image at a time, for the next move.
        self._worker = ThreadPoolExecutor(1, "images")
        self._lock = threading.Lock()
        self._running: dict[object, Future[object]] = {}
        self._indexes: OrderedDict[FileState, BlockIndex] = OrderedDict()

    def open(self, paths: Iterable[str], patience_s: float) -> list[OpenImage]:
        """Open those of `paths` that are images here, `IMAGES_MAX` at most. Blocks for about `patience_s` in all."""
        return self._open_all(paths, time.monotonic() + patience_s)

    def agree(self, offered: Iterable[KnownImage], patience_s: float) -> list[IndexedImage]:
        """Index those of the images that the other side offers whose content is the same here. Blocks as `open`."""
        until_s = time.monotonic() + patience_s
        agreed: list[IndexedImage] = []
        for theirs in offered:
            for image in self._open_all([theirs.path], until_s):
                try:
                    if image.known != theirs:
                        log.info("image differs at the target", path=theirs.path)
                    elif len(agreed) < IMAGES_MAX and all(each.name != image.name for each in agreed):
                        agreed += self._index(image, until_s)
                finally:
                    image.close()
        log.info("images agreed", blocks=[image.name.blocks for image in agreed])
        return agreed

    def _open_all(self, paths: Iterable[str], until_s: float) -> list[OpenImage]:
        opened: list[OpenImage] = []
        for path in paths:
            if len(opened) == IMAGES_MAX:
                break
            image = self._open_one(path, until_s)
            if image is not None and any(each.name == image.name for each in opened):
                image.close()
            elif image is not None:
                opened.append(image)
        return opened

    def _open_one(self, path: str, until_s: float) -> OpenImage | None:
        descriptor = open_regular(path)
        if descriptor is None:
            return None
        name: ImageName | None = None
        try:
            state = FileState.of(path, descriptor)
            if PAGE_BYTES <= state.size <= IMAGE_MAX_BYTES:
                digest = self._remembered(state) or self._in_time(state, lambda: self._read(state), until_s)
                if digest is not None and FileState.of(path, descriptor) == digest.state:
                    name = ImageName(bytes.fromhex(digest.blake3), state.size // PAGE_BYTES)
        finally:
            if name is None:
                os.close(descriptor)
        return OpenImage(path, descriptor, name) if name else None

    # -- digests --------------------------------------------------------------------------------------------------

    def _digests(self) -> list[Digest]:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=list[Digest])
        except (OSError, msgspec.DecodeError):
            return []

    def _remembered(self, state: FileState) -> Digest | None:
        return next((digest for digest in self._digests() if digest.state == state), None)

    def _read(self, state: FileState) -> Digest | None:
        """Read a whole file and remember its digest; None when it changed meanwhile."""
        descriptor = open_regular(state.path)
        if descriptor is None:
            return None
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            sum_ = blake3.blake3()
            buffer = bytearray(READ_BYTES)
            while size := file.readinto(buffer):
                sum_.update(memoryview(buffer)[:size])
            if FileState.of(state.path, descriptor) != state:
                return None
        digest = Digest(state, sum_.hexdigest())
        others = [each for each in self._digests() if each.state.path != state.path]
        try:
            write_atomically(self._path, msgspec.json.encode([*others[1 - DIGESTS_MAX :], digest]))
        except OSError as error:
            log.warning("image digest not remembered", path=state.path, reason=str(error))
        return digest

    # -- indexes --------------------------------------------------------------------------------------------------

    def _index(self, image: OpenImage, until_s: float) -> list[IndexedImage]:
        descriptor = open_regular(image.path)
        if descriptor is None:
            return []
        try:
            state = FileState.of(image.path, descriptor)
        finally:
            os.close(descriptor)
        with self._lock:
            index = self._indexes.get(state)
        if index is None:
            index = self._in_time(("index", state), lambda: self._build(state), until_s)
        if index is None or len(index.blocks) != image.name.blocks:
            return []
        self._keep(state, index)
        return [IndexedImage(image.name, index)]

    def _build(self, state: FileState) -> BlockIndex | None:
        descriptor = open_regular(state.path)
        if descriptor is None:
            return None
        try:
            if FileState.of(state.path, descriptor) != state:
                return None
            # Mapped: the pages are the page cache's own. Whoever truncates the image of a running guest ends this
            # actor (as QEMU's reads of the guest's disk fail); its moves are then rolled back.
            content = mmap.mmap(descriptor, state.size, access=mmap.ACCESS_READ)
        finally:
            os.close(descriptor)
        index = index_of(content)
        self._keep(state, index)
        return index

    def _keep(self, state: FileState, index: BlockIndex) -> None:
        with self._lock:
            self._indexes[state] = index
            self._indexes.move_to_end(state)
            while len(self._indexes) > INDEXES_MAX:
                self._indexes.popitem(last=False)

    def _in_time(self, what: object, work: Callable[[], _Made | None], until_s: float) -> _Made | None:
        """The result of `work`, done in the background once however many wait for it; None when it takes too long."""
        with self._lock:
            running = self._running.get(what)
            if running is None:
                running = self._running[what] = self._worker.submit(work)
                running.add_done_callback(lambda _: self._running.pop(what, None))
        try:
            return running.result(max(0.0, until_s - time.monotonic()))  # type: ignore[return-value]
        except OSError as error:  # also the TimeoutError
            log.info("image not used", image=str(what), reason=str(error) or "not read in time")
            return None


def index_of(content: "mmap.mmap | bytes") -> BlockIndex:
    """The index of an image's content; a last block that is not whole is left out."""
    blocks = np.frombuffer(content, np.uint64, count=len(content) // PAGE_BYTES * PAGE_WORDS)
    return BlockIndex.of(blocks.reshape(-1, PAGE_WORDS))


def open_regular(path: str) -> int | None:
    """A descriptor for reading the regular file at the absolute `path`; None when there is none."""
    if not Path(path).is_absolute():
        return None
    try:
        # Not blocking: a FIFO under that name must not hold up anything.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except (OSError, ValueError):  # ValueError: a zero byte in the name
        return None
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    return None
