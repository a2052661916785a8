"""What the source's agent learns of a job's memory, on this node and at the target, and how both send it first."""

from actors.hypervisor.engine.ledger import JobRecord
from actors.hypervisor.senders import Senders
from actors.transport.messages import Carried
from tests.unit.migration.site import Calls
from tests.unit.migration.test_manager_moves import in_state, submit, watch


async def test_both_ends_are_asked(cluster):
    cluster.agent("a1").hold = True
    job = await submit(cluster)
    await watch(cluster, job.id, in_state("perform"))
    senders = Senders(Calls("a1", cluster.world))
    move = JobRecord(job=job.id, guest="web", role="outgoing", peer="b1")
    sent = await senders.sent(move)
    assert (sent.stream_bytes, sent.wire_bytes, sent.page_bytes) == (2000, 500, 50 * 4096)
    got = await senders.delivered(move)
    assert (got.stream_bytes, got.wire_bytes) == (2000, 500)


async def test_of_a_native_move_the_transports_are_asked(cluster):
    senders = Senders(Calls("a1", cluster.world))
    move = JobRecord(job="m-1", guest="web", role="outgoing", peer="b1", path="native")
    cluster.service("transport", "a1").crossed["ram:m-1"] = Carried(taken_bytes=9000, taken_at=7.0)
    cluster.service("transport", "b1").crossed["ram:m-1"] = Carried(given_bytes=8000, given_at=8.0)
    sent = await senders.sent(move)
    assert (sent.stream_bytes, sent.page_bytes, sent.wire_bytes) == (9000, 9000, 9000)
    got = await senders.delivered(move)
    assert (got.stream_bytes, got.wire_bytes, got.last_at) == (8000, 8000, 8.0)
    assert cluster.world.methods("encoder", "a1") == cluster.world.methods("decoder", "b1") == []


async def test_both_ends_send_a_job_first_and_no_longer(cluster):
    senders = Senders(Calls("a1", cluster.world))
    move = JobRecord(job="m-1", guest="web", role="outgoing", peer="b1")
    here, there = cluster.service("transport", "a1"), cluster.service("transport", "b1")
    await senders.raise_here(move, raised=True)
    await senders.raise_there(move, raised=True)
    assert (here.raised, there.raised) == ({"m-1"}, {"m-1"})
    await senders.raise_here(move, raised=False)
    await senders.raise_there(move, raised=False)
    assert (here.raised, there.raised) == (set(), set())
