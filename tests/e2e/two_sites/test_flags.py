"""Rollout flags in the lab: agreed on by both sites, in effect on both, and what running and new moves make of them."""

import json
from collections.abc import Iterator

import pytest

from actors.errors import NoMajority
from actors.flags.messages import ShownFlag
from actors.lab.lab import Lab
from actors.lab.line import Change
from tests.e2e.world import World, until

HERE, THERE = "london-1", "paris-1"
LINK = "london-paris"
AGREED_S, EFFECT_S = 60.0, 5.0


@pytest.fixture(scope="module")
def world(lab: Lab) -> World:
    return World(lab)


@pytest.fixture(autouse=True)
def _everything_on_again(world: World) -> Iterator[None]:
    yield
    world.lab.restore_links()
    for component in ("hde", "amst", "ass"):
        _set(world, component, {})


def _set(world: World, component: str, body: dict[str, object]) -> ShownFlag:
    """Set a flag; the members may still be finding each other."""

    def agreed() -> ShownFlag | None:
        try:
            return world.api.set_flag(component, body)
        except NoMajority:
            return None

    found = until(f"flag {component} is agreed on", agreed, AGREED_S)
    assert found is not None
    return found


def _known(world: World, node: str, component: str) -> bool:
    """True when the node's actors know the component to be killed."""
    file = world.lab.node(node).state_dir / "lib-novacron" / "flags.json"
    return file.exists() and json.loads(file.read_text()).get(component, {}).get("killed", False)


def test_a_killed_component_is_off_on_every_node_within_seconds(world: World) -> None:
    assert _set(world, "hde", {"killed": True, "reason": "a test"}).killed
    until("both nodes know", lambda: all(_known(world, node, "hde") for node in (HERE, THERE)), EFFECT_S)
    shown = {one.component: one for one in world.api.flags().flags}
    assert shown["hde"].killed
    assert not shown["amst"].set


def test_without_hde_moves_cross_natively_and_with_it_coded_again(world: World) -> None:
    name = "g-flags"
    watch = world.guest(name, HERE)
    try:
        running = world.start_move(name, THERE)
        _set(world, "hde", {"killed": True})
        ended = world.wait(running.id)
        assert (ended.state, ended.path) == ("completed", "coded"), "a running move keeps its path"
        watch.arrived(THERE)
        until("the target's site knows", lambda: _known(world, THERE, "hde"), EFFECT_S)
        back = world.wait(world.start_move(name, HERE).id)
        assert (back.state, back.path) == ("completed", "native"), back
        assert "switched off" in back.path_reason
        watch.arrived(HERE)
        verdict = watch.until_ticks(20, 120.0)
        assert verdict.ok, verdict.problems
    finally:
        world.remove(name)


def test_without_amst_a_link_has_one_connection_and_a_cut_changes_nothing(world: World) -> None:
    _set(world, "amst", {"killed": True})
    until("one connection", lambda: [one.link.streams for one in world.api.links().links] == [1], 30.0)
    world.lab.link(LINK).change(Change(state="cut"))
    until("no majority", lambda: not world.api.flags().agreed, 60.0)
    shown = {one.component: one for one in world.api.flags().flags}
    assert shown["amst"].killed, "the last known flags hold"
    with pytest.raises(NoMajority):
        world.api.set_flag("amst", {})
    world.lab.restore_links()
    until("agreed again", lambda: world.api.flags().agreed, 120.0)
    _set(world, "amst", {})
    until("several connections", lambda: world.api.links().links[0].link.streams > 1, 60.0)
