"""The chosen group out of the server's hello: real ones, made ones, and anything at all."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.security.groups import chosen_group


def hello(group: int, session_id: bytes = bytes(32), share: bytes = bytes(32)) -> bytes:
    """A server's hello as RFC 8446 has it, with supported_versions before key_share."""
    extensions = struct.pack(">HHH", 43, 2, 0x0304)
    extensions += struct.pack(">HHHH", 51, 4 + len(share), group, len(share)) + share
    body = b"\3\3" + bytes(range(32)) + bytes([len(session_id)]) + session_id + b"\x13\x02\0"
    body += struct.pack(">H", len(extensions)) + extensions
    return b"\x16\3\3" + struct.pack(">HB", len(body) + 4, 2) + len(body).to_bytes(3, "big") + body


@pytest.mark.parametrize(
    ("number", "name"), [(29, "x25519"), (4588, "X25519MLKEM768"), (23, "secp256r1"), (9999, "group 9999")]
)
def test_the_group_is_named(number: int, name: str) -> None:
    assert chosen_group(hello(number)) == name
    assert chosen_group(hello(number, session_id=b"")) == name


def test_the_beginning_of_a_long_hello_is_enough() -> None:
    assert chosen_group(hello(4588, share=bytes(1120))[:512]) == "X25519MLKEM768"


@given(st.binary(max_size=200))
def test_other_bytes_are_no_group(data: bytes) -> None:
    assert chosen_group(b"\x15" + data) == ""


@given(st.data())
def test_a_cut_or_flipped_hello_does_no_harm(data: st.DataObject) -> None:
    raw = bytearray(hello(29))
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    assert isinstance(chosen_group(bytes(raw[: data.draw(st.integers(0, len(raw)))])), str)
