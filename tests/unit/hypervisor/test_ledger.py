"""The ledger of moves, its file, states, errors, outcomes, keepalive: the agent's small decisions."""

from pathlib import Path

import pytest

from actors.errors import BodyInvalid, Failed, GuestExists, GuestUnknown, HypervisorDown, HypervisorFailed
from actors.hypervisor.engine import keepalive, outcome
from actors.hypervisor.engine.ledger import JobRecord, Ledger
from actors.hypervisor.engine.names import file_path, guest_name, inside, job_id
from actors.hypervisor.engine.states import error_of, guest_state, version_text
from actors.hypervisor.messages import GuestInfo
from actors.hypervisor.store import LedgerStore

OUT = JobRecord(job="j1", guest="web1", role="outgoing", peer="b", started=True, was_running=True)
DB = GuestInfo(name="db", uuid="u", node="b", site="s", state="running", memory_mib=512, vcpus=1)
IN = JobRecord(job="j2", guest="db", role="incoming", peer="b", coming=DB)


def test_ledger_knows_frozen_guests_and_promised_memory() -> None:
    ledger = Ledger().put(OUT).put(IN)
    assert ledger.of_guest("web1") == OUT
    assert ledger.of_guest("other") is None
    assert (ledger.incoming("db"), ledger.incoming("web1")) == (True, False)
    assert ledger.reserved_mib(frozenset()) == 512
    assert ledger.reserved_mib(frozenset({"db"})) == 0, "once it is here it counts as a guest"
    assert ledger.reserved_mib(frozenset(), but_for="j2") == 0
    assert ledger.drop("j2").expected() == []


def test_of_jobs_that_ended_the_last_are_known() -> None:
    ledger = Ledger().put(IN).drop("j2").drop("never-began").drop("j2")
    assert (ledger.jobs, ledger.ended) == ({}, ["never-began", "j2"])
    for number in range(300):
        ledger = ledger.drop(f"m-{number}")
    assert ledger.ended == [f"m-{number}" for number in range(44, 300)]


def test_events_are_kept_for_guests_that_move_only() -> None:
    ledger = Ledger().put(OUT).put(IN)
    assert ledger.seen("other", "STOP", 5.0) == ledger
    assert ledger.seen("web1", "STOP", 5.0).jobs["j1"].stopped_at == 5.0
    assert ledger.seen("db", "RESUME", 6.0).jobs["j2"].resumed_at == 6.0
    frozen = Ledger().put(JobRecord(job="j", guest="web1", role="outgoing", peer="b"))
    assert frozen.seen("web1", "STOP", 5.0) == frozen, "not before libvirt was asked to move"


def test_ledger_survives_on_disk(tmp_path: Path) -> None:
    store = LedgerStore(tmp_path / "new" / "jobs.json")
    store.change(lambda ledger: ledger.put(OUT).put(IN))
    assert LedgerStore(tmp_path / "new" / "jobs.json").now == Ledger().put(OUT).put(IN)


def test_failing_change_changes_nothing(tmp_path: Path) -> None:
    store = LedgerStore(tmp_path / "jobs.json")
    store.change(lambda ledger: ledger.put(OUT))
    with pytest.raises(KeyError):
        store.change(lambda ledger: ledger.put(ledger.jobs["none"]))
    assert LedgerStore(tmp_path / "jobs.json").now == store.now == Ledger().put(OUT)


@pytest.mark.parametrize("content", [b"", b"{", b'{"jobs": 1}', b'{"jobs": {"j": {"job": "j"}}}'])
def test_damaged_ledger_is_never_taken_for_an_empty_one(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "jobs.json").write_bytes(content)
    with pytest.raises(Failed, match="can't be read"):
        LedgerStore(tmp_path / "jobs.json")


@pytest.mark.parametrize(
    "number, reason, incoming, expected",
    [
        (1, 0, False, "running"),
        (1, 0, True, "running"),
        (2, 0, False, "running"),
        (3, 2, False, "paused"),
        (3, 2, True, "incoming"),
        (3, 11, True, "incoming"),
        (3, 0, True, "incoming"),
        (5, 1, False, "shut-off"),
        (5, 3, False, "crashed"),
        (6, 0, False, "crashed"),
        (0, 0, False, "shut-off"),
    ],
)
def test_states(number: int, reason: int, incoming: bool, expected: str) -> None:
    assert guest_state(number, reason, incoming=incoming) == expected


