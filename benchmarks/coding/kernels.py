"""Inner loops alone (CPU seconds of the best of some runs): memcpy, parser, page hash. And the FastCDC baseline."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import xxhash
import zstandard
from fastcdc.fastcdc_cy import fastcdc_cy

from actors.encoding.kernel import PAGE_BYTES, PAGE_WORDS, Words, kernel
from actors.encoding.keyed import DIGEST_WORDS, KEY_BYTES, digest_pages, key_words
from actors.encoding.pages import page_hash
from actors.encoding.parser import UNPARSED_MAX_BYTES, StreamParser
from actors.encoding.records import Records
from benchmarks.coding.recording import mapped
from benchmarks.coding.rows import Coded

_RUNS: Final = 3
_BATCH_BYTES: Final = 1 << 20
_COPY_BYTES: Final = 128 << 20
# As borg has it, smaller: a guest's memory repeats itself in files, not in archives.
CHUNK_MIN, CHUNK_MEAN, CHUNK_MAX = 4096, 16384, 65536
_LEVEL: Final = 3


def memcpy() -> tuple[int, float]:
    """(bytes, CPU seconds) of a copy that fits into no cache."""
    source, target = np.ones(_COPY_BYTES, np.uint8), np.zeros(_COPY_BYTES, np.uint8)
    return _COPY_BYTES, _best(lambda: np.copyto(target, source))


def parse(stream: Path) -> tuple[int, float]:
    """(bytes of stream, CPU seconds) to find its pages, in batches as the encoder takes them."""
    content = np.fromfile(stream, np.uint8)
    return len(content), _best(lambda: _parse(content))


def _parse(content: "np.typing.NDArray[np.uint8]") -> None:
    parser, found, at = StreamParser(), Records(_BATCH_BYTES + UNPARSED_MAX_BYTES), 0
    while at < len(content):
        end = min(at + _BATCH_BYTES, len(content))
        done = parser.parse(content[at:end], end - at, found)
        if done == 0:
            break
        at += done


def hash_pages(image: Path) -> tuple[int, float]:
    """(bytes, CPU seconds) to hash every page of a memory image that is not zeros."""
    pages = np.fromfile(image, np.uint64).reshape(-1, PAGE_WORDS)
    pages = pages[pages.any(axis=1)]
    _hash_all(pages[:1])
    return len(pages) * PAGE_BYTES, _best(lambda: _hash_all(pages))


def digest(image: Path) -> tuple[int, float]:
    """(bytes, CPU seconds) to give every page that is not zeros the keyed digest of the content store."""
    pages = np.fromfile(image, np.uint64).reshape(-1, PAGE_WORDS)
    pages = pages[pages.any(axis=1)]
    key, digests = key_words(bytes(KEY_BYTES)), np.empty((len(pages), DIGEST_WORDS), np.uint64)
    digest_pages(pages[:1], key, digests[:1])
    return len(pages) * PAGE_BYTES, _best(lambda: digest_pages(pages, key, digests))


@kernel
def _hash_all(pages: Words) -> np.uint64:
    total = np.uint64(0)
    for i in range(len(pages)):
        total ^= page_hash(pages[i])
    return total


def chunked(image: Path, older: Path | None, note: str) -> Coded:
    """FastCDC chunks of a memory image; those not seen before, here or in `older`, are compressed with zstd."""
    known: set[bytes] = set()
    if older is not None:
        known.update(xxhash.xxh3_128(piece).digest() for piece in _chunks(mapped(older)))
    packer = zstandard.ZstdCompressor(level=_LEVEL)
    content = mapped(image)
    began_s, wire_bytes = time.thread_time(), 0
    for piece in _chunks(content):
        name = xxhash.xxh3_128(piece).digest()
        wire_bytes += len(name)
        if name not in known:
            known.add(name)
            wire_bytes += len(packer.compress(piece))
    spent_s = time.thread_time() - began_s
    return Coded(guest_bytes=len(content), wire_bytes=wire_bytes, encode_s=spent_s, note=note)


def _chunks(content: memoryview) -> "list[memoryview]":
    found = fastcdc_cy(content, CHUNK_MIN, CHUNK_MEAN, CHUNK_MAX, False, None)
    return [content[one.offset : one.offset + one.length] for one in found]


def _best(work: Callable[[], object]) -> float:
    found = []
    for _ in range(_RUNS):
        began_s = time.thread_time()
        work()
        found.append(time.thread_time() - began_s)
    return min(found)
