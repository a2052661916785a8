"""What a UNIX socket holds that nobody has read yet."""

import contextlib
import socket

from actors.encoding import sockets


def test_a_widened_socket_holds_what_its_peer_has_not_read() -> None:
    near, far = socket.socketpair()
    with near, far:
        sockets.widen(near, 1 << 20)
        near.setblocking(False)
        held = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                held += near.send(bytes(65536))
        assert 1 << 20 <= held <= 1 << 21
