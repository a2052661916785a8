"""The commands against a real server over the fake backend: what they print, their errors and exit codes."""

import json
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
import typer
from fastapi import FastAPI
from typer.testing import CliRunner, Result

from actors.control.commands import Override
from actors.errors import ActorDown, LinkDown, NoRoom
from actors.hypervisor.messages import Attributes, DiskSpec
from actors.migration.messages import CreateGuestAnywhere, FailOverGuest, MoveRequest, SiteView, SteerNodeLink
from api.cli import migrate as migrate_module
from api.cli.main import app as commands
from tests.unit.api.fake import RISK, TOKEN, FakeBackend, boot, component


class Cli:
    """Runs `novacron` in this process against one server."""

    def __init__(self, url: str, token: str = TOKEN) -> None:
        self._environment = {"NOVACRON_URL": url, "NOVACRON_TOKEN": token, "COLUMNS": "200"}

    def __call__(self, *arguments: str, typed: str = "") -> Result:
        return CliRunner().invoke(commands, list(arguments), input=typed, env=self._environment)

    def ok(self, *arguments: str, typed: str = "") -> str:
        """Standard output of a command that must succeed."""
        result = self(*arguments, typed=typed)
        assert result.exit_code == 0, (result.output, result.stderr, result.exception)
        return result.stdout

    def refused(self, exit_code: int, *arguments: str) -> str:
        """Standard error of a command that must fail with `exit_code` and without a traceback."""
        result = self(*arguments)
        assert result.exit_code == exit_code, (result.output, result.stderr, result.exception)
        assert isinstance(result.exception, SystemExit)
        assert "Traceback" not in result.stderr
        return result.stderr


@pytest.fixture
def cli(served: str) -> Cli:
    return Cli(served)


def test_nodes(cli: Cli, backend: FakeBackend) -> None:
    backend.site_list[1] = SiteView(name="paris", state="unreachable", nodes=[], reason="link down")
    result = cli("nodes")
    assert result.stdout.splitlines()[0].startswith("NODE")
    assert "madrid1" in result.stdout.splitlines()[1]
    assert "site paris is unreachable: link down" in result.stderr
    assert [site["name"] for site in json.loads(cli.ok("nodes", "--json"))["sites"]] == ["madrid", "paris"]


def test_cluster(cli: Cli, backend: FakeBackend) -> None:
    shown = cli.ok("cluster")
    assert "led by madrid1" in shown
    assert "paris1" in shown
    assert json.loads(cli.ok("cluster", "--json"))["members"][1]["lag"] == 2
    backend.control = msgspec.structs.replace(backend.control, leader="", settled=False)
    result = cli("cluster")
    assert result.exit_code == 6
    assert "nothing can be agreed on" in result.stdout


def test_members_come_and_go(cli: Cli, backend: FakeBackend) -> None:
    assert "rome1 is member 3." in cli.ok("member", "add", "rome1")
    assert [line.split()[1] for line in cli.ok("member", "list").splitlines()[1:]] == ["madrid1", "paris1", "rome1"]
    assert "already" in cli.refused(4, "member", "add", "rome1")
    assert "no member any more (it was number 2)" in cli.ok("member", "remove", "paris1", "--lost")
    assert backend.lost
    cli.refused(3, "member", "remove", "paris1")
    assert [one["number"] for one in json.loads(cli.ok("member", "list", "--json"))["members"]] == [1, 3]
    joins = [msgspec.structs.replace(one, votes=False, change="joins") for one in backend.control.members]
    backend.control = msgspec.structs.replace(backend.control, members=joins)
    assert "joins, has no vote yet" in cli.ok("member", "list")


def test_an_override_repeats_what_it_risks(cli: Cli, backend: FakeBackend) -> None:
    shown = cli.ok("override", "paris1", "--reason", "it burnt down", typed=f"{RISK}\n")
    assert RISK in shown
    assert "entry 12" in shown
    assert isinstance(backend.requests[-1], Override)
    assert (backend.requests[-1].nodes, backend.requests[-1].reason) == (("paris1",), "it burnt down")
    assert "Decreed" in cli.ok("override", "paris1", "--reason", "again", "--risk", RISK)
    cli.refused(4, "override", "paris1", "--reason", "again", "--risk", "whatever")


