"""Both ways to move a guest, against an API and a libvirt that only pretend."""

import threading
import time
from collections.abc import Callable
from typing import Any, cast

import libvirt
import pytest

from actors.errors import GuestUnknown
from actors.migration.messages import JobView, MoveRequest
from api.cli.client import Client
from benchmarks.moving import movers
from benchmarks.moving.movers import LibvirtMover, NovaCronMover
from benchmarks.moving.rivals import PAUSE_MS, Tuning

_DEADLINE_S = 30.0


class Domain:
    """A domain whose migration does what `move` does."""

    def __init__(self, move: "Callable[[Domain], None]") -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.aborted = threading.Event()
        self._move = move

    def migrateSetMaxDowntime(self, downtime_ms: int) -> None:
        self.calls.append(("downtime", downtime_ms))

    def migrateToURI3(self, uri: str, params: dict[str, Any], flags: int) -> None:
        self.calls.append((uri, params, flags))
        self._move(self)

    def abortJob(self) -> None:
        self.aborted.set()


class Connection:
    """A libvirtd with one domain."""

    def __init__(self, domain: Domain) -> None:
        self._domain = domain

    def lookupByName(self, name: str) -> Domain:
        assert name == "g1"
        return self._domain


class Complaint(libvirt.libvirtError):  # type: ignore[misc]
    """libvirt's error, without libvirt."""

    def __init__(self, message: str) -> None:
        Exception.__init__(self, message)

    def get_error_message(self) -> str:
        return str(self)


def by_libvirt(domain: Domain) -> LibvirtMover:
    """A mover of that domain to paris-1."""
    return LibvirtMover(Connection(domain), {"paris-1": "10.77.2.11"}, "qemu-multifd", Tuning(channels=4))


def test_a_rival_is_told_its_target_and_its_pause() -> None:
    domain = Domain(lambda _: None)
    began = time.time()
    ended = by_libvirt(domain)("g1", "paris-1", _DEADLINE_S)
    assert ended.failure == ""
    assert began <= ended.at <= time.time()
    assert domain.calls[0] == ("downtime", PAUSE_MS)
    assert domain.calls[1][0] == "qemu+tcp://10.77.2.11:16509/system"
    assert domain.calls[1][1]["migrate_uri"].startswith("tcp://10.77.2.11:")


def test_a_rival_that_does_not_finish_is_aborted() -> None:
    def never(domain: Domain) -> None:
        assert domain.aborted.wait(_DEADLINE_S), "nobody aborted the move"
        raise Complaint("operation aborted")

    ended = by_libvirt(Domain(never))("g1", "paris-1", 0.05)
    assert ended.failure == "not finished within 0.05 s, aborted"


def test_a_rival_that_fails_gives_libvirts_reason() -> None:
    def fails(_: Domain) -> None:
        raise Complaint("unable to connect to server")

    domain = Domain(fails)
    assert by_libvirt(domain)("g1", "paris-1", _DEADLINE_S).failure == "unable to connect to server"
    assert not domain.aborted.is_set()


class Api:
    """An API whose job goes through `states`, the last one for ever, or to `cancelled` when it is cancelled."""

    def __init__(self, *states: str) -> None:
        self._states = list(states)
        self.requests: list[MoveRequest] = []
        self.cancelled = 0

    def submit(self, request: MoveRequest) -> JobView:
        self.requests.append(request)
        return self.job("j1")

    def job(self, job: str) -> JobView:
        state = self._states.pop(0) if len(self._states) > 1 else self._states[0]
        return JobView(
            id=job, guest="g1", source="london-1", target="paris-1", state=state, created_at=1.0, ended_at=1234.5,
            message="its text",
        )  # fmt: skip

    def cancel(self, job: str) -> JobView:
        self.cancelled += 1
        self._states = ["cancelled"]
        return self.job(job)


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(movers, "_POLL_S", 0.001)


def by_novacron(api: object) -> NovaCronMover:
    """A mover that asks `api`."""
    return NovaCronMover(cast(Client, api))


def test_novacrons_move_ends_when_its_job_says() -> None:
    api = Api("begin", "perform", "confirm", "completed")
    ended = by_novacron(api)("g1", "paris-1", _DEADLINE_S)
    assert (ended.at, ended.failure) == (1234.5, "")
    [request] = api.requests
    assert (request.guest, request.to, request.pause_ms) == ("g1", "paris-1", PAUSE_MS)
    assert request.key


def test_novacrons_move_that_fails_gives_its_reason() -> None:
    assert by_novacron(Api("begin", "failed"))("g1", "paris-1", _DEADLINE_S).failure == "its text"


def test_novacrons_move_that_does_not_finish_is_cancelled() -> None:
    api = Api("perform")
    assert by_novacron(api)("g1", "paris-1", 0.0).failure == "its text"
    assert api.cancelled == 1


def test_an_api_that_refuses_is_a_failure_too() -> None:
    class Refuses:
        def submit(self, _: MoveRequest) -> JobView:
            raise GuestUnknown(guest="g1")

    failure = by_novacron(Refuses())("g1", "paris-1", _DEADLINE_S).failure
    assert failure == str(GuestUnknown(guest="g1"))
