"""``node drain``, ``rebalance`` and ``sweeps``: what they ask for, show and exit with."""

import json

import pytest

from actors.control.commands import DrainNode
from actors.migration.messages import SweepRequest
from tests.unit.api.fake import FakeBackend
from tests.unit.api.test_cli import Cli


@pytest.fixture
def cli(served: str) -> Cli:
    return Cli(served)


def test_a_dry_run_shows_the_plan_and_drains_nothing(cli: Cli, backend: FakeBackend) -> None:
    told = cli.ok("node", "drain", "madrid1", "--dry-run")
    assert "1. web1 madrid1 → paris1 is planned" in told
    assert "without: madrid1 keeps it" in told
    assert "db1 stays on madrid1 (rule sovereignty): allowed sites are madrid" in told
    assert backend.requests == [SweepRequest(node="madrid1", dry_run=True)]


def test_a_drain_is_agreed_on_first_and_followed_to_its_end(cli: Cli, backend: FakeBackend) -> None:
    told = cli.ok("node", "drain", "madrid1", "--part-groups")
    assert backend.requests[:2] == [
        DrainNode(node="madrid1", draining=True),
        SweepRequest(node="madrid1", part_groups=True),
    ]
    assert "web1 madrid1 → paris1 is completed m-1" in told
    assert "s-1 is completed: 1 of 1 moves were made." in told
    assert "takes guests again" in cli.ok("node", "undrain", "madrid1")
    assert backend.requests[-1] == DrainNode(node="madrid1", draining=False)


def test_a_rebalancing_has_a_budget(cli: Cli, backend: FakeBackend) -> None:
    shown = json.loads(cli.ok("rebalance", "--most", "2", "--dry-run", "--json"))
    assert (shown["state"], backend.requests) == ("planned", [SweepRequest(dry_run=True, most=2)])
    cli.ok("rebalance", "--detach")
    assert "s-1" in cli.ok("sweeps", "list")
    assert "s-1, completed" in cli.ok("sweeps", "show", "s-1")
    assert "being cancelled" in cli.ok("sweeps", "cancel", "s-1")


def test_what_is_not_there(cli: Cli) -> None:
    assert "zz" in cli.refused(3, "node", "drain", "zz")
    assert "s-9" in cli.refused(3, "sweeps", "show", "s-9")
