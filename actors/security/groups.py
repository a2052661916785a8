"""Which key agreement a TLS 1.3 handshake chose, read from the server's hello (RFC 8446, sections 4.1.3 and 4.2.8).

Python's ssl does not tell. OpenSSL 3.5 and later offer and prefer the hybrid X25519MLKEM768 by themselves (the names:
IANA, TLS Supported Groups); older ones agree on x25519, which a later quantum computer could undo.
"""

import struct

_NAMES = {
    23: "secp256r1",
    24: "secp384r1",
    25: "secp521r1",
    29: "x25519",
    30: "x448",
    4587: "SecP256r1MLKEM768",
    4588: "X25519MLKEM768",
    4589: "SecP384r1MLKEM1024",
}
_HANDSHAKE = 22
_SERVER_HELLO = 2
_KEY_SHARE = 51
_RECORD_BYTES = 5
_MESSAGE_BYTES = 4
# version, random, length of the session id
_FIXED_BYTES = 2 + 32 + 1


def chosen_group(hello: bytes) -> str:
    """Name of the group in the record `hello`, whole or only its beginning; '' if it does not say."""
    body = hello[_RECORD_BYTES + _MESSAGE_BYTES :]
    if len(body) < _FIXED_BYTES or hello[0] != _HANDSHAKE or hello[_RECORD_BYTES] != _SERVER_HELLO:
        return ""
    at = _FIXED_BYTES + body[_FIXED_BYTES - 1] + 2 + 1 + 2  # session id, cipher, compression, length of the extensions
    while at + 6 <= len(body):
        kind, length, first = struct.unpack_from(">HHH", body, at)
        if kind == _KEY_SHARE:
            return _NAMES.get(first, f"group {first}")
        at += 4 + length
    return ""
