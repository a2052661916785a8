"""How far the memory of a job has come, at this node and at the target; and that both ends send it first."""

from actors.calls.directory import Directory
from actors.calls.messages import Address, Empty
from actors.encoding.messages import CodecStats
from actors.encoding.messages import Job as CodecJob
from actors.errors import NodeUnknown
from actors.hypervisor.engine.ledger import JobRecord
from actors.hypervisor.messages import Sent
from actors.migration.messages import RaiseTarget, TargetJob
from actors.transport.messages import Carried, RaiseJob, ServiceQuery

PAGE_BYTES = 4096
_CALL_S = 2.0


class Senders:
    """Asks the encoder of the node that `calls` belongs to, and the manager of the target's site for its decoder."""

    def __init__(self, calls: Directory) -> None:
        self._calls = calls
        self._encoder = calls.on("encoder", calls.node)
        self._transport = calls.on("transport", calls.node)

    async def sent(self, move: JobRecord) -> Sent:
        """What left this node; raises what kept the encoder, or the transport, from answering."""
        if move.path == "native":
            query = ServiceQuery(tag=move.job, service=f"ram:{move.job}")
            carried = await self._calls.call(self._transport, "carried", query, Carried, _CALL_S)
            raw = carried.taken_bytes
            return Sent(stream_bytes=raw, page_bytes=raw, wire_bytes=raw)
        codec = await self._calls.call(self._encoder, "stats", CodecJob(job=move.job), CodecStats, _CALL_S)
        pages = sum(count.pages for layer, count in codec.layers.items() if layer != "zero")
        return Sent(stream_bytes=codec.stream_bytes, page_bytes=pages * PAGE_BYTES, wire_bytes=codec.wire_bytes)

    async def delivered(self, move: JobRecord) -> CodecStats:
        """What the target's QEMU has got; raises what kept the target from answering."""
        request = TargetJob(job=move.job, guest=move.guest, target=move.peer, path=move.path)
        return await self._calls.call(self._manager_of(move.peer), "target_codec", request, CodecStats, _CALL_S)

    async def raise_here(self, move: JobRecord, *, raised: bool) -> None:
        """Let what this node sends for the move go before others, or no longer."""
        await self._calls.call(self._transport, "raise_job", RaiseJob(tag=move.job, raised=raised), Empty, _CALL_S)

    async def raise_there(self, move: JobRecord, *, raised: bool) -> None:
        """As `raise_here`, for what the target sends: what its decoder asks for is wanted as soon."""
        request = RaiseTarget(job=move.job, target=move.peer, raised=raised)
        await self._calls.call(self._manager_of(move.peer), "raise_target", request, Empty, _CALL_S)

    def _manager_of(self, node: str) -> Address:
        site = self._calls.topology.site_of(node)
        if site is None:
            raise NodeUnknown(node=node)
        return self._calls.central("manager", site.name)