def test_a_guest_fails_over_once_its_lease_has_ended(cli: Cli, backend: FakeBackend) -> None:
    backend.leased = False
    shown = cli.ok("guest", "failover", "web1", "--to", "paris1", "--reason", "it burnt down", "--disks-here")
    assert "web1 is running on paris1" in shown
    asked = backend.requests[-1]
    assert isinstance(asked, FailOverGuest)
    assert (asked.by, asked.reason, asked.disks_here, asked.override) == ("operator:api", "it burnt down", True, False)


def test_a_failover_over_a_lease_repeats_what_it_risks(cli: Cli, backend: FakeBackend) -> None:
    order = ["guest", "failover", "web1", "--reason", "it burnt down"]
    assert "may still run web1" in cli.refused(4, *order)
    assert RISK in cli.refused(4, *order, "--override", "--risk", "whatever"), "the refusal passes through"
    assert backend.guest_list["web1"].node == "madrid1"
    wrong = cli(*order, "--override", typed="yes\n")
    assert (wrong.exit_code, backend.guest_list["web1"].node) == (4, "madrid1")
    done = cli(*order, "--override", "--json", typed=f"{RISK}\n")
    assert RISK in done.stderr
    # What is typed shows before the answer.
    assert json.loads(done.stdout[done.stdout.index("{") :])["node"] == "paris1"
    assert backend.requests[-1] == FailOverGuest(
        guest="web1", by="operator:api", reason="it burnt down", override=True, risk=RISK
    )


def test_the_audit_trail(cli: Cli, backend: FakeBackend) -> None:
    shown = cli.ok("audit")
    # The time of an entry is a day and an hour.
    assert [line.split()[4] for line in shown.splitlines()[1:]] == ["joinnode", "joinnode", "startguest", "override"]
    assert "startguest" not in cli.ok("audit", "--since", "7")
    assert [one["command"] for one in json.loads(cli.ok("audit", "--guest", "web1", "--json"))["entries"]] == [
        "startguest"
    ]
    backend.trail_missing = 3
    assert "6 entries are not at the member" in cli("audit").stderr
    backend.trail_fault = 2
    assert "number 2 does not follow" in cli.refused(7, "audit")


def test_links(cli: Cli) -> None:
    shown = cli.ok("links")
    assert "madrid1 → paris1" in shown
    assert "96.0 Mbit/s (80–104)" in shown
    assert json.loads(cli.ok("links", "--json"))["links"][0]["forecast"]["mean"] == 1.2e7


def test_facts_and_hints(cli: Cli) -> None:
    assert cli.ok("facts", "hint", "rack", "b7") == "hint/rack is 'b7'.\n"
    assert "hint/rack" in cli.ok("facts", "--prefix", "hint/")
    assert [one["key"] for one in json.loads(cli.ok("facts", "--json"))["facts"]] == [
        "hint/rack",
        "link/paris1/madrid1",
    ]
    assert "removed" in cli.ok("facts", "forget", "rack")
    shown = cli.ok("facts", "state")
    assert "2 facts at site madrid, 3 values not believed." in shown
    assert "paris1" in shown
    assert "paris1 → madrid1" in cli.ok("links", "--everywhere")
    assert json.loads(cli.ok("links", "--everywhere", "--json"))["links"][0]["age_s"] == 10.0


def test_rollout_flags(cli: Cli, backend: FakeBackend) -> None:
    assert "hde: killed." in cli.ok("flags", "kill", "hde", "--reason", "it spoils pages")
    assert backend.flag_list["hde"].killed
    assert "hde: 25 %." in cli.ok("flags", "set", "hde", "--percent", "25", "--off", "madrid1")
    assert backend.flag_list["hde"].nodes_off == {"madrid1"}
    assert not backend.flag_list["hde"].killed
    backend.agreed = False
    shown = cli("flags")
    assert "25 %" in shown.stdout
    assert "last known flags" in shown.stderr
    assert len(json.loads(cli.ok("flags", "--json"))["flags"]) == 6


