"""The benchmark of the exchange of facts: its rival, and what its rows say."""

import asyncio
import time

import pytest

from actors.errors import LinkDown
from actors.sync.facts import Facts
from actors.sync.messages import Step, Steps
from benchmarks.syncing import gossip, run
from benchmarks.syncing.gossip import Gossip


async def test_gossip_sends_everything_every_time_and_gives_up_on_a_site_that_is_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gossip, "COMPARE_S", 0.0)
    here, there = Facts("a"), Facts("b")
    for number in range(100):
        here.put(f"k/{number}", bytes(40), int(time.time() * 1000))
    receiver, said = Gossip(there, [], _nobody), []

    async def say(site: str, step: Step, deadline_s: float) -> Steps:
        if site == "away":
            raise LinkDown(node="a", peer=site, reason="cut")
        said.append(len(step.message))
        return receiver.receive(step)

    sender = Gossip(here, ["b", "away"], say)
    task = asyncio.create_task(sender.run())
    async with asyncio.timeout(10):
        while len(said) < 3:  # noqa: ASYNC110  nothing announces it
            await asyncio.sleep(0)
    task.cancel()
    assert min(said) == max(said) > 100 * 40
    assert there.digest("") == here.digest("")
    assert sender.sent_bytes >= 2 * sum(said[:3])


async def _nobody(site: str, step: Step, deadline_s: float) -> Steps:
    raise AssertionError


class FakeEnd:
    """A site whose replicas become equal to the others' at the third look."""

    def __init__(self, number: int) -> None:
        self.number, self.looks = number, 0

    def ask(self, write: list[str] | None = None) -> dict[str, object]:
        self.looks += 1
        mine = "same" if self.looks > 2 else f"{self.number}"
        return {
            "facts": 7, "digest": mine, "rival_digest": "same", "sent_bytes": 100 * self.looks,
            "rival_sent_bytes": 1000, "written_bytes": 50,
        }  # fmt: skip


def test_rows_say_what_each_system_needed_from_the_healing_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "_LOOK_S", 0.0)
    ends = {site: FakeEnd(number) for number, site in enumerate(("x", "y", "z"))}
    before = run._all(ends)  # type: ignore[arg-type]
    took = run._until_equal(ends, time.monotonic())  # type: ignore[arg-type]
    ours, rival = run._rows("after the cut", 10, ends, before, took, 50, 60.0)  # type: ignore[arg-type]
    assert set(ours) == set(run.COLUMNS)
    assert (ours["system"], ours["exchanged_bytes"], ours["ratio"]) == ("novacron", 600, 12.0)
    assert (rival["system"], rival["exchanged_bytes"], rival["converged_s"]) == (
        "full-state gossip", 0, rival["converged_s"],
    )  # fmt: skip
    assert rival["converged_s"] <= ours["converged_s"]