@pytest.mark.parametrize(
    "code, domain, kind",
    [
        (42, 10, GuestUnknown),
        (28, 10, GuestExists),
        (5, 13, HypervisorDown),
        (38, 7, HypervisorDown),
        (1, 7, HypervisorDown),
        (39, 7, HypervisorDown),
        (38, 10, HypervisorFailed),
        (1, 10, HypervisorFailed),
        (55, 10, HypervisorFailed),
    ],
)
def test_errors_keep_libvirts_words(code: int, domain: int, kind: type[Exception]) -> None:
    error = error_of("b", "web1", "what libvirt said", code, domain)
    assert type(error) is kind
    if isinstance(error, HypervisorFailed):
        assert error.fields["libvirt_code"] == code
        assert "what libvirt said" in str(error)


def test_unknown_guest_without_a_name_is_libvirts_error() -> None:
    assert type(error_of("b", "", "gone", 42, 10)) is HypervisorFailed


@pytest.mark.parametrize(
    "started, state, calling, job_type, expected",
    [
        (False, "running", False, 0, "none"),
        (True, "running", True, 0, "running"),
        (True, "running", False, 2, "running"),
        (True, "paused", False, 1, "running"),
        (True, "absent", True, 0, "succeeded"),
        (True, "absent", False, 0, "succeeded"),
        (True, "running", False, 0, "failed"),
        (True, "paused", False, 0, "failed"),
        (True, "shut-off", False, 0, "failed"),
        (True, "crashed", False, 3, "failed"),
    ],
)
def test_source_account(started: bool, state: str, calling: bool, job_type: int, expected: str) -> None:
    record = JobRecord(job="j", guest="g", role="outgoing", peer="b", started=started, reason="why", libvirt_code=78)
    status = outcome.outgoing(record, state, {"type": job_type, "memory_total": 9}, calling=calling)
    assert (status.outcome, status.guest_state, status.memory_total) == (expected, state, 9)
    assert (status.reason, status.libvirt_code) == (("why", 78) if expected == "failed" else ("", 0))


@pytest.mark.parametrize(
    "state, expected",
    [
        ("absent", "running"), ("incoming", "running"), ("running", "succeeded"), ("paused", "succeeded"),
        ("crashed", "failed"), ("shut-off", "failed"),
    ],
)  # fmt: skip
def test_target_account(state: str, expected: str) -> None:
    assert outcome.incoming(IN, state, {}).outcome == expected


@pytest.mark.parametrize(
    "text, seconds",
    [
        ("", 5),
        ("#keepalive_interval = -1\n", 5),
        ("keepalive_interval = -1\n", -1),
        (" keepalive_interval=30 # why\nkeepalive_interval = 0", 0),
        ("keepalive_interval = 0\nkeepalive_interval = 7", 7),
        ("xkeepalive_interval = -1", 5),
    ],
)
def test_keepalive_is_read_as_libvirt_reads_it(text: str, seconds: int) -> None:
    assert keepalive.interval_s(text) == seconds
    assert bool(keepalive.problems({"/etc/libvirt/qemu.conf": text})) == (seconds > 0)


@pytest.mark.parametrize("job", ["", ".", "..", "a/b", "-a", "a" * 65, "a\0", "ä", "a\n"])
def test_job_id_is_a_plain_folder_name(job: str) -> None:
    with pytest.raises(BodyInvalid):
        job_id(job)


@pytest.mark.parametrize("path", ["", "a", "/a/../b", "/a//b", "/a/", "/a\n", "//a", "/ä", "/a/./b"])
def test_path_is_absolute_and_plain(path: str) -> None:
    with pytest.raises(BodyInvalid):
        file_path(path)


def test_names_that_are_fine() -> None:
    assert guest_name("web-1.a_b+c") == "web-1.a_b+c"
    assert job_id("01J-x.2") == "01J-x.2"
    assert file_path("/a b/c.raw") == "/a b/c.raw"
    assert inside("/a/b/c", ("/a",)) and not inside("/ab/c", ("/a",)) and not inside("/a", ("/a",))


def test_versions() -> None:
    assert version_text(10_000_002) == "10.0.2"