def test_stores(cli: Cli) -> None:
    shown = cli.ok("store", "add", "/images/root.raw")
    assert [line.split()[:4] for line in shown.splitlines()[1:]] == [
        ["madrid1", "/images/root.raw", "raw", "ready"],
        ["paris1", "/images/root.raw", "raw", "ready"],
    ]
    assert "/images/root.raw" in cli.ok("store", "list", "--node", "paris1")
    assert json.loads(cli.ok("store", "stats", "--json"))["stores"][1]["hits"] == 512
    assert "paris1" in cli.ok("store", "stats")
    assert cli.ok("store", "remove", "/images/root.raw", "--node", "paris1") == (
        "/images/root.raw is no longer registered on paris1.\n"
    )
    # Where it is no longer registered is told; that is no failure as long as it was somewhere.
    assert "paris1: " in cli("store", "remove", "/images/root.raw").stderr
    assert "image /images/root.raw" in cli.refused(3, "store", "remove", "/images/root.raw", "--node", "madrid1")
    assert cli.ok("store", "clear", "--node", "madrid1") == "The store is empty on madrid1.\n"
    assert cli.ok("store", "list") == "No image is registered.\n"


def test_a_link_is_capped_and_forced(cli: Cli, app: FastAPI) -> None:
    assert "mode hybrid, at most 20.0 Mbit/s." in cli.ok("links", "cap", "paris1", "--mbit", "20")
    assert "mode internet (forced), no cap." in cli.ok("links", "mode", "paris1", "internet", "--node", "madrid1")
    assert json.loads(cli.ok("links", "cap", "paris1", "--mbit", "-1", "--json"))["peer"] == "paris1"
    orders = [each.order for each in app.state.backend.requests if isinstance(each, SteerNodeLink)]
    assert [(each.mode, each.cap_mbit) for each in orders] == [(None, 20.0), ("internet", None), (None, -1.0)]
    cli.refused(3, "links", "cap", "nowhere", "--mbit", "1")
    assert cli("links", "cap", "paris1", "--mbit", "-2").exit_code == 2


def test_links_are_exported_and_their_forecasts_judged(cli: Cli, tmp_path: Path, backend: FakeBackend) -> None:
    file = tmp_path / "links.csv"
    assert f"3 seconds of links in {file}." in cli.ok("links", "export", str(file))
    assert len(file.read_text().splitlines()) == 4
    assert "12.0%" in cli.ok("links", "accuracy")
    assert json.loads(cli.ok("links", "accuracy", "--json"))["reason"] == "no model is in use"
    backend.broken = ActorDown(service="predictor", reason="gone")
    cli.refused(6, "links", "export", str(tmp_path / "other.csv"))
    assert [path.name for path in tmp_path.iterdir()] == ["links.csv"]


def test_a_links_history_in_three_forms(cli: Cli) -> None:
    assert "50.5" in cli.ok("links", "history", "paris1")
    head, row = cli.ok("links", "history", "paris1", "--csv", "--hourly").splitlines()
    assert head.startswith("peer,at,span_s,rtt_ms")
    assert row.startswith("paris1,1700000000.0,3600,50.5,")
    assert json.loads(cli.ok("links", "history", "paris1", "--json"))["periods"][0]["acked_bytes"] == 1000


def test_status(cli: Cli, app: FastAPI) -> None:
    assert cli.ok("status").startswith("Ready (phase ready) after 1.5 s.")
    away = component("manager", "services", "retrying", "libvirt is away")
    app.state.boot_status = lambda: msgspec.structs.replace(boot(), ready=False, phase="services", components=[away])
    result = cli("status")
    assert result.exit_code == 6
    assert "libvirt is away" in result.stdout
    assert json.loads(cli("status", "--json").stdout)["components"][0]["state"] == "retrying"


