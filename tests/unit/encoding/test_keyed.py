"""The keyed hash is SipHash-2-4 with 128 bits, and a page's digest is what the format says."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.encoding.keyed import SCRATCH_WORDS, key_words, page_digest, sip128

KEY = bytes(range(16))
MASK = (1 << 64) - 1


def reference(data: bytes, key: bytes) -> bytes:
    """SipHash-2-4-128 as the paper and its reference code have it, for whole words."""
    k0, k1 = int.from_bytes(key[:8], "little"), int.from_bytes(key[8:], "little")
    v = [k0 ^ 0x736F6D6570736575, k1 ^ 0x646F72616E646F6D ^ 0xEE, k0 ^ 0x6C7967656E657261, k1 ^ 0x7465646279746573]

    def rotate(value: int, by: int) -> int:
        return (value << by | value >> (64 - by)) & MASK

    def rounds(count: int) -> None:
        for _ in range(count):
            for a, b, c, d, left, right in ((0, 1, 2, 3, 13, 16), (2, 1, 0, 3, 17, 21)):
                v[a] = (v[a] + v[b]) & MASK
                v[b] = rotate(v[b], left) ^ v[a]
                v[a] = rotate(v[a], 32)
                v[c] = (v[c] + v[d]) & MASK
                v[d] = rotate(v[d], right) ^ v[c]

    words = [int.from_bytes(data[at : at + 8], "little") for at in range(0, len(data), 8)]
    for word in [*words, (len(data) % 256) << 56]:
        v[3] ^= word
        rounds(2)
        v[0] ^= word
    v[2] ^= 0xEE
    rounds(4)
    first = v[0] ^ v[1] ^ v[2] ^ v[3]
    v[1] ^= 0xDD
    rounds(4)
    return first.to_bytes(8, "little") + (v[0] ^ v[1] ^ v[2] ^ v[3]).to_bytes(8, "little")


def ours(data: bytes, key: bytes) -> bytes:
    out = np.empty(2, np.uint64)
    sip128(np.frombuffer(data, np.uint64).copy(), key_words(key), out)
    return out.tobytes()


@pytest.mark.parametrize(
    ("size", "digest"),
    [(0, "a3817f04ba25a8e66df67214c7550293"), (8, "3b62a9ba6258f5610f83e264f31497b4")],
)
def test_the_published_vectors(size: int, digest: str) -> None:
    assert ours(bytes(range(size)), KEY).hex() == digest
    assert reference(bytes(range(size)), KEY).hex() == digest


@given(words=st.integers(0, 70), seed=st.randoms(), key=st.binary(min_size=16, max_size=16))
@settings(deadline=None)
def test_any_words(words: int, seed: random.Random, key: bytes) -> None:
    data = seed.randbytes(8 * words)
    assert ours(data, key) == reference(data, key)


@given(page=st.binary(min_size=4096, max_size=4096), key=st.binary(min_size=16, max_size=16))
@settings(deadline=None, max_examples=20)
def test_a_page_is_the_hash_of_its_lanes(page: bytes, key: bytes) -> None:
    words = np.frombuffer(page, np.uint64).copy()
    lanes = b"".join(reference(words[lane::16].tobytes(), key) for lane in range(16))
    out = np.empty(2, np.uint64)
    page_digest(words, key_words(key), np.empty(SCRATCH_WORDS, np.uint64), out)
    assert out.tobytes() == reference(lanes, key)
