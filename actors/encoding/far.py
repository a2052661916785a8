"""What the encoder knows of the far side's blocks: told by the decoder, remembered from job to job."""

import threading
from collections import OrderedDict

import numpy as np

from actors.encoding.find import FarBlocks, Finds, add_prints, find_pages
from actors.encoding.format import KNOWN_MAX, Known
from actors.encoding.kernel import Bytes, Ints, Words
from actors.encoding.keyed import key_words
from actors.encoding.records import Records
from actors.encoding.reverse import BLOCKS_MAX, Prints, Source, Sources
from actors.errors import StreamCorrupt

# So many batches with blocks that were not there, and the encoder no longer believes what it was told.
MISSES_MAX = 4


class Acquaintances:
    """Prints of other nodes' sources, as they were last told; what was not used longest goes first."""

    def __init__(self, blocks_max: int = BLOCKS_MAX) -> None:
        self._lock = threading.Lock()
        self._blocks_max = blocks_max
        self._known: OrderedDict[bytes, tuple[int, Words]] = OrderedDict()

    def known(self) -> dict[bytes, tuple[int, Words]]:
        """Each source that is remembered, the newest `KNOWN_MAX`: its generation and its prints."""
        with self._lock:
            return dict(list(self._known.items())[-KNOWN_MAX:])

    def remember(self, source: Source, prints: Words) -> None:
        """Keep `prints` as those of `source`."""
        with self._lock:
            self._known.pop(source.source, None)
            self._known[source.source] = (source.generation, prints)
            while sum(len(prints) for _, prints in self._known.values()) > self._blocks_max:
                self._known.popitem(last=False)

    def forget(self, source: Source) -> None:
        """Forget `source`: it was not as it was told."""
        with self._lock:
            self._known.pop(source.source, None)


class FarStore:
    """The far side's blocks in one job. Told by one thread, searched by another.

    Args:
        acquaintances: memory that jobs share.
    """

    def __init__(self, acquaintances: Acquaintances) -> None:
        self._acquaintances = acquaintances
        # As they are when the job begins: the far side tells only what changed since.
        self._recalled = acquaintances.known()
        self._lock = threading.Lock()
        self._sources: Sources | None = None
        self._blocks = FarBlocks.of(0)
        self._key: Words = key_words(bytes(16))
        self._misses = 0
        self._on = False

    @property
    def known(self) -> tuple[Known, ...]:
        """What to tell the far side, so that it need not tell it again."""
        return tuple(Known(source, generation) for source, (generation, _) in self._recalled.items())

    @property
    def on(self) -> bool:
        """Whether anything can be found."""
        return self._on

    @property
    def key(self) -> Words:
        """The key of the far side's digests."""
        return self._key

    @property
    def memory_bytes(self) -> int:
        """Memory in use."""
        return self._blocks.prints.nbytes + self._blocks.table.nbytes

    def meet(self, sources: Sources) -> None:
        """The far side has named its sources.

        Raises:
            StreamCorrupt: it did so before.
        """
        if self._sources is not None:
            raise StreamCorrupt(reason="the sources came twice")
        self._sources = sources
        self._key = key_words(sources.key)
        total = sum(source.blocks for source in sources.sources)
        blocks = FarBlocks.of(total)
        for source in sources.sources:
            _, prints = self._recalled.get(source.source, (0, None))
            if prints is not None and len(prints) == source.blocks:
                blocks.prints[source.first : source.first + source.blocks] = prints
        with self._lock:
            self._blocks = blocks

    def learn(self, told: Prints) -> None:
        """Take note of prints.

        Raises:
            StreamCorrupt: they are of no source.
        """
        with self._lock:
            if told.first + len(told.prints) > len(self._blocks.prints):
                raise StreamCorrupt(reason="prints of blocks that no source has")
            self._blocks.prints[told.first : told.first + len(told.prints)] = told.prints
            if self._on:
                add_prints(told.prints, told.first, self._blocks)

    def ready(self) -> None:
        """All has been told: from now on pages are looked for, and the next job will know it."""
        if self._sources is None:
            raise StreamCorrupt(reason="prints are complete before the sources came")
        with self._lock:
            add_prints(self._blocks.prints.copy(), 0, self._blocks)
            for source in self._sources.sources:
                prints = self._blocks.prints[source.first : source.first + source.blocks]
                self._acquaintances.remember(source, prints.copy())
            self._on = bool(len(self._blocks.prints)) and self._misses < MISSES_MAX

    def find(self, buffer: Bytes, start: int, found: Records, numbers: Ints, finds: Finds) -> int:
        """See `find_pages`."""
        with self._lock:
            offsets = found.offsets[: found.count]
            return find_pages(buffer, start, offsets, found.kinds, self._blocks, self._key, numbers, finds)

    def miss(self, numbers: Ints) -> None:
        """These blocks are not there: no page is looked for among them again, nor in any after `MISSES_MAX` times."""
        with self._lock:
            self._blocks.prints[numbers] = np.uint64(0)
            self._misses += 1
            self._on = self._on and self._misses < MISSES_MAX
        if self._sources is not None:
            for source in self._sources.sources:
                if np.any((numbers >= source.first) & (numbers < source.first + source.blocks)):
                    self._acquaintances.forget(source)
