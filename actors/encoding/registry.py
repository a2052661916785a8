"""What the operator registered on one node: raw images are used in place, everything else is copied into the store."""

import subprocess
import tempfile
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import numpy as np
import structlog

from actors.encoding import unpack
from actors.encoding.files import FileLibrary
from actors.encoding.kernel import PAGE_WORDS
from actors.encoding.messages import StoreImage
from actors.encoding.slots import WORTH_WANTED
from actors.encoding.store import Store
from actors.errors import BadRequest, Conflict, Failed, NotFound, NovaCronError
from actors.files import write_atomically

log = structlog.get_logger()

REGISTRY_FILE = "store-images.json"
IMAGES_MAX = 24
READ_S = 3600.0
CONVERT_S = 3600.0
BATCH_PAGES = 256


class Registry:
    """The images of one node. Reading goes on in the background, one image at a time.

    Args:
        state_dir: the node's; holds the list.
        library: files in place.
        store: the node's store, None if it has none.
    """

    def __init__(self, state_dir: Path, library: FileLibrary, store: Store | None) -> None:
        self._state_dir = state_dir
        self._library = library
        self._store = store
        self._lock = threading.Lock()
        self._worker = ThreadPoolExecutor(1, "registry")
        self._images = {image.path: image for image in self._load()}
        for image in self._images.values():
            if image.state == "reading":
                self._worker.submit(self._read, image)

    def images(self) -> list[StoreImage]:
        """Everything registered."""
        with self._lock:
            return list(self._images.values())

    def in_place(self) -> list[str]:
        """The files whose blocks a move may refer to."""
        return [image.path for image in self.images() if image.kind == "raw" and image.state == "ready"]

    def add(self, path: str) -> None:
        """Register the image, folder or initramfs at `path`, or read it anew.

        Raises:
            BadRequest: it can't be used.
            Conflict: too many are registered, or it is being read.
        """
        if not Path(path).is_absolute():
            raise BadRequest(detail=f"an image is named by an absolute path on the node, not {path!r}")
        kind = unpack.kind_of(Path(path))
        if kind != "raw" and (self._store is None or not self._store.slots):
            raise BadRequest(detail=f"{path} ({kind}) would be copied into the store, which is off: encoding.store_mib")
        image = StoreImage(path=path, kind=kind, state="reading")
        with self._lock:
            known = self._images.get(path)
            if known is not None and known.state == "reading":
                raise Conflict(detail=f"{path} is being read; `novacron store list` shows when it is ready")
            if known is None and len(self._images) >= IMAGES_MAX:
                raise Conflict(detail=f"{IMAGES_MAX} images are registered; remove one first")
        self._set(image)
        self._worker.submit(self._read, image)

    def remove(self, path: str) -> None:
        """Forget an image. Blocks that were copied stay until others take their place.

        Raises:
            NotFound: it is not registered.
        """
        with self._lock:
            if self._images.pop(path, None) is None:
                raise NotFound(what=f"image {path} among those registered here")
            self._save()

    def clear(self) -> None:
        """Forget all blocks of the store and every image that was copied into it."""
        if self._store is not None:
            self._store.clear()
        with self._lock:
            self._images = {path: image for path, image in self._images.items() if image.kind == "raw"}
            self._save()

    def _read(self, image: StoreImage) -> None:
        try:
            blocks = self._blocks_in_place(image.path) if image.kind == "raw" else self._copy(image)
            ended = msgspec.structs.replace(image, state="ready", blocks=blocks)
        except (OSError, subprocess.SubprocessError, NovaCronError) as error:
            ended = msgspec.structs.replace(image, state="failed", reason=str(error))
        except Exception as error:
            log.exception("image not read", path=image.path)
            ended = msgspec.structs.replace(image, state="failed", reason=repr(error))
        log.info("image read", **msgspec.to_builtins(ended))
        with self._lock:
            still = self._images.get(image.path) == image
        if still:
            self._set(ended)

    def _blocks_in_place(self, path: str) -> int:
        opened = self._library.open([path], READ_S)
        if not opened:
            raise Failed(detail="it is not a regular file of 4 KiB to 8 GiB, or it changed while it was read")
        for file in opened:
            file.close()
        return int(np.count_nonzero(opened[0].prints()[1]))

    def _copy(self, image: StoreImage) -> int:
        path = Path(image.path)
        if image.kind == "folder":
            return self._keep(unpack.folder_blocks(path))
        if image.kind == "initramfs":
            return self._keep(unpack.initramfs_blocks(path))
        with tempfile.TemporaryDirectory(dir=self._state_dir, prefix="store-") as folder:
            raw = Path(folder, "raw")
            command = ["qemu-img", "convert", "-O", "raw", "-f", "qcow2", "--", str(path), str(raw)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=CONVERT_S, check=False)
            if done.returncode:
                raise Failed(detail=f"qemu-img: {done.stderr.strip()}")
            with raw.open("rb") as file:
                return self._keep(unpack.file_blocks(file))

    def _keep(self, pieces: Iterable[bytes]) -> int:
        """Copy blocks that are not all zeros into the store, not more than it has room for; how many there are now."""
        assert self._store is not None, "checked when it was registered"
        kept = 0
        for pages in _batches(pieces):
            kept += len(pages)
            if kept > self._store.slots:
                raise Failed(detail=f"it has more blocks than the store ({self._store.slots}): encoding.store_mib")
            self._store.add(pages, worth=WORTH_WANTED)
        return kept

    # -- the list -------------------------------------------------------------------------------------------------

    def _load(self) -> list[StoreImage]:
        try:
            return msgspec.json.decode((self._state_dir / REGISTRY_FILE).read_bytes(), type=list[StoreImage])
        except FileNotFoundError:
            return []
        except (OSError, msgspec.DecodeError) as error:
            log.warning("the list of registered images can't be read", reason=str(error))
            return []

    def _set(self, image: StoreImage) -> None:
        with self._lock:
            self._images[image.path] = image
            self._save()

    def _save(self) -> None:
        write_atomically(self._state_dir / REGISTRY_FILE, msgspec.json.encode(list(self._images.values())))


def _batches(pieces: Iterable[bytes]) -> Iterator[np.ndarray[tuple[int, int], np.dtype[np.uint64]]]:
    """The blocks of `pieces` that are not all zeros, `BATCH_PAGES` at a time."""
    waiting: list[np.ndarray[tuple[int, int], np.dtype[np.uint64]]] = []
    for piece in pieces:
        pages = np.frombuffer(piece, np.uint64).reshape(-1, PAGE_WORDS)
        waiting.append(pages[pages.any(axis=1)])
        if sum(map(len, waiting)) >= BATCH_PAGES:
            yield np.concatenate(waiting)
            waiting = []
    if waiting:
        yield np.concatenate(waiting)
