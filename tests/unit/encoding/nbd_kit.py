"""What an NBD client writes, piece by piece."""

import random
import struct

FLAGS = struct.pack(">I", 3)
READ, WRITE, DISCONNECT, TRIM, WRITE_ZEROES, BLOCK_STATUS = 0, 1, 2, 4, 6, 7
GO, STARTTLS = 7, 5


def option(number: int, data: bytes = b"") -> bytes:
    """An option of the handshake."""
    return b"IHAVEOPT" + struct.pack(">II", number, len(data)) + data


HELLO = FLAGS + option(8) + option(11) + option(GO, struct.pack(">I", 3) + b"vda" + bytes(2))


def request(kind: int, offset: int, length: int, data: bytes = b"", cookie: int = 1) -> bytes:
    """A request with the short header, and what follows it."""
    return struct.pack(">IHHQQI", 0x25609513, 0, kind, cookie, offset, length) + data


def extended(kind: int, offset: int, length: int, data: bytes = b"", cookie: int = 1) -> bytes:
    """A request with the extended header, and what follows it."""
    return struct.pack(">IHHQQQ", 0x21E41C71, 1 << 5 if data else 0, kind, cookie, offset, length) + data


def write(offset: int, data: bytes, *, long: bool = True) -> bytes:
    """A write."""
    return (extended if long else request)(WRITE, offset, len(data), data)


def client_stream(seed: int, requests: int = 12, image: bytes = b"") -> bytes:
    """A client that writes to its disk, aligned or not, and does other things: handshake to end.

    With `image` about half of what it writes are blocks of that.
    """
    chance = random.Random(seed)
    long = bool(seed & 1)
    ask = extended if long else request
    out = [HELLO]
    for _ in range(requests):
        kind = chance.choice((READ, WRITE, WRITE, WRITE, TRIM, WRITE_ZEROES, 77))
        offset = chance.randrange(64) * 512 if chance.random() < 0.3 else chance.randrange(16) << 12
        if kind == WRITE:
            size = chance.choice((0, 512, 4096, 8192, 12288, 70000))
            data = chance.choice((bytes(size), chance.randbytes(size), b"\7" * size))
            if image and chance.random() < 0.5:
                at = chance.randrange(len(image) // 4096) * 4096
                data = image[at : at + max(4096, size)]
            out.append(write(offset, data, long=long))
        else:
            out.append(ask(kind, offset, chance.randrange(1 << 20)))
    return b"".join(out) + ask(DISCONNECT, 0, 0)