def test_a_guests_life(cli: Cli, backend: FakeBackend) -> None:
    assert (
        cli.ok("guest", "create", "db1", "--kernel", "/boot/vmlinuz", "--node", "paris1")
        == "db1 is running on paris1.\n"
    )
    assert "db1" in cli.ok("guest", "list")
    for action, state in [("pause", "paused"), ("resume", "running"), ("stop", "shut-off"), ("start", "running")]:
        assert cli.ok("guest", action, "db1") == f"db1 is {state} on paris1.\n"
    assert json.loads(cli.ok("guest", "show", "db1", "--json"))["uuid"] == "uuid-of-db1"
    assert "paris1 (paris)" in cli.ok("guest", "show", "db1")
    assert "stop it first" in cli.refused(4, "guest", "delete", "db1").lower()
    cli.ok("guest", "stop", "db1", "--grace", "1")
    assert cli.ok("guest", "delete", "db1") == "db1 is gone.\n"
    assert "no node of this cluster has a guest named db1" in cli.refused(3, "guest", "show", "db1").lower()


def test_nodes_that_do_not_answer_are_named(cli: Cli, backend: FakeBackend) -> None:
    backend.silent = ["paris1"]
    result = cli("guest", "list")
    assert "web1" in result.stdout
    assert "do not answer, and may have more: paris1" in result.stderr


def test_labels_are_said_at_creation_and_later(cli: Cli, backend: FakeBackend) -> None:
    cli.ok("guest", "create", "db1", "--kernel", "/k", "--tenant", "acme", "--sites", "madrid, paris", "--apart", "db")
    assert backend.requests[-1].spec.attributes == Attributes(tenant="acme", sites=("madrid", "paris"), apart=("db",))
    told = cli.ok("guest", "label", "web1", "--together", "pair", "--near", "shop,app")
    assert "together  pair" in told
    cli.ok("guest", "label", "web1", "--near", "")
    assert cli.ok("guest", "show", "web1").count("pair") == 1
    assert backend.guest_list["web1"].attributes == Attributes(together=("pair",))
    assert "body.sites" in cli.refused(2, "guest", "label", "web1", "--sites", "no site")


def test_create_says_what_it_was_told(cli: Cli, backend: FakeBackend, tmp_path: Path) -> None:
    xml = tmp_path / "web9.xml"
    xml.write_text("<domain/>")
    cli.ok("guest", "create", "web9", "--xml", str(xml), "--no-start")
    cli.ok("guest", "create", "web8", "--disk", "vda=/srv/a.qcow2,qcow2,moves", "--disk", "vdb=,64", "--memory", "256")
    first, second = (request for request in backend.requests if isinstance(request, CreateGuestAnywhere))
    assert (first.spec.xml, first.start) == ("<domain/>", False)
    assert second.spec.memory_mib == 256
    assert second.spec.disks == [
        DiskSpec(target="vda", path="/srv/a.qcow2", format="qcow2", moves=True),
        DiskSpec(target="vdb", path="", format="raw", size_bytes=64 << 20),
    ]


@pytest.mark.parametrize(
    ("arguments", "exit_code", "said"),
    [
        (["guest", "create", "x", "--xml", "/nowhere.xml"], 2, "nowhere.xml"),
        (["guest", "create", "x", "--kind", "quantum"], 2, "memory, random, redis, python"),
        (["guest", "create", "x", "--kind", "memory", "--kernel", "/k"], 2, "choose one"),
        (["guest", "create", "x", "--disk", "vda"], 2, "TARGET=PATH"),
        (["guest", "create", "x", "--disk", "vda=/d,fast"], 2, "'fast'"),
        (["guest", "create", "a/b"], 2, "body.name"),
        (["guest", "create", "web1"], 4, "already has a guest"),
        (["guest", "show", "../../etc"], 3, "novacron"),
        (["guest", "show", "a b"], 2, "path.name"),
        (["migrate", "web7"], 3, "guest list"),
        (["migrate", "web1", "--to", "rome1"], 3, "novacron nodes"),
        (["migrate", "web1", "--to", "madrid1"], 2, "already runs on madrid1"),
        (["migrate", "web1", "--pause-ms", "0"], 2, "pause-ms"),
        (["migrations", "show", "job-9"], 3, "There is no migration job-9"),
        (["bench", "nonsense"], 3, "benchmark nonsense"),
        (["nonsense"], 2, "nonsense"),
    ],
)
def test_what_can_not_be(cli: Cli, arguments: list[str], exit_code: int, said: str) -> None:
    assert said in cli.refused(exit_code, *arguments)


