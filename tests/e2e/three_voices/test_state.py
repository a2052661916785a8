"""The agreed control state of two sites and a witness: real actors, sockets, TLS, lines and disks; no guests."""

import json
import sys

import pytest

from actors.control.messages import ClusterView
from actors.lab.lab import Lab
from actors.lab.line import Change
from tests.e2e.world import RESTART_S, World, until

FLAGS = ("hde", "pba", "ass")
HOSTS, WITNESS = ("london-1", "paris-1"), "rome-1"
ELECTED_S = 60.0
# On one of the nodes, as a driver of its site's Ray: sets a flag if one is named, and reads all linearizably.
_ASK = """
import asyncio, json, sys
from pathlib import Path
import ray
from actors.calls.directory import NAMESPACE, Directory
from actors.config.load import load
from actors.control.client import StateClient
from actors.control.commands import SetFlag

async def main():
    config = load(Path("/etc/novacron/node.yaml"), {})
    ray.init(address="auto", namespace=NAMESPACE, log_to_driver=False, configure_logging=False)
    state = StateClient(Directory(config.node.name, config.topology), config)
    if len(sys.argv) > 2:
        await state.submit(SetFlag(component=sys.argv[1], percent=int(sys.argv[2])), by="operator:test", deadline_s=60)
    print(json.dumps({name: flag.percent for name, flag in (await state.flags(deadline_s=60)).items()}))

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def world(lab: Lab) -> World:
    return World(lab)


def _ask(world: World, node: str, *flag: str) -> dict[str, int]:
    """The percentages of the flags that this test sets, as `node` reads them."""
    said = world.lab.run(node, [sys.executable, "-", *flag], deadline_s=150, stdin=_ASK)
    read = json.loads(said.strip().splitlines()[-1])
    return {name: percent for name, percent in read.items() if name in FLAGS}


def _settled(world: World) -> ClusterView | None:
    """The leader's view, once it hears everybody and nobody lags."""
    view = world.api.cluster()
    well = view.leader and all(0 <= each.silent_s < 5 and each.lag == 0 for each in view.members)
    return view if well else None


def test_members_agree_and_survive_a_killed_leader_and_a_cut_line(world: World) -> None:
    view = until("a leader that hears everybody", lambda: _settled(world), ELECTED_S)
    assert view is not None
    assert [member.node for member in view.members] == [*HOSTS, WITNESS]
    follower = next(node for node in HOSTS if node != view.leader)
    assert _ask(world, follower, "hde", "37") == {"hde": 37}

    world.kill_member(view.leader)
    assert _ask(world, follower, "pba", "41") == {"hde": 37, "pba": 41}
    view = until("the killed member caught up", lambda: _settled(world), RESTART_S)
    assert view is not None

    cut_off = next(node for node in HOSTS if node != view.leader)
    ends = sorted((view.leader.removesuffix("-1"), cut_off.removesuffix("-1")))
    world.lab.link("-".join(ends)).change(Change(state="hole"))
    assert _ask(world, cut_off, "ass", "43") == {"hde": 37, "pba": 41, "ass": 43}
    world.lab.restore_links()
    until("everybody heard again", lambda: _settled(world), RESTART_S)
    for node in HOSTS:
        assert _ask(world, node) == {"hde": 37, "pba": 41, "ass": 43}
