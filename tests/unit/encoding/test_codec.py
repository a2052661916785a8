"""One zstd frame through all batches: everything comes back, history helps, and no body takes more than announced."""

import itertools

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.encoding.codec import WORTH_BYTES, Compressor, Decompressor
from actors.encoding.format import CODEC_BEGIN, CODEC_GO_ON, CODEC_NONE, body_max
from actors.errors import StreamCorrupt
from tests.unit.encoding.kit import noise

payloads = st.builds(lambda unit, times: unit * times, st.binary(max_size=300), st.integers(0, 200))


@given(st.lists(st.tuples(payloads, st.integers(0, 9)), max_size=8))
@settings(deadline=None, max_examples=20)
def test_payloads_come_back_whatever_the_levels_are(batches: list[tuple[bytes, int]]) -> None:
    compressor, decompressor = Compressor(), Decompressor()
    for payload, level in batches:
        codec, body = compressor.compress(payload, level)
        assert len(body) <= body_max(len(payload))
        assert bytes(decompressor.decompress(codec, memoryview(body), len(payload))) == payload


@pytest.mark.parametrize("size", [WORTH_BYTES, 4096, 1 << 20, 8 << 20])
def test_noise_fits_into_the_bound_of_a_body(size: int) -> None:
    assert len(Compressor().compress(noise(size), 1)[1]) <= body_max(size)


def test_what_went_before_helps_however_long_ago() -> None:
    compressor = Compressor()
    first = compressor.compress(noise(1 << 20, seed=1), 1)
    compressor.compress(noise(8 << 20, seed=2), 1)
    again = compressor.compress(noise(1 << 20, seed=1), 1)
    assert (first[0], again[0]) == (CODEC_BEGIN, CODEC_GO_ON)
    assert len(again[1]) < len(first[1]) // 20


def test_another_level_begins_a_frame_and_level_0_leaves_it_alone() -> None:
    compressor = Compressor()
    codecs = [compressor.compress(bytes(1000), level)[0] for level in (1, 1, 0, 1, 3, 3)]
    assert codecs == [CODEC_BEGIN, CODEC_GO_ON, CODEC_NONE, CODEC_GO_ON, CODEC_BEGIN, CODEC_GO_ON]


def test_a_body_that_is_not_of_the_announced_size_is_refused() -> None:
    bomb = zstandard.ZstdCompressor().compress(bytes(100 << 20))
    with pytest.raises(StreamCorrupt, match="longer"):
        Decompressor().decompress(CODEC_BEGIN, memoryview(bomb), 1000)
    codec, body = Compressor().compress(bytes(1000), 1)
    with pytest.raises(StreamCorrupt, match="shorter"):
        Decompressor().decompress(codec, memoryview(body), 1001)
    with pytest.raises(StreamCorrupt, match="instead of"):
        Decompressor().decompress(CODEC_NONE, memoryview(body), len(body) + 1)


def test_a_body_that_no_frame_begins_is_refused() -> None:
    with pytest.raises(StreamCorrupt, match="never began"):
        Decompressor().decompress(CODEC_GO_ON, memoryview(b"anything"), 8)
    with pytest.raises(StreamCorrupt, match="decompressed"):
        Decompressor().decompress(CODEC_BEGIN, memoryview(b"no frame at all"), 8)


def test_a_window_larger_than_ours_is_refused() -> None:
    options = zstandard.ZstdCompressionParameters.from_level(1, window_log=27)
    wide = zstandard.ZstdCompressor(compression_params=options).compressobj()
    body = wide.compress(bytes(1000)) + wide.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
    with pytest.raises(StreamCorrupt, match="decompressed"):
        Decompressor().decompress(CODEC_BEGIN, memoryview(body), 1000)


@given(st.binary(max_size=400), st.integers(0, 5000), st.sampled_from([CODEC_BEGIN, CODEC_GO_ON]))
@settings(deadline=None, max_examples=60)
def test_whatever_comes_in_gives_a_payload_of_the_size_or_an_error(body: bytes, size: int, codec: int) -> None:
    decompressor = Decompressor()
    first, good = Compressor().compress(bytes(range(256)) * 4, 1)
    decompressor.decompress(first, memoryview(good), 1024)
    try:
        payload = decompressor.decompress(codec, memoryview(body), size)
    except StreamCorrupt:
        return
    assert len(payload) == size


def test_a_spoilt_body_never_gives_more_than_announced() -> None:
    codec, body = Compressor().compress(bytes(range(64)) * 160, 1)
    for at, bit in itertools.product(range(len(body)), range(8)):
        spoilt = bytearray(body)
        spoilt[at] ^= 1 << bit
        try:
            payload = Decompressor().decompress(codec, memoryview(spoilt), 10240)
        except StreamCorrupt:
            continue
        assert len(payload) == 10240
