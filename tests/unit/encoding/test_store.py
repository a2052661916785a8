"""The content store: bounded, kept over restarts, shared, evicting by worth, and never believed."""

import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.encoding import slots as tables
from actors.encoding.encoder import Settings
from actors.encoding.far import Acquaintances
from actors.encoding.format import WANTS_STORE, Known, Opening
from actors.encoding.kernel import Words
from actors.encoding.reverse import Prints, Sources
from actors.encoding.shelf import Shelf
from actors.encoding.store import BLOCKS_FILE, TABLE_FILE, Store
from tests.unit.encoding import kit


def pages_of(first: int, count: int) -> Words:
    """`count` different pages, the same for the same numbers."""
    return np.stack([np.full(512, number, np.uint64) for number in range(first + 1, first + count + 1)])


def content(store: Store) -> set[int]:
    """The numbers of the pages that a store holds, each read and checked against its print."""
    shelf = Shelf(store.key, store)
    list(shelf.tell(Opening(0, 1 << 20, WANTS_STORE)))
    _, prints, _ = store.prints()
    numbers = np.flatnonzero(prints)
    room = np.empty(len(numbers) * 4096, np.uint8)
    missing = shelf.fetch(numbers, room, np.empty((len(numbers), 2), np.uint64))
    there = np.delete(room.view(np.uint64).reshape(-1, 512), missing, axis=0)
    return {int(number) - 1 for number in there[:, 0]}


def test_what_was_added_is_there_after_a_restart(tmp_path: Path) -> None:
    store = Store(tmp_path, 1)
    assert store.add(pages_of(0, 100)) == 100
    assert store.add(pages_of(50, 100)) == 50
    key, source = store.key, store.source
    store.close()
    again = Store(tmp_path, 1)
    assert (again.key, again.source) == (key, source)
    assert content(again) == set(range(150))
    assert again.counts().blocks == 150


def test_two_processes_share_it(tmp_path: Path) -> None:
    one, other = Store(tmp_path, 1), Store(tmp_path, 1)
    one.add(pages_of(0, 10))
    other.add(pages_of(5, 10))
    assert content(one) == content(other) == set(range(15))
    assert one.generation == 15


def test_it_is_bounded_and_what_was_of_use_stays(tmp_path: Path) -> None:
    store = Store(tmp_path, 1)
    store.add(pages_of(0, 256))
    store.use(np.arange(40, dtype=np.uint64))
    store.add(pages_of(1000, 200))
    held = content(store)
    assert len(held) == 256
    assert set(range(40)) | set(range(1000, 1200)) <= held
    assert store.counts().evicted == 200
    assert (tmp_path / BLOCKS_FILE).stat().st_size <= 1 << 20


def test_what_an_operator_wanted_outlives_what_passes(tmp_path: Path) -> None:
    store = Store(tmp_path, 1)
    store.add(pages_of(0, 100), worth=tables.WORTH_WANTED)
    for first in range(1000, 1400, 100):
        store.add(pages_of(first, 100))
    assert set(range(100)) <= content(store)


def test_without_eviction_only_free_room_is_used(tmp_path: Path) -> None:
    store = Store(tmp_path, 1)
    store.add(pages_of(0, 250))
    assert store.add(pages_of(500, 20), evicts=False) == 6
    assert set(range(250)) <= content(store)


def test_a_store_of_another_size_is_emptied(tmp_path: Path) -> None:
    store = Store(tmp_path, 1)
    store.add(pages_of(0, 10))
    other = Store(tmp_path, 2)
    assert content(other) == set()
    other.add(pages_of(100, 300))
    # Who still has the old one open finds nothing wrong, and harms nothing.
    store.add(pages_of(20, 10))
    assert content(store) <= set(range(30))
    assert content(other) <= set(range(100, 400))


def test_a_cleared_store_is_another_one(tmp_path: Path) -> None:
    store = Store(tmp_path, 1)
    store.add(pages_of(0, 10))
    key, source = store.key, store.source
    store.clear()
    assert (store.key, store.source == source, content(store)) == (key, False, set())


