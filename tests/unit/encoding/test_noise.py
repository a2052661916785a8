"""Noise is told from everything that a compressor can do something with, and then goes past it."""

import numpy as np
import pytest

from actors.encoding.encoder import Settings
from actors.encoding.noise import noisy_pages
from tests.unit.encoding import kit

TEXT = (b"the quick brown fox jumps over the lazy dog; " * 100)[:4096]
ORDINARY = {
    "text": TEXT,
    "zeros": bytes(4096),
    "pointers": b"".join((0x7F0012340000 + 64 * i).to_bytes(8, "little") for i in range(512)),
    "half noise": kit.noise(2048) + bytes(2048),
}


def count(pages: bytes) -> int:
    return int(noisy_pages(np.frombuffer(pages, np.uint8)))


@pytest.mark.parametrize("name", list(ORDINARY))
def test_what_can_be_compressed_is_not_noise(name: str) -> None:
    assert count(ORDINARY[name]) == 0


def test_noise_is_noise_whatever_it_is_made_of() -> None:
    assert count(kit.noise(1 << 20)) == 256
    assert count(b"") == 0


def test_pages_are_judged_one_by_one() -> None:
    assert count(kit.noise(4096) + TEXT + kit.noise(4096, seed=1) + bytes(4096)) == 2


def test_noise_goes_past_zstd_and_is_counted_there() -> None:
    pages = b"".join(kit.page(i << 12, kit.noise(4096, seed=i)) for i in range(1, 40))
    body = kit.page(0, kit.noise(4096, seed=99), "pc.ram") + pages
    stream = kit.FILE_HEADER + kit.section(1, kit.block_list(("pc.ram", 1 << 20)))
    stream += kit.section(3, body + kit.EOS)
    frames, encoder = kit.encoded([stream], Settings(dedupe_cache_mib=8, batch_bytes=1 << 20))
    assert kit.decoded(frames) == stream
    assert encoder.layers["zstd"].count().pages == 0
    assert encoder.layers["passthrough"].count().pages == 40
