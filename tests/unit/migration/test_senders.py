"""What the source's agent learns of a job's memory, on this node and at the target, and how both send it first."""

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


async def test_both_ends_send_a_job_first_and_no_longer(cluster):
    senders = Senders(Calls("a1", cluster.world))
    here, there = cluster.service("transport", "a1"), cluster.service("transport", "b1")
    await senders.raise_here("m-1", raised=True)
    await senders.raise_there("m-1", "b1", raised=True)
    assert (here.raised, there.raised) == ({"m-1"}, {"m-1"})
    await senders.raise_here("m-1", raised=False)
    await senders.raise_there("m-1", "b1", raised=False)
    assert (here.raised, there.raised) == (set(), set())
