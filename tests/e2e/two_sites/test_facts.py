"""What two sites tell each other, over a real line that is really cut."""

import time

import pytest

from actors.errors import Unreachable
from actors.lab.lab import Lab
from actors.lab.line import Change
from api.cli.client import Client
from api.cli.target import Target
from tests.e2e.world import World, until

LINK = "london-paris"
KNOWN_S, CUT_S, HEALED_S = 60.0, 120.0, 120.0


@pytest.fixture
def ends(lab: Lab) -> dict[str, Client]:
    """The API of each site."""
    token = World(lab).token
    return {
        site: Client(Target(url=lab.plan.lead(site).api_url, token=token))
        for site in (node.site for node in lab.plan.nodes)
    }


def _hints(end: Client) -> dict[str, object]:
    return {fact.key: fact.value for fact in end.facts("hint/").facts}


def test_what_is_written_on_both_sides_of_a_cut_is_the_same_after_it(lab: Lab, ends: dict[str, Client]) -> None:
    london, paris = ends["london"], ends["paris"]
    until("both exchange", lambda: all(end.replica().peers[0].reachable for end in ends.values()), KNOWN_S)
    london.put_hint("before", "told at once")
    until("it is told", lambda: _hints(paris).get("hint/before") == "told at once", KNOWN_S)
    try:
        lab.link(LINK).change(Change(state="cut"))
        until("both notice", lambda: not any(end.replica().peers[0].reachable for end in ends.values()), CUT_S)
        london.put_hint("shared", "london")
        paris.put_hint("shared", "paris")
        london.put_hint("of-london", "1")
        paris.put_hint("of-paris", "2")
        paris.remove_hint("before")
        assert _hints(london)["hint/shared"] == "london"
        assert "hint/of-paris" not in _hints(london)
        lab.restore_links()
        healed = time.time()
        wanted = {"hint/shared": "paris", "hint/of-london": "1", "hint/of-paris": "2"}
        until("both have the same", lambda: _hints(london) == wanted == _hints(paris), HEALED_S)
        until("they compare equal", lambda: min(e.replica().peers[0].equal_at for e in ends.values()) > healed, KNOWN_S)
        assert sum(end.replica().refused for end in ends.values()) == 0
    finally:
        lab.restore_links()
        for name in ("shared", "of-london", "of-paris", "before"):
            london.remove_hint(name)


def test_each_site_knows_the_others_nodes_and_links_without_asking(lab: Lab, ends: dict[str, Client]) -> None:
    for here, there in (("london", "paris"), ("paris", "london")):
        end, wanted = ends[here], f"link/{there}-1/{here}-1"
        until("the link is told", lambda end=end, wanted=wanted: end.facts(wanted).facts, KNOWN_S)
        until("its node is told", lambda end=end, there=there: _told(end, there) > 0, KNOWN_S)
        until("it is told as it is", lambda end=end, here=here, there=there: _link(end, there, here) == "up", KNOWN_S)


def _link(end: Client, site: str, to: str) -> str:
    """The state of the link from one site to another, once its round trip, over 40 ms, is known too."""
    (link,) = [one for one in end.links_everywhere().links if (one.site, one.peer) == (site, f"{to}-1")]
    return link.state if link.rtt_ms > 40 else "not measured"


def _told(end: Client, site: str) -> float:
    """How old what is shown of the site's node is; 0: it was asked just now."""
    (shown,) = [one for one in end.sites().sites if one.name == site]
    return shown.nodes[0].age_s if shown.nodes[0].state == "up" else 0.0


def test_a_facts_actor_that_is_killed_knows_the_hints_again(lab: Lab, ends: dict[str, Client]) -> None:
    world, london = World(lab), ends["london"]
    london.put_hint("kept", "over a kill")
    writer = london.replica().writer
    world.kill("london-1", "ray::FactsKeeper")
    until("another life of it", lambda: _writer(london) not in ("", writer), 120.0)
    assert _hints(london)["hint/kept"] == "over a kill"
    london.remove_hint("kept")
    until("it is removed at the other site too", lambda: "hint/kept" not in _hints(ends["paris"]), KNOWN_S)


def _writer(end: Client) -> str:
    try:
        return end.replica().writer
    except Unreachable:
        return ""
