"""What goes through encoder and decoder comes out byte for byte; what was tampered with does not come out at all."""

import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.encoding.decoder import Decoder
from actors.encoding.encoder import Settings
from actors.errors import StreamCorrupt
from tests.unit.encoding import kit
from tests.unit.encoding.machines import RECIPES

LAYERS = st.builds(
    Settings,
    zero=st.booleans(),
    dedupe=st.booleans(),
    delta=st.booleans(),
    zstd=st.booleans(),
    dedupe_cache_mib=st.just(8),
    batch_bytes=st.sampled_from([65536, 100_000, 1 << 20]),
)


@pytest.mark.parametrize("name", RECIPES)
def test_recorded_streams_come_out_as_they_went_in(name: str, recorded: Callable[[str], bytes]) -> None:
    stream = recorded(name)
    frames, encoder = kit.encoded([stream])
    assert decoded_is(stream, frames)
    assert encoder.wire_bytes == len(frames) < len(stream)


@pytest.mark.parametrize("name", ["several-rounds", "xbzrle", "pc", "postcopy-advised"])
def test_recorded_streams_in_pieces(name: str, recorded: Callable[[str], bytes]) -> None:
    stream = recorded(name)
    for size in (997, 4104, 9 * 1000 + 1, 65536):
        for flush in (False, True):
            frames, _ = kit.encoded(kit.pieces(stream, range(0, len(stream), size)), flush=flush)
            assert decoded_is(stream, frames), f"pieces of {size}, flush {flush}"


@given(seed=st.integers(0, 2**32), layers=LAYERS, flush=st.booleans(), data=st.data())
@settings(max_examples=80, deadline=None)
def test_synthetic_streams(seed: int, layers: Settings, flush: bool, data: st.DataObject) -> None:
    stream = kit.guest_stream(seed)
    cuts = data.draw(st.lists(st.integers(1, len(stream) - 1), max_size=30))
    frames, _ = kit.encoded(kit.pieces(stream, cuts), layers, flush=flush)
    assert decoded_is(stream, frames)


@given(st.lists(st.binary(max_size=5000), max_size=5), LAYERS)
@settings(max_examples=40, deadline=None)
def test_any_bytes(parts: list[bytes], layers: Settings) -> None:
    frames, _ = kit.encoded(parts, layers)
    assert decoded_is(b"".join(parts), frames)


def test_a_ring_that_wraps_stays_alike_on_both_sides() -> None:
    # 8 MiB of ring, 24 MiB of different pages, then the newest and the oldest of them again, changed and not.
    def body(index: int) -> bytes:
        return index.to_bytes(8, "big") * 512

    records = [kit.page(index << 12, body(index)) for index in range(6144)]
    again = [kit.page(index << 12, body(index)[:-8] + b"changed!") for index in (*range(20), *range(6100, 6144))]
    same = [kit.page(index << 12, body(index)) for index in (*range(40, 60), *range(6050, 6090))]
    start = kit.FILE_HEADER + kit.section(1, kit.block_list(("ram", 6144 << 12)))
    stream = start + kit.section(2, kit.page(0, body(9), "ram") + b"".join(records + again + same) + kit.EOS)
    frames, encoder = kit.encoded([stream])
    assert decoded_is(stream, frames)
    assert encoder.layers["delta"].pages == 44
    assert encoder.layers["dedupe"].pages == 1 + 40


def test_a_page_sent_again_with_64_bytes_changed_costs_little() -> None:
    chance = random.Random(3)
    memory = [chance.randbytes(4096) for _ in range(500)]
    changed = [body[:256] + chance.randbytes(64) + body[320:] for body in memory]
    start = kit.FILE_HEADER + kit.section(1, kit.block_list(("ram", 501 << 12))) + kit.section(2, b"")[:5]
    first = start + kit.page(500 << 12, memory[0], "ram")
    first += b"".join(kit.page(index << 12, body) for index, body in enumerate(memory))
    second = b"".join(kit.page(index << 12, body) for index, body in enumerate(changed))
    _, alone = kit.encoded([first])
    frames, both = kit.encoded([first, second])
    assert decoded_is(first + second, frames)
    assert both.wire_bytes - alone.wire_bytes < 500 * 100


@given(seed=st.integers(0, 2**32), data=st.data())
@settings(max_examples=80, deadline=None)
def test_a_flipped_bit_is_always_noticed(seed: int, data: st.DataObject) -> None:
    stream = kit.guest_stream(seed, pages=8, rounds=2)
    frames = bytearray(kit.encoded(kit.pieces(stream, range(0, len(stream), 6000)), flush=True)[0])
    at = data.draw(st.integers(0, len(frames) - 1))
    frames[at] ^= 1 << data.draw(st.integers(0, 7))
    assert is_refused(stream, bytes(frames))


@given(seed=st.integers(0, 2**32), data=st.data())
@settings(max_examples=50, deadline=None)
def test_bytes_lost_repeated_or_moved_are_always_noticed(seed: int, data: st.DataObject) -> None:
    stream = kit.guest_stream(seed, pages=8, rounds=2)
    frames = kit.encoded(kit.pieces(stream, range(0, len(stream), 6000)), flush=True)[0]
    a, b, c = sorted(data.draw(st.lists(st.integers(0, len(frames)), min_size=3, max_size=3, unique=True)))
    for damaged in (frames[:b], frames[:a] + frames[b:], frames[:b] + frames[a:], frames + frames[a:b]):
        assert is_refused(stream, damaged)
    swapped = frames[:a] + frames[b:c] + frames[a:b] + frames[c:]
    assert swapped == frames or is_refused(stream, swapped)


def decoded_is(stream: bytes, frames: bytes) -> bool:
    """Whether `frames` stand for `stream`, also to a decoder that gets them in small pieces."""
    decoder = Decoder(8)
    small = b"".join(decoder.feed(part) for part in kit.pieces(frames, range(0, len(frames), 3001)))
    decoder.end()
    return small == stream


def is_refused(stream: bytes, frames: bytes) -> bool:
    """Whether a decoder refuses `frames`, having given out nothing but the beginning of `stream`."""
    decoder = Decoder(8)
    given_out = b""
    try:
        for at in range(0, len(frames), 512):
            given_out += decoder.feed(frames[at : at + 512])
        decoder.end()
    except StreamCorrupt:
        return stream.startswith(given_out)
    return False
