"""SipHash-2-4 with 128 bits of output (Aumasson and Bernstein, 2012), and the digest of a page that is made of it.

A page is hashed in 16 lanes at once, so that the compiler uses vector instructions: lane *i* is the SipHash of the
words *i*, *i* + 16, … of the page, and the page's digest is the SipHash of the lanes' hashes, all under one key.
"""

import numpy as np

from actors.encoding.kernel import PAGE_WORDS, Words, kernel

LANES = 16
DIGEST_WORDS = 2
KEY_BYTES = 16
SCRATCH_WORDS = 6 * LANES
"""Words of working memory that `page_digest` needs."""

_V0 = np.uint64(0x736F6D6570736575)
_V1 = np.uint64(0x646F72616E646F6D ^ 0xEE)
_V2 = np.uint64(0x6C7967656E657261)
_V3 = np.uint64(0x7465646279746573)
_END_A = np.uint64(0xEE)
_END_B = np.uint64(0xDD)
_13, _16, _17, _21, _32 = (np.uint64(n) for n in (13, 16, 17, 21, 32))
_51, _48, _47, _43 = (np.uint64(n) for n in (51, 48, 47, 43))
_56 = np.uint64(56)


@kernel
def double_round(
    a: np.uint64, b: np.uint64, c: np.uint64, d: np.uint64
) -> tuple[np.uint64, np.uint64, np.uint64, np.uint64]:
    """Two SipRounds, written out: a loop would keep the compiler from using vectors."""
    a += b
    b = ((b << _13) | (b >> _51)) ^ a
    a = (a << _32) | (a >> _32)
    c += d
    d = ((d << _16) | (d >> _48)) ^ c
    a += d
    d = ((d << _21) | (d >> _43)) ^ a
    c += b
    b = ((b << _17) | (b >> _47)) ^ c
    c = (c << _32) | (c >> _32)
    a += b
    b = ((b << _13) | (b >> _51)) ^ a
    a = (a << _32) | (a >> _32)
    c += d
    d = ((d << _16) | (d >> _48)) ^ c
    a += d
    d = ((d << _21) | (d >> _43)) ^ a
    c += b
    b = ((b << _17) | (b >> _47)) ^ c
    c = (c << _32) | (c >> _32)
    return a, b, c, d


@kernel
def sip128(words: Words, key: Words, out: Words) -> None:
    """``out[:2]`` = SipHash-2-4-128 of `words` as little-endian bytes."""
    a, b, c, d = key[0] ^ _V0, key[1] ^ _V1, key[0] ^ _V2, key[1] ^ _V3
    for i in range(len(words)):
        word = words[i]
        a, b, c, d = double_round(a, b, c, d ^ word)
        a ^= word
    length = np.uint64(8 * len(words)) << _56
    a, b, c, d = double_round(a, b, c, d ^ length)
    a ^= length
    a, b, c, d = double_round(a, b, c ^ _END_A, d)
    a, b, c, d = double_round(a, b, c, d)
    out[0] = a ^ b ^ c ^ d
    a, b, c, d = double_round(a, b ^ _END_B, c, d)
    a, b, c, d = double_round(a, b, c, d)
    out[1] = a ^ b ^ c ^ d


@kernel
def page_digest(page: Words, key: Words, scratch: Words, out: Words) -> None:
    """``out[:2]`` = the page's digest; `scratch` is overwritten."""
    v = scratch
    for lane in range(LANES):
        v[lane] = key[0] ^ _V0
        v[LANES + lane] = key[1] ^ _V1
        v[2 * LANES + lane] = key[0] ^ _V2
        v[3 * LANES + lane] = key[1] ^ _V3
    for first in range(0, PAGE_WORDS, LANES):
        words = page[first : first + LANES]
        for lane in range(LANES):
            word = words[lane]
            a, b, c, d = v[lane], v[LANES + lane], v[2 * LANES + lane], v[3 * LANES + lane] ^ word
            a, b, c, d = double_round(a, b, c, d)
            v[lane] = a ^ word
            v[LANES + lane] = b
            v[2 * LANES + lane] = c
            v[3 * LANES + lane] = d
    hashes = scratch[4 * LANES :]
    for lane in range(LANES):
        # 256 bytes a lane: the word that tells the length modulo 256 is 0.
        a, b, c, d = double_round(v[lane], v[LANES + lane], v[2 * LANES + lane], v[3 * LANES + lane])
        a, b, c, d = double_round(a, b, c ^ _END_A, d)
        a, b, c, d = double_round(a, b, c, d)
        hashes[2 * lane] = a ^ b ^ c ^ d
        a, b, c, d = double_round(a, b ^ _END_B, c, d)
        a, b, c, d = double_round(a, b, c, d)
        hashes[2 * lane + 1] = a ^ b ^ c ^ d
    sip128(hashes, key, out)


@kernel
def digest_pages(pages: Words, key: Words, out: Words) -> None:
    """Digest each of `pages` (shape n × 512) into `out` (shape n × 2)."""
    scratch = np.empty(SCRATCH_WORDS, np.uint64)
    page = np.empty(PAGE_WORDS, np.uint64)
    for i in range(len(pages)):
        for word in range(PAGE_WORDS):
            page[word] = pages[i, word]
        page_digest(page, key, scratch, out[i])


def key_words(key: bytes) -> Words:
    """A key of 16 bytes as the kernels take it."""
    return np.frombuffer(key, np.uint64).copy()