def test_errors_of_the_backend_keep_their_exit_code_and_next_step(cli: Cli, backend: FakeBackend) -> None:
    backend.broken = NoRoom(node="paris1", guest="web1", needs_mib=512, resource="memory", free_mib=100)
    said = cli.refused(4, "migrate", "web1")
    assert str(backend.broken) in said
    assert backend.broken.next_step in said
    backend.broken = ActorDown(service="manager@madrid1", reason="it was killed")
    assert "it was killed" in cli.refused(6, "guest", "list")


def test_a_wrong_token(served: str) -> None:
    assert "token" in Cli(served, "wrong").refused(5, "guest", "list")


def test_an_api_that_is_not_there() -> None:
    assert "Can't reach the API at http://127.0.0.1:9" in Cli("http://127.0.0.1:9").refused(6, "guest", "list")


def test_migrate(cli: Cli, backend: FakeBackend) -> None:
    result = cli("migrate", "web1", "--to", "paris1", "--pause-ms", "100")
    assert result.exit_code == 0, result.stderr
    (request,) = [request for request in backend.requests if isinstance(request, MoveRequest)]
    assert (request.guest, request.to, request.pause_ms) == ("web1", "paris1", 100)
    assert request.key, "the request can be repeated"
    assert "web1: copying while it runs · 20.0 MiB sent for 256.0 MiB · 96.0 Mbit/s · round 1" in result.stderr
    assert "ready in 3–6 s" in result.stderr
    words = " ".join(result.stdout.split())
    assert (
        "total time 9.0 s pause 42 ms · 50 ms predicted · last pages 2, device state 10, round trips 20, resume 10"
        in words
    )
    assert "sent 40.0 MiB for 256.0 MiB of guest, 6.4 times less" in words
    assert "zstd 5000 19.5 MiB 5.7 MiB 500 ms" in words


def test_without_a_pause_the_site_decides(cli: Cli, backend: FakeBackend) -> None:
    cli.ok("migrate", "web1", "--if-stalled", "cancel")
    (request,) = [request for request in backend.requests if isinstance(request, MoveRequest)]
    assert (request.pause_ms, request.if_stalled) == (0, "cancel")


def test_another_pause_for_a_move_under_way(cli: Cli, backend: FakeBackend) -> None:
    backend.finishes = False
    cli.ok("migrate", "web1", "--detach")
    (job,) = backend.job_list
    assert f"{job} may pause web1 for about 900 ms." in cli.ok("migrations", "set", job, "--pause-ms", "900")
    assert "pause-ms" in cli.refused(2, "migrations", "set", job)


def test_migrate_as_json_lines(cli: Cli) -> None:
    events = [json.loads(line) for line in cli.ok("migrate", "web1", "--json").splitlines()]
    assert [event["seq"] for event in events] == [1, 2, 3]
    assert events[-1]["job"]["state"] == "completed"


def test_detached(cli: Cli, backend: FakeBackend) -> None:
    backend.finishes = False
    assert cli.ok("migrate", "web1", "--detach") == "job-1: web1 goes from madrid1 to paris1.\n"
    assert "job-1" in cli.ok("migrations", "list", "--guest", "web1")
    assert cli.ok("migrations", "list", "--guest", "web2") == "There are no migrations.\n"
    assert "cancelled" in cli.ok("migrations", "cancel", "job-1")
    assert json.loads(cli.ok("migrations", "show", "job-1", "--json"))["state"] == "cancelled"


def test_a_move_that_fails_ends_with_its_own_error(cli: Cli, backend: FakeBackend) -> None:
    backend.finishes = False
    submit = backend.submit
    error = LinkDown(node="madrid1", peer="paris1", reason="no answer for 5 s")

    async def doomed(request: MoveRequest) -> object:
        job = await submit(request)
        backend.go(job.id, state="failed", ended_at=5.0, error=error.code, error_fields=error.fields)
        return job

    backend.submit = doomed  # type: ignore[method-assign, assignment]
    said = cli.refused(6, "migrate", "web1")
    assert str(error) in said
    assert error.next_step in said


