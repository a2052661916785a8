"""How the source's agent learns how far a job's memory has come, on this node and at the target."""

from actors.hypervisor.senders import Senders
from tests.unit.migration.site import Calls
from tests.unit.migration.test_manager_moves import in_state, submit, watch


async def test_both_ends_are_asked(cluster):
    cluster.agent("a1").hold = True
    job = await submit(cluster)
    await watch(cluster, job.id, in_state("perform"))
    senders = Senders(Calls("a1", cluster.world))
    sent = await senders.sent(job.id)
    assert (sent.stream_bytes, sent.wire_bytes, sent.page_bytes) == (2000, 500, 50 * 4096)
    got = await senders.delivered(job.id, "web", "b1")
    assert (got.stream_bytes, got.wire_bytes) == (2000, 500)
