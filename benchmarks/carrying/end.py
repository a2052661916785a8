"""One end of AMST in the benchmark, a process of its own on a node: ``python -m benchmarks.carrying.end sink|source``.

It runs this node's transport without Ray or guests and obeys words on its standard input, one per line; each is
answered by a line of JSON. Payload goes through UNIX sockets, as a job's does: the source's thread fills one channel
without end, the sink's thread counts what arrives.
"""

import asyncio
import json
import os
import socket
import sys
import threading
import time
from collections import deque
from pathlib import Path

import psutil

from actors.calls.messages import Caller
from actors.config.load import load
from actors.errors import NotFound
from actors.log import set_up
from actors.transport.credentials import Credentials
from actors.transport.forward import listen_unix
from actors.transport.hub import Hub
from actors.transport.messages import Expose, Forward

SERVICE = "bench"
_SOCKET = "/run/novacron-bench.sock"
_CHUNK_BYTES = 1 << 20
_READ_BYTES = 1 << 17
_MARK_S = 0.05


class _Sink:
    """Counts what arrives, and remembers when."""

    def __init__(self) -> None:
        self.count_bytes = 0
        self.marks: deque[tuple[float, int]] = deque(maxlen=4096)
        """(monotonic seconds, bytes so far), every 50 ms in which something came."""

    def serve(self, listener: socket.socket) -> None:
        """Read everything that one connection brings."""
        listener.setblocking(True)
        connection, _ = listener.accept()
        buffer = bytearray(_READ_BYTES)
        marked = 0.0
        while count := connection.recv_into(buffer, 0, socket.MSG_WAITALL):
            self.count_bytes += count
            now = time.monotonic()
            if now - marked >= _MARK_S:
                self.marks.append((now, self.count_bytes))
                marked = now


def _pour() -> None:
    """Write zeros until nobody takes them."""
    data = bytes(_CHUNK_BYTES)
    with socket.socket(socket.AF_UNIX) as local:
        local.connect(_SOCKET)
        try:
            while True:
                local.sendall(data)
        except OSError:
            return


def _kill_a_stream() -> int:
    """End one of this process's connections to the peer as a dead middlebox would; returns its local port."""
    found = [c for c in psutil.Process().net_connections("tcp") if c.status == "ESTABLISHED"]
    with socket.socket(fileno=os.dup(found[0].fd)) as connection:
        connection.shutdown(socket.SHUT_RDWR)
    return int(found[0].laddr.port)


async def _nobody(caller: Caller, service: str, method: str, body: bytes) -> bytes:  # noqa: ARG001
    raise NotFound(what=f"{service} in a benchmark")


def _facts(hub: Hub, sink: _Sink) -> dict[str, object]:
    (link,) = hub.links(time.time() - 3)
    usage = os.times()
    return {
        "at": time.monotonic(),
        "cpu_s": usage.user + usage.system,
        "count_bytes": sink.count_bytes,
        "marks": list(sink.marks),
        "streams": link.streams,
        "resent_bytes": link.resent_bytes,
        "in_flight_bytes": link.in_flight_bytes,
    }


async def _serve(role: str, config_file: Path) -> None:
    config = load(config_file, os.environ)
    set_up(config.log, node=config.node.name)
    peer = next(site.nodes[0].name for site in config.topology.sites if site.name != config.site.name)
    hub, sink = Hub(config, Credentials.load(config.security), _nobody), _Sink()
    await hub.start()
    if role == "sink":
        threading.Thread(target=sink.serve, args=(listen_unix(_SOCKET),), daemon=True).start()
        hub.expose(Expose(tag=SERVICE, service=SERVICE, connect_path=_SOCKET, peer=peer))
    else:
        hub.forward(Forward(tag=SERVICE, listen_path=_SOCKET, peer=peer, service=SERVICE))
    loop = asyncio.get_running_loop()
    while word := (await loop.run_in_executor(None, sys.stdin.readline)).strip():
        answer: dict[str, object] = {}
        if word == "pour":
            await hub.session_to(peer, 20.0)
            threading.Thread(target=_pour, daemon=True).start()
        elif word == "kill":
            answer["port"] = _kill_a_stream()
        else:
            answer = _facts(hub, sink)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
    os._exit(0)  # the threads are in the middle of a system call, and nothing is worth keeping


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1], Path(sys.argv[2])))
