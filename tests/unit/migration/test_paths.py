"""Which path a move takes, and a native move through the manager."""

import msgspec
import pytest

from actors.control.model import Flag
from actors.flags.file import write_flags
from actors.migration.messages import TargetJob, Welcome
from actors.migration.paths import arrived, choose, departed, offered
from actors.transport.messages import Carried, LinkState
from tests.unit.migration.site import disk
from tests.unit.migration.test_manager_moves import in_state, settled, submit, watch


def link(mode, *, forced=False):
    return LinkState(
        node="a1", peer="b1", site="left", peer_site="right", state="up", streams=4, resent_bytes=0, reconnects=0,
        refused_peers=0, mode=mode, mode_forced=forced,
    )  # fmt: skip


BOTH = ("coded", "native")


@pytest.mark.parametrize(
    ("mode", "forced", "there", "here", "path", "reason"),
    [
        ("datacenter", True, BOTH, BOTH, "native", "datacenter, forced"),
        ("datacenter", False, BOTH, BOTH, "native", "datacenter, measured"),
        ("hybrid", False, BOTH, (), "coded", "hybrid, measured"),
        ("internet", True, BOTH, (), "coded", "internet, forced"),
        ("datacenter", True, ("coded",), BOTH, "coded", "but b1 does not know"),
        ("datacenter", True, BOTH, ("coded",), "coded", "but a1 does not know"),
    ],
)
def test_only_a_datacenter_link_leaves_the_codec_out(mode, forced, there, here, path, reason):
    choice = choose(link(mode, forced=forced), there, here)
    assert choice.path == path
    assert reason in choice.reason


def test_what_an_older_target_answers_offers_the_codec_alone():
    assert msgspec.msgpack.decode(msgspec.msgpack.encode({}), type=Welcome).paths == ("coded",)


def test_each_end_has_its_own_account():
    carried = Carried(taken_bytes=7, taken_at=1.0, given_bytes=5, given_at=2.0)
    here, there = departed("m", carried), arrived("m", carried)
    assert (here.stream_bytes, here.wire_bytes, here.pages_at, here.last_at, here.layers) == (7, 7, 1.0, 1.0, {})
    assert (there.stream_bytes, there.wire_bytes, there.last_at) == (5, 5, 2.0)


def datacenter(cluster):
    transport = cluster.service("transport", "a1")
    transport.mode, transport.forced = "datacenter", True


async def test_a_native_move_has_no_codec_in_between(cluster):
    datacenter(cluster)
    cluster.agent("a1").hold = True
    cluster.agent("a1").put("web", disks=[disk("vda", moves=True)])
    job = await submit(cluster)
    assert (job.path, job.path_reason) == ("native", "the link to b1 is in mode datacenter, forced")
    await settled(cluster, lambda: "start_move" in cluster.world.methods("agent", "a1"))
    here, there = cluster.service("transport", "a1").open[job.id], cluster.service("transport", "b1").open[job.id]
    for service, socket in (("ram", "ram"), ("nbd", "nbd")):
        name = f"{service}:{job.id}"
        assert {f.service: f.listen_path for f in here}[name] == f"/run/a1/{job.id}/{socket}"
        assert {e.service: e.connect_path for e in there}[name] == f"/run/b1/{job.id}/{socket}"
    assert cluster.agent("a1").paths == ["native"]
    for kind, node in (("encoder", "a1"), ("decoder", "b1")):
        assert "open" not in cluster.world.methods(kind, node)


async def test_a_native_move_is_counted_and_its_pause_accounted_for(cluster):
    datacenter(cluster)
    there = cluster.agent("b1")
    there.arrival = msgspec.structs.replace(there.arrival, loaded_at=1000.12)
    cluster.agent("a1").hold = True
    job = await submit(cluster)
    cluster.service("transport", "a1").crossed[f"ram:{job.id}"] = Carried(taken_bytes=9000, taken_at=1000.05)
    cluster.service("transport", "b1").crossed[f"ram:{job.id}"] = Carried(given_bytes=9000, given_at=1000.10)
    await watch(cluster, job.id, in_state("perform"))
    cluster.agent("a1").hold = False
    done = (await watch(cluster, job.id))[-1].job
    assert (done.state, done.path) == ("completed", "native")
    assert (done.progress.stream_bytes, done.progress.wire_bytes, done.progress.layers) == (9000, 9000, {})
    assert done.pause.last_pages_ms == pytest.approx(100)
    assert done.pause.device_state_ms == pytest.approx(20)


@pytest.mark.parametrize(
    ("version", "paths"),
    [("10.0.2", BOTH), ("8.0.0", BOTH), ("7.2.22", ("coded",)), ("", ("coded",)), ("new", ("coded",))],
)
def test_channels_overtake_each_other_so_qemu_must_tell_them_apart(version, paths):
    assert offered(version) == paths


@pytest.mark.parametrize("node", ["a1", "b1"])
async def test_with_a_qemu_that_is_too_old_at_either_end_a_move_is_coded(cluster, node):
    cluster.agent(node).qemu_version = "7.2.22"
    datacenter(cluster)
    done = (await watch(cluster, (await submit(cluster)).id))[-1].job
    assert (done.state, done.path) == ("completed", "coded")
    assert "older than 8" in done.path_reason


def test_what_names_no_path_is_coded():
    """As a site of an older version asks."""
    asked = msgspec.msgpack.encode({"job": "m", "guest": "web", "target": "b1"})
    assert msgspec.msgpack.decode(asked, type=TargetJob).path == "coded"


@pytest.mark.parametrize(
    ("there", "here", "path", "plain"),
    [
        (("coded", "native"), ("coded", "native"), "native", False),
        (("coded",), ("coded", "native"), "coded", True),
        (("coded", "native"), ("coded",), "coded", True),
    ],
)
def test_without_the_codec_a_move_is_native_or_raw_in_every_mode(there, here, path, plain):
    for mode in ("internet", "hybrid", "datacenter"):
        choice = choose(link(mode), there, here, codec=False)
        assert (choice.path, choice.plain) == (path, plain)
        assert "switched off" in choice.reason


async def test_a_guest_whose_flag_is_off_moves_natively_in_every_mode(cluster, tmp_path):
    write_flags(tmp_path / "a1", {"hde": Flag(component="hde", killed=True)})
    cluster.agent("a1").hold = True
    job = await submit(cluster)
    assert (job.path, "switched off" in job.path_reason) == ("native", True)


async def test_where_a_qemu_is_too_old_it_moves_raw(cluster, tmp_path):
    write_flags(tmp_path / "a1", {"hde": Flag(component="hde", nodes_off=frozenset({"a1"}))})
    cluster.agent("a1").hold = True
    cluster.agent("b1").qemu_version = "7.2.22"
    job = await submit(cluster)
    assert (job.path, "raw" in job.path_reason) == ("coded", True)
    await settled(cluster, lambda: cluster.service("encoder", "a1").jobs)
    assert cluster.service("encoder", "a1").jobs[job.id].plain