def test_the_stream_is_resumed_where_it_broke(cli: Cli, backend: FakeBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """A problem in mid-stream stands for any break: the client comes back with the last id it saw."""
    monkeypatch.setattr("api.cli.client.STREAM_RETRY_S", 0.0)
    monkeypatch.setattr("api.events.follow.__kwdefaults__", {"wait_s": 0.1, "retry_s": 0.0, "patience_s": -1.0})
    backend.batch = 1
    events = backend.events
    asked: list[int] = []

    async def breaking(request: object) -> object:
        asked.append(request.after)  # type: ignore[attr-defined]
        if len(asked) == 2:
            raise ActorDown(service="manager@madrid1", reason="killed")
        return await events(request)  # type: ignore[arg-type]

    backend.events = breaking  # type: ignore[method-assign, assignment]
    lines = cli.ok("migrate", "web1", "--json").splitlines()
    assert [json.loads(line)["seq"] for line in lines] == [1, 2, 3]
    assert asked == [0, 1, 1, 2]


def test_interrupted_by_the_operator(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(migrate_module, "follow", interrupted)
    assert "migrations show job-1" in cli.refused(130, "migrate", "web1")


def test_config_check_names_every_problem(tmp_path: Path) -> None:
    file = tmp_path / "node.yaml"
    file.write_text("node:\n  name: a\n  colour: red\ntopology:\n  sites: []\n")
    said = Cli("http://unused").refused(2, "config", "check", str(file))
    assert f"{file}:3: node.colour" in said
    assert "topology.sites" in said
    file.write_text("node: {name: a}\ntopology:\n  sites:\n  - name: s\n    nodes: [{name: a, address: 10.0.0.1}]\n")
    assert "is valid" in Cli("http://unused").ok("config", "check", str(file))
    assert json.loads(Cli("http://unused").ok("config", "schema"))["properties"]["node"]


def test_ca(tmp_path: Path) -> None:
    cli, folder = Cli("http://unused"), str(tmp_path / "ca")
    cli.ok("ca", "init", "--dir", folder)
    assert "madrid1.key" in cli.ok("ca", "issue", "madrid1", "--site", "madrid", "--dir", folder)
    assert "authority already" in cli.refused(4, "ca", "init", "--dir", folder)
    assert "new and old" in cli.ok("ca", "rotate", "--dir", folder)
    assert (tmp_path / "ca" / "ca.pem").read_text().count("BEGIN CERTIFICATE") == 2
    cli.refused(7, "ca", "rotate", "--dir", str(tmp_path))
    cli.refused(7, "ca", "issue", "madrid1", "--site", "madrid", "--dir", str(tmp_path))


def test_bench_finds_benchmarks_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    made = typer.Typer()

    @made.command()
    def measure(json: Path) -> None:
        """Measure something."""
        typer.echo(f"into {json}")

    import benchmarks.report

    monkeypatch.setattr(benchmarks.report, "app", made, raising=False)
    assert "report" in Cli("http://unused").ok("bench", "--help")
    assert Cli("http://unused").ok("bench", "report", "out.json") == "into out.json\n"


def test_help_needs_nothing_heavy() -> None:
    """What would make `novacron --help` slow is not even imported for it."""
    heavy = ["ray", "fastapi", "httpx2", "pydantic", "libvirt", "cryptography", "numpy", "rich.progress", "stamina"]
    code = f"import sys, api.cli.main; print([name for name in {heavy} if name in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert shown.stdout.strip() == "[]"


def test_every_command_explains_itself() -> None:
    group = typer.main.get_command(commands)

    def walk(command: object, path: list[str]) -> None:
        assert command.help, path  # type: ignore[attr-defined]
        for name, child in getattr(command, "commands", {}).items():
            walk(child, [*path, name])

    walk(group, ["novacron"])
