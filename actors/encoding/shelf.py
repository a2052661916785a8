"""The decoder's blocks in one job: the store's and those of files in place, numbered through, checked on every read."""

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from actors.encoding.find import PRINT_MASK
from actors.encoding.format import WANTS_FILES, WANTS_STORE, Opening
from actors.encoding.kernel import PAGE_WORDS, Bytes, Ints, Words
from actors.encoding.keyed import DIGEST_WORDS, digest_pages, key_words, sip128
from actors.encoding.reverse import BLOCKS_MAX, SOURCES_MAX, Message, Ready, Source, Sources, cut_prints
from actors.errors import StreamCorrupt


class Blocks(Protocol):
    """A source of blocks. What it says of them may be out of date: every block is checked by who reads it."""

    @property
    def source(self) -> bytes:
        """16 bytes that tell it apart from every other one, wherever."""
        ...

    def prints(self) -> tuple[int, Words, Words]:
        """(generation, each block's print or 0, the generation of each block's last change) as they are now."""
        ...

    def read(self, blocks: Ints, places: Ints, pages: Bytes) -> None:
        """Read `blocks` to their `places` in `pages`; zeros where one is not there."""
        ...

    def use(self, blocks: Words) -> None:
        """These blocks were of use."""
        ...

    def spoilt(self, block: int, digest: Words) -> None:
        """What was read of `block`, with this digest, was not what was told of it."""
        ...


class Shelf:
    """The blocks that one job may refer to.

    Args:
        key: of the digests, 16 bytes.
        store: the node's store; None: it has none.
        files: files in place.
    """

    def __init__(self, key: bytes, store: Blocks | None = None, files: Sequence[Blocks] = ()) -> None:
        self._key_bytes = key
        self._key = key_words(key)
        self._store = store
        self._files = files
        self._sources: list[tuple[int, int, Blocks]] = []
        # What was told: a block that has become another one since is missing, whatever its source says of it now.
        self._told = np.empty(0, np.uint64)

    @property
    def memory_bytes(self) -> int:
        """Memory in use."""
        return self._told.nbytes

    def tell(self, opening: Opening) -> Iterator[Message]:
        """What the encoder is told first: the sources that it wants, and of their prints what it does not know."""
        wanted = [self._store] if self._store is not None and opening.wants & WANTS_STORE else []
        wanted += self._files if opening.wants & WANTS_FILES else []
        known = {each.source: each.generation for each in opening.known}
        listed: list[Source] = []
        told: list[Words] = []
        changed: list[npt.NDArray[np.bool_]] = []
        first = 0
        for blocks in wanted[:SOURCES_MAX]:
            generation, prints, changes = blocks.prints()
            prints, changes = prints[: BLOCKS_MAX - first], changes[: BLOCKS_MAX - first]
            if len(prints) == 0 or any(source.source == blocks.source for source in listed):
                continue
            listed.append(Source(blocks.source, generation, first, len(prints)))
            self._sources.append((first, first + len(prints), blocks))
            told.append(prints)
            changed.append(changes > np.uint64(known.get(blocks.source, 0)))
            first += len(prints)
        self._told = np.concatenate([self._told, *told])
        yield Sources(self._key_bytes, tuple(listed))
        for source, prints, marks in zip(listed, told, changed, strict=True):
            yield from cut_prints(prints, source.first, marks)
        yield Ready()

    def fetch(self, numbers: Ints, pages: Bytes, digests: Words) -> Ints:
        """Read the blocks with `numbers` into `pages` and their digests into `digests`; the places of missing ones.

        Raises:
            StreamCorrupt: there is no such number.
        """
        if len(numbers) and int(numbers.max()) >= len(self._told):
            raise StreamCorrupt(reason="a batch refers to a block that was never told of")
        for first, end, blocks in self._sources:
            ours = np.flatnonzero((numbers >= first) & (numbers < end))
            # No block is told of by the print of zeros: what can't be read is missing.
            blocks.read(numbers[ours] - first, ours, pages)
        digest_pages(pages.view(np.uint64).reshape(-1, PAGE_WORDS), self._key, digests)
        told = self._told[numbers]
        missing: Ints = np.flatnonzero((digests[:, 0] & PRINT_MASK != told) | (told == 0))
        self._account(numbers, missing, digests)
        return missing

    def check(self, digests: Words) -> bytes:
        """The keyed hash of `digests` (n × 2): equal to the sender's only if every block is the one that it means."""
        out = np.empty(DIGEST_WORDS, np.uint64)
        sip128(digests.reshape(-1), self._key, out)
        return out.tobytes()

    def digest(self, pages: Bytes, digests: Words) -> None:
        """Digest `pages` into `digests`."""
        digest_pages(pages.view(np.uint64).reshape(-1, PAGE_WORDS), self._key, digests)

    def _account(self, numbers: Ints, missing: Ints, digests: Words) -> None:
        there = np.delete(numbers, missing)
        for first, end, blocks in self._sources:
            blocks.use((there[(there >= first) & (there < end)] - first).astype(np.uint64))
            for place in missing:
                if first <= numbers[place] < end:
                    blocks.spoilt(int(numbers[place]) - first, digests[place])
