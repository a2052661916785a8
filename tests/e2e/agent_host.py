"""Runs a node agent as a process of its own inside a lab node, without Ray, and calls it from outside.

Its control state is its own and forgotten when it ends, so that an agent can be tried without any member.

Requests and replies cross the process's stdin and stdout as msgpack, each after its length in four bytes.
"""

import asyncio
import struct
import subprocess
import sys
from pathlib import Path
from typing import TypeVar

import msgspec

from actors.calls.messages import Caller, Reply
from actors.config.load import load
from actors.errors import error_from
from actors.hypervisor.actor import NodeAgent
from actors.lab.lab import Lab
from actors.log import set_up
from tests.kits.agreed import Agreed

_Response = TypeVar("_Response", bound=msgspec.Struct)
_ROOT = Path(__file__).parents[2]
_CONFIG = Path("/etc/novacron/node.yaml")


class Request(msgspec.Struct):
    """One call."""

    caller: Caller
    method: str
    body: bytes


class AgentProcess:
    """An agent on `node`; each call waits for its answer."""

    def __init__(self, lab: Lab, node: str) -> None:
        self._process = lab.popen(
            node,
            ["env", f"PYTHONPATH={_ROOT}", sys.executable, "-m", "tests.e2e.agent_host"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._caller = Caller(node=node, site="", same_site=True)

    def call(self, method: str, request: msgspec.Struct, response: type[_Response], *, peer: bool = False) -> _Response:
        """The answer of `method`, or the error that it raised; `peer`: ask as a node of another site."""
        caller = msgspec.structs.replace(self._caller, same_site=not peer)
        body = msgspec.msgpack.encode(Request(caller=caller, method=method, body=msgspec.msgpack.encode(request)))
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(struct.pack(">I", len(body)) + body)
        self._process.stdin.flush()
        head = self._process.stdout.read(4)
        assert len(head) == 4, "the agent's process ended"
        reply = msgspec.msgpack.decode(self._process.stdout.read(struct.unpack(">I", head)[0]), type=Reply)
        if reply.error:
            raise error_from(reply.error, reply.fields)
        return msgspec.msgpack.decode(reply.body, type=response)

    def kill(self) -> None:
        """End it as a crash does."""
        self._process.kill()
        self._process.communicate()


async def serve() -> None:
    """Answer what comes on stdin until it ends."""
    config = load(_CONFIG, {})
    set_up(config.log)  # on stderr, which shows in the failing test's output
    agent = NodeAgent(config, states=Agreed(config.node.name))
    out = sys.stdout.buffer
    while head := await asyncio.to_thread(sys.stdin.buffer.read, 4):
        raw = await asyncio.to_thread(sys.stdin.buffer.read, struct.unpack(">I", head)[0])
        request = msgspec.msgpack.decode(raw, type=Request)
        reply = await agent.serve(request.caller, request.method, request.body)
        out.write(struct.pack(">I", len(reply)) + reply)
        out.flush()


if __name__ == "__main__":
    asyncio.run(serve())
