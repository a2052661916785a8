"""How far the memory of a job has come: what left this node, and what the target's QEMU has got of it."""

from actors.calls.directory import Directory
from actors.encoding.messages import CodecStats
from actors.encoding.messages import Job as CodecJob
from actors.errors import NodeUnknown
from actors.hypervisor.messages import Sent
from actors.migration.messages import TargetJob

PAGE_BYTES = 4096
_CALL_S = 2.0


class Senders:
    """Asks the encoder of the node that `calls` belongs to, and the manager of the target's site for its decoder."""

    def __init__(self, calls: Directory) -> None:
        self._calls = calls
        self._encoder = calls.on("encoder", calls.node)

    async def sent(self, job: str) -> Sent:
        """What left this node; raises what kept the encoder from answering."""
        codec = await self._calls.call(self._encoder, "stats", CodecJob(job=job), CodecStats, _CALL_S)
        pages = sum(count.pages for layer, count in codec.layers.items() if layer != "zero")
        return Sent(stream_bytes=codec.stream_bytes, page_bytes=pages * PAGE_BYTES, wire_bytes=codec.wire_bytes)

    async def delivered(self, job: str, guest: str, target: str) -> CodecStats:
        """How far the target's decoder has come; raises what kept the target from answering."""
        site = self._calls.topology.site_of(target)
        if site is None:
            raise NodeUnknown(node=target)
        manager = self._calls.central("manager", site.name)
        request = TargetJob(job=job, guest=guest, target=target)
        return await self._calls.call(manager, "target_codec", request, CodecStats, _CALL_S)