def test_a_spoilt_block_is_found_out_and_goes(tmp_path: Path) -> None:
    store = Store(tmp_path, 1)
    store.add(pages_of(0, 10))
    blocks = bytearray((tmp_path / BLOCKS_FILE).read_bytes())
    blocks[3 * 4096 + 77] ^= 1
    (tmp_path / BLOCKS_FILE).write_bytes(blocks)
    assert content(store) == set(range(10)) - {3}
    assert store.counts().dropped == 1
    assert store.add(pages_of(3, 1)) == 1
    assert content(store) == set(range(10))


_ADDS_FOR_EVER = """
import sys
from pathlib import Path
from actors.encoding.store import Store
from tests.unit.encoding.test_store import pages_of
store = Store(Path(sys.argv[1]), 1)
print("ready", flush=True)
first = 10_000
while True:
    store.add(pages_of(first, 64))
    first += 64
"""


def test_a_process_that_is_killed_while_it_adds_leaves_a_sound_store(tmp_path: Path) -> None:
    store = Store(tmp_path, 1)
    for _ in range(3):
        adding = subprocess.Popen(
            [sys.executable, "-c", _ADDS_FOR_EVER, str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        try:
            assert adding.stdout is not None
            assert adding.stdout.readline() == "ready\n"
            before = store.generation
            while store.generation < before + 1000:
                store.add(pages_of(0, 8))
        finally:
            adding.kill()
            adding.communicate()
        assert all(number < 8 or number >= 10_000 for number in content(store))
        store.clear()
        assert store.add(pages_of(500, 30)) == 30
        assert content(store) == set(range(500, 530))
        store.clear()


@given(st.lists(st.tuples(st.integers(0, 600), st.integers(1, 40)), max_size=30), st.integers(0, 4096 * 40), st.data())
@settings(max_examples=25, deadline=None)
def test_torn_files_never_give_a_wrong_block(
    tmp_path_factory: pytest.TempPathFactory, adds: list[tuple[int, int]], cut: int, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("store")
    store = Store(folder, 1)
    added: set[int] = set()
    for first, count in adds:
        store.add(pages_of(first, count))
        added |= set(range(first, first + count))
    store.close()
    blocks = (folder / BLOCKS_FILE).read_bytes()
    (folder / BLOCKS_FILE).write_bytes(blocks[:cut])
    table = bytearray((folder / TABLE_FILE).read_bytes())
    # Beyond the words that say what file it is.
    for at in data.draw(st.lists(st.integers(48, len(table) - 1), max_size=20)):
        table[at] ^= 1 << data.draw(st.integers(0, 7))
    (folder / TABLE_FILE).write_bytes(table)
    again = Store(folder, 1)
    assert content(again) <= added
    again.add(pages_of(2000, 300))
    assert content(again) <= added | set(range(2000, 2300))


# -- in a move ---------------------------------------------------------------------------------------------------------

PAGES = [random.Random(number).randbytes(4096) for number in range(200)]


def stream_of(numbers: list[int]) -> list[bytes]:
    """A stream of these pages, in four parts."""
    records = [kit.page(place << 12, PAGES[number]) for place, number in enumerate(numbers)]
    start = kit.FILE_HEADER + kit.section(1, kit.block_list(("ram", len(numbers) << 12)))
    parts = [records[at : at + 50] for at in range(0, len(records), 50)]
    first = start + kit.section(2, b"")[:5] + kit.page(500 << 12, bytes(range(256)) * 16, "ram")
    return [first, *(b"".join(part) for part in parts)]


def filled(folder: Path) -> Store:
    store = Store(folder, 1)
    store.add(np.frombuffer(b"".join(PAGES), np.uint64).reshape(-1, 512))
    return store


def test_a_guest_that_was_here_costs_next_to_nothing(tmp_path: Path) -> None:
    store = filled(tmp_path)
    parts = stream_of(list(range(200)))
    out, encoder, _ = kit.moved(parts, Shelf(store.key, store))
    assert out == b"".join(parts)
    assert encoder.layers["store"].pages == 200
    assert encoder.missed == 0
    assert encoder.wire_bytes < 200 * 10 + 3000
    assert store.counts().hits == 200


def test_pages_that_went_since_are_asked_for(tmp_path: Path) -> None:
    store = filled(tmp_path)
    parts = stream_of(list(range(200)))
    shelf = Shelf(store.key, store)

    def spoil() -> None:
        with (tmp_path / BLOCKS_FILE).open("r+b") as blocks:
            for number in range(50, 60):
                blocks.seek(number * 4096)
                blocks.write(b"spoilt")

    out, encoder, _ = kit.moved(parts, shelf, damage=(2, spoil))
    assert out == b"".join(parts)
    assert encoder.missed == 10
    assert store.counts().dropped == 10


@pytest.mark.parametrize("how", ["cleared", "replaced", "truncated"])
def test_a_store_that_is_gone_costs_no_guest(tmp_path: Path, how: str) -> None:
    store = filled(tmp_path)
    parts = stream_of([number % 200 for number in range(600)])
    shelf = Shelf(store.key, store)
    gone = {
        "cleared": store.clear,
        "replaced": lambda: store.add(pages_of(5000, 256)),
        "truncated": lambda: (tmp_path / BLOCKS_FILE).write_bytes(b""),
    }[how]
    out, encoder, _ = kit.moved(parts, shelf, damage=(2, gone))
    assert out == b"".join(parts)
    assert encoder.missed > 0
    # After a few batches it is no longer believed.
    assert encoder.missed < 400


def test_only_news_is_told(tmp_path: Path) -> None:
    store = filled(tmp_path)
    acquaintances = Acquaintances()
    for _ in range(2):
        _out, encoder, _ = kit.moved(stream_of(list(range(200))), Shelf(store.key, store), acquaintances=acquaintances)
        assert encoder.layers["store"].pages == 200
    store.add(pages_of(900, 3))
    (known,) = acquaintances.known()
    generation, _ = acquaintances.known()[known]
    messages = list(Shelf(store.key, store).tell(Opening(0, 1 << 20, WANTS_STORE, (Known(known, generation),))))
    told = [message for message in messages if isinstance(message, Prints)]
    assert [(message.first, len(message.prints)) for message in told] == [(200, 3)]


def test_a_store_that_lies_is_found_out() -> None:
    # Every block is told of as another one than it is.
    content = b"".join(PAGES)
    shelf = Shelf(kit.KEY, None, [kit.MemoryBlocks(content[4096:] + content[:4096], told=content)])
    parts = stream_of(list(range(200)))
    out, encoder, _ = kit.moved(parts, shelf)
    assert out == b"".join(parts)
    assert encoder.missed > 0


def test_nothing_is_told_that_was_not_wished_for(tmp_path: Path) -> None:
    store = filled(tmp_path)
    off = Settings(store=False, dedupe_cache_mib=8, batch_bytes=65536)
    _out, encoder, _ = kit.moved(stream_of([1, 2, 3]), Shelf(store.key, store), off)
    assert encoder.layers["store"].pages == 0
    (sources, _) = Shelf(store.key, store).tell(Opening(0, 1 << 20))
    assert isinstance(sources, Sources)
    assert sources.sources == ()


MIXES = st.builds(
    Settings,
    zero=st.booleans(),
    dedupe=st.booleans(),
    delta=st.booleans(),
    zstd=st.booleans(),
    dedupe_cache_mib=st.just(8),
    batch_bytes=st.sampled_from([65536, 200_000]),
)


@given(seed=st.integers(0, 2**32), mix=MIXES, lost=st.sets(st.integers(0, 19)), size=st.integers(3000, 90_000))
@settings(max_examples=60, deadline=None)
def test_any_mix_of_layers_with_blocks_that_are_there_or_not(
    seed: int, mix: Settings, lost: set[int], size: int
) -> None:
    image = b"".join(PAGES[:20])
    now = b"".join(bytes(4096) if number in lost else PAGES[number] for number in range(20))
    blocks = kit.MemoryBlocks(now, told=image)
    stream = kit.guest_stream(seed, image=image)
    parts = kit.pieces(stream, range(0, len(stream), size))
    out, encoder, decoder = kit.moved(parts, Shelf(kit.KEY, None, [blocks]), mix)
    assert out == stream
    assert encoder.wire_bytes == decoder.wire_bytes
    assert set(blocks.lost) <= lost
