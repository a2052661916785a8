"""Each route: what it asks the backend and what it answers."""

import httpx2
import msgspec
import pytest
from fastapi import FastAPI

from actors.control.commands import SetFlag
from actors.control.messages import TrailQuery
from actors.errors import Unreachable
from actors.hypervisor.messages import DiskSpec, GuestSpec
from actors.migration.messages import CreateGuestAnywhere, GuestAction, MoveRequest, SiteView, StoreQuery
from tests.unit.api.fake import FakeBackend, boot, component


async def test_sites_and_nodes(client: httpx2.AsyncClient, backend: FakeBackend) -> None:
    backend.site_list[1] = SiteView(name="paris", state="unreachable", nodes=[], reason="link down")
    sites = (await client.get("/v1/sites")).json()["sites"]
    assert [(site["name"], site["state"], len(site["nodes"])) for site in sites] == [
        ("madrid", "up", 1),
        ("paris", "unreachable", 0),
    ]
    nodes = (await client.get("/v1/nodes")).json()
    assert [node["node"] for node in nodes["nodes"]] == ["madrid1"]
    assert nodes["unreachable"] == [{"site": "paris", "reason": "link down"}]


async def test_the_members_of_the_control_state(client: httpx2.AsyncClient) -> None:
    view = (await client.get("/v1/cluster")).json()
    assert (view["leader"], view["term"], view["commit"]) == ("madrid1", 3, 8)
    assert [(member["node"], member["lag"]) for member in view["members"]] == [("madrid1", 0), ("paris1", 2)]


async def test_members_come_and_go(client: httpx2.AsyncClient) -> None:
    added = await client.post("/v1/members", json={"node": "rome1"})
    assert (added.status_code, added.json()["number"]) == (202, 3)
    listed = (await client.get("/v1/members")).json()["members"]
    assert [(one["node"], one["change"]) for one in listed] == [("madrid1", ""), ("paris1", ""), ("rome1", "")]
    removed = await client.delete("/v1/members/madrid1")
    assert (removed.status_code, removed.json()["number"]) == (202, 1)
    assert (await client.delete("/v1/members/madrid1")).status_code == 404
    again = await client.post("/v1/members", json={"node": "rome1"})
    assert (again.status_code, again.json()["fields"]["refusal"]) == (409, "already")
    for wrong in ({}, {"node": "No Node"}, {"node": "rome1", "role": "witness"}):
        assert (await client.post("/v1/members", json=wrong)).status_code == 422


async def test_a_failover_tells_what_it_risks_and_what_is_lost(
    client: httpx2.AsyncClient, backend: FakeBackend
) -> None:
    path = "/v1/guests/web1/failover"
    refused = await client.post(path, json={"reason": "burnt"})
    assert (refused.status_code, refused.json()["fields"]["refusal"]) == (409, "lease-held")
    asked = await client.post(path, json={"reason": "burnt", "override": True})
    assert (asked.status_code, asked.json()["fields"]["refusal"]) == (409, "risk-changed")
    risk = asked.json()["fields"]["detail"]
    done = await client.post(path, json={"to": "paris1", "reason": "burnt", "override": True, "risk": risk})
    assert (done.status_code, done.json()["guest"]["node"]) == (200, "paris1")
    assert "disks" in done.json()["detail"]
    for wrong in ({}, {"reason": ""}, {"reason": "x", "to": "No Node"}, {"reason": "x", "force": True}):
        assert (await client.post(path, json=wrong)).status_code == 422


async def test_one_node(client: httpx2.AsyncClient, backend: FakeBackend) -> None:
    assert (await client.get("/v1/nodes/paris1")).json()["site"] == "paris"
    assert (await client.get("/v1/nodes/rome1")).json()["code"] == "node-unknown"
    backend.site_list[1] = SiteView(name="paris", state="unreachable", nodes=[], reason="link down")
    answer = await client.get("/v1/nodes/paris1")
    assert (answer.status_code, answer.json()["code"]) == (503, "unreachable"), "whether it exists is not known"


async def test_a_nodes_store(client: httpx2.AsyncClient, backend: FakeBackend) -> None:
    path = "/v1/nodes/madrid1/store"
    added = await client.post(f"{path}/images", json={"path": "/images/root.raw"})
    assert (added.status_code, added.json()["images"][0]["path"]) == (202, "/images/root.raw")
    assert (await client.get(path)).json()["blocks"] == 1024
    assert (await client.delete(f"{path}/images", params={"path": "/images/other"})).json()["code"] == "not-found"
    assert (await client.delete(f"{path}/images", params={"path": "/images/root.raw"})).json()["images"] == []
    assert (await client.delete(path)).status_code == 200
    assert (await client.get("/v1/nodes/rome1/store")).json()["code"] == "node-unknown"
    assert (await client.post(f"{path}/images", json={"path": "relative"})).status_code == 422
    asked = [(request.action, request.path) for request in backend.requests if isinstance(request, StoreQuery)]
    assert asked[:3] == [("add", "/images/root.raw"), ("show", ""), ("remove", "/images/other")]
    assert asked[4] == ("clear", "")


async def test_create_guest_carries_every_field(client: httpx2.AsyncClient, backend: FakeBackend) -> None:
    body = {
        "name": "db1", "node": "paris1", "start": False, "memory_mib": 1024, "vcpus": 2, "kernel": "/boot/vmlinuz",
        "initrd": "/boot/initrd", "cmdline": "console=ttyS0 nova.load=64,2000,64", "console": "/tmp/console",
        "disks": [{"target": "vda", "path": "/images/db1.raw", "size_bytes": 1 << 30, "moves": True}],
    }  # fmt: skip
    answer = await client.post("/v1/guests", json=body)
    assert answer.status_code == 201, answer.text
    assert answer.headers["location"] == "/v1/guests/db1"
    assert answer.json()["state"] == "shut-off"
    disk = DiskSpec(target="vda", path="/images/db1.raw", format="raw", size_bytes=1 << 30, moves=True)
    spec = GuestSpec(
        name="db1", memory_mib=1024, vcpus=2, kernel="/boot/vmlinuz", initrd="/boot/initrd",
        cmdline="console=ttyS0 nova.load=64,2000,64", disks=[disk], console="/tmp/console",
    )  # fmt: skip
    assert backend.requests == [CreateGuestAnywhere(spec=spec, node="paris1", start=False)]


async def test_a_guests_life(client: httpx2.AsyncClient, backend: FakeBackend) -> None:
    for action, state in [("pause", "paused"), ("resume", "running"), ("stop", "shut-off"), ("start", "running")]:
        answer = await client.post(f"/v1/guests/web1/{action}", params={"grace_s": 2.5} if action == "stop" else {})
        assert (answer.status_code, answer.json()["state"]) == (200, state)
        assert (await client.get("/v1/guests/web1")).json()["state"] == state
    assert GuestAction(name="web1", action="stop", grace_s=2.5) in backend.requests
    assert (await client.delete("/v1/guests/web1")).json()["code"] == "guest-running"
    await client.post("/v1/guests/web1/stop")
    gone = await client.delete("/v1/guests/web1")
    assert (gone.status_code, gone.content) == (204, b"")
    assert (await client.get("/v1/guests")).json() == {"guests": [], "silent": []}
    assert (await client.get("/v1/guests/web1")).json()["code"] == "guest-unknown"


async def test_migrate(client: httpx2.AsyncClient, backend: FakeBackend) -> None:
    answer = await client.post("/v1/guests/web1/migrations", json={"to": "paris1", "pause_ms": 100})
    assert answer.status_code == 202
    job = answer.json()
    assert answer.headers["location"] == f"/v1/migrations/{job['id']}"
    assert backend.requests == [MoveRequest(guest="web1", to="paris1", pause_ms=100)]
    now = (await client.get(answer.headers["location"])).json()
    assert (now["state"], now["owner"], now["progress"]["layers"]["zstd"]["pages"]) == ("completed", "paris1", 5000)


async def test_the_pause_of_a_move_can_be_changed(client: httpx2.AsyncClient, backend: FakeBackend) -> None:
    backend.finishes = False
    job = (await client.post("/v1/guests/web1/migrations", json={"if_stalled": "cancel"})).json()
    assert backend.requests == [MoveRequest(guest="web1", if_stalled="cancel")]
    answer = await client.patch(f"/v1/migrations/{job['id']}", json={"pause_ms": 900})
    assert (answer.status_code, answer.json()["pause_budget_ms"]) == (200, 900)
    assert (await client.patch(f"/v1/migrations/{job['id']}", json={"pause_ms": 0})).status_code == 422
    assert (await client.patch("/v1/migrations/m-none", json={"pause_ms": 900})).json()["code"] == "job-unknown"


async def test_the_same_key_is_the_same_migration(client: httpx2.AsyncClient, backend: FakeBackend) -> None:
    ids = [
        (await client.post("/v1/guests/web1/migrations", json={}, headers={"Idempotency-Key": key})).json()["id"]
        for key in ("k1", "k1", "k2")
    ]
    assert ids[0] == ids[1] != ids[2]


async def test_list_migrations(client: httpx2.AsyncClient, backend: FakeBackend) -> None:
    await client.post("/v1/guests", json={"name": "web2"})
    for name in ("web1", "web2", "web1"):
        await client.post(f"/v1/guests/{name}/migrations", json={})
    assert [job["id"] for job in (await client.get("/v1/migrations")).json()["jobs"]] == ["job-3", "job-2", "job-1"]
    of_web1 = await client.get("/v1/migrations", params={"guest": "web1", "limit": 1})
    assert [job["id"] for job in of_web1.json()["jobs"]] == ["job-3"]


async def test_cancel(client: httpx2.AsyncClient, backend: FakeBackend) -> None:
    backend.finishes = False
    job = (await client.post("/v1/guests/web1/migrations", json={})).json()["id"]
    for _ in range(2):
        assert (await client.post(f"/v1/migrations/{job}/cancel")).json()["state"] == "cancelled"
    backend.finishes = True
    job = (await client.post("/v1/guests/web1/migrations", json={})).json()["id"]
    assert (await client.post(f"/v1/migrations/{job}/cancel")).json()["code"] == "past-no-return"


async def test_links(client: httpx2.AsyncClient) -> None:
    link = (await client.get("/v1/links")).json()["links"][0]
    assert (link["link"]["samples"][0]["rtt_ms"], link["forecast"]["method"]) == (50.5, "ewma")


async def test_links_are_steered(client: httpx2.AsyncClient) -> None:
    answer = await client.patch("/v1/links/madrid1/paris1", json={"mode": "datacenter", "cap_mbit": 8})
    assert (answer.json()["mode"], answer.json()["mode_forced"]) == ("datacenter", True)
    assert answer.json()["cap_bytes_per_s"] == 1_000_000
    for wrong in ({"mode": "fast"}, {"cap_mbit": -2}, {"caps": 1}):
        assert (await client.patch("/v1/links/madrid1/paris1", json=wrong)).status_code == 422
    assert (await client.patch("/v1/links/paris1/madrid1", json={})).json()["code"] == "node-unknown"


async def test_recorded_links_are_csv_in_traces_without_pauses(
    client: httpx2.AsyncClient, backend: FakeBackend
) -> None:
    answer = await client.get("/v1/links/recorded?since=5")
    assert answer.headers["content-type"].startswith("text/csv")
    head, *rows = answer.text.splitlines()
    assert head.startswith("trace_id,group,t,bw_mbps,rtt_ms")
    assert [row.split(",")[:4] for row in rows] == [
        ["madrid1-paris1-1700000000", "madrid1-paris1", "0.000", "100.0000"],
        ["madrid1-paris1-1700000000", "madrid1-paris1", "1.000", "100.0000"],
        ["madrid1-paris1-1700000090", "madrid1-paris1", "0.000", "100.0000"],
    ]
    backend.broken = Unreachable(what="the predictor")
    assert (await client.get("/v1/links/recorded")).status_code == 503


async def test_what_forecasts_were_worth(client: httpx2.AsyncClient) -> None:
    found = (await client.get("/v1/links/accuracy")).json()
    assert (found["accuracies"][0]["role"], found["accuracies"][0]["wape"]) == ("spoke", 0.12)
    assert (
        'novacron_forecast_coverage{horizon_s="5",node="madrid1",peer="paris1",role="spoke"} 0.82'
        in (await client.get("/metrics")).text
    )


async def test_a_links_history(client: httpx2.AsyncClient) -> None:
    found = (await client.get("/v1/links/madrid1/paris1/history?span_s=3600")).json()["periods"]
    assert (found[0]["span_s"], found[0]["mode"]) == (3600, "internet")
    assert (await client.get("/v1/links/madrid1/paris1/history?span_s=60")).status_code == 400


async def test_health_and_readiness(client: httpx2.AsyncClient, app: FastAPI) -> None:
    assert (await client.get("/healthz")).json() == {"status": "ok"}
    assert (await client.get("/readyz")).status_code == 200
    manager = component("manager", "services", "retrying", "libvirt is away")
    status = msgspec.structs.replace(boot(), ready=False, phase="services", components=[manager])
    app.state.boot_status = lambda: status
    answer = await client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json() == msgspec.to_builtins(status)


@pytest.mark.parametrize("broken", [False, True])
async def test_metrics(client: httpx2.AsyncClient, backend: FakeBackend, broken: bool) -> None:
    from actors.errors import ActorDown

    await client.get("/v1/guests/web1")
    await client.get("/v1/nowhere/at/all")
    backend.broken = ActorDown(service="manager@madrid1", reason="gone") if broken else None
    text = (await client.get("/metrics")).text
    assert 'novacron_api_requests_total{method="GET",route="/v1/guests/{name}",status="200"} 1.0' in text
    assert 'novacron_api_requests_total{method="any",route="none",status="404"} 1.0' in text
    assert f"novacron_manager_answers {0.0 if broken else 1.0}" in text
    assert ('novacron_link_rtt_seconds{node="madrid1",peer="paris1"} 0.0505' in text) is not broken
    assert ('novacron_store_blocks{node="madrid1"} 1024.0' in text) is not broken
    assert ('novacron_store_hits{node="madrid1"} 512.0' in text) is not broken
    assert 'novacron_store_blocks{node="paris1"}' not in text, "each site tells of its own stores"


async def test_a_scrape_storm_costs_one_round_of_calls(client: httpx2.AsyncClient, backend: FakeBackend) -> None:
    calls = 0
    real = backend.sites

    async def counted() -> object:
        nonlocal calls
        calls += 1
        return await real()

    backend.sites = counted  # type: ignore[method-assign, assignment]
    for _ in range(5):
        assert (await client.get("/metrics")).status_code == 200
    assert calls == 1


async def test_facts_and_hints(client: httpx2.AsyncClient, backend: FakeBackend) -> None:
    assert (await client.put("/v1/hints/rack", json={"value": "b7"})).json()["value"] == "b7"
    assert backend.hints == {"hint/rack": b'"b7"'}
    facts = (await client.get("/v1/facts", params={"prefix": "hint/"})).json()
    assert [(fact["key"], fact["value"], fact["age_s"]) for fact in facts["facts"]] == [("hint/rack", "b7", 10.0)]
    first = (await client.get("/v1/facts", params={"limit": 1})).json()
    assert (first["facts"][0]["key"], first["more"]) == ("hint/rack", True)
    rest = (await client.get("/v1/facts", params={"after": "hint/rack"})).json()
    assert [fact["key"] for fact in rest["facts"]] == ["link/paris1/madrid1"]
    assert (await client.delete("/v1/hints/rack")).status_code == 204
    assert backend.hints == {}
    assert (await client.put("/v1/hints/rack", json={"value": "x" * 1001})).status_code == 422
    assert (await client.put("/v1/hints/a%2Fb", json={"value": "x"})).status_code in {400, 404}


async def test_links_of_every_site_and_the_replica(client: httpx2.AsyncClient) -> None:
    links = (await client.get("/v1/links/everywhere")).json()["links"]
    assert [(one["node"], one["rtt_ms"], one["age_s"]) for one in links] == [("paris1", 50.5, 10.0)]
    state = (await client.get("/v1/facts/state")).json()
    assert (state["refused"], state["peers"][0]["site"], state["peers"][0]["reachable"]) == (3, "paris", True)
    text = (await client.get("/metrics")).text
    assert 'novacron_facts_peer_sent_bytes{site="paris"} 2100.0' in text
    assert "novacron_facts_refused 3.0" in text


async def test_rollout_flags(client: httpx2.AsyncClient, backend: FakeBackend) -> None:
    before = (await client.get("/v1/flags")).json()
    assert [one["component"] for one in before["flags"]] == ["amst", "hde", "pba", "ass", "acp", "itp"]
    assert {(one["percent"], one["killed"], one["set"]) for one in before["flags"]} == {(100, False, False)}
    body = {"percent": 10, "nodes_on": ["paris1"], "nodes_off": ["madrid1"], "reason": "a first tenth"}
    made = (await client.put("/v1/flags/hde", json=body)).json()
    assert (made["percent"], made["nodes_on"], made["nodes_off"], made["set"]) == (10, ["paris1"], ["madrid1"], True)
    assert backend.requests[-1] == SetFlag(
        component="hde", percent=10, nodes_on=frozenset({"paris1"}), nodes_off=frozenset({"madrid1"}),
        reason="a first tenth",
    )  # fmt: skip
    assert (await client.put("/v1/flags/hde", json={"killed": True})).json()["killed"]
    assert (await client.put("/v1/flags/warp", json={})).status_code == 400
    assert (await client.put("/v1/flags/hde", json={"percent": 101})).status_code == 422
    backend.agreed = False
    assert (await client.get("/v1/flags")).json()["agreed"] is False


async def test_the_audit_trail_in_pages(client: httpx2.AsyncClient, backend: FakeBackend) -> None:
    first = (await client.get("/v1/audit")).json()
    assert ([entry["command"] for entry in first["entries"]], first["upto"], first["count"]) == (
        ["joinnode", "joinnode"], 2, 4,
    )  # fmt: skip
    rest = (await client.get("/v1/audit", params={"after": 2, "guest": "web1"})).json()
    assert [entry["revision"] for entry in rest["entries"]] == [7]
    assert (await client.get("/v1/audit", params={"guest": "a b"})).status_code == 400
    assert (await client.get("/v1/audit", params={"limit": 501})).status_code == 400
    assert backend.requests[-1] == TrailQuery(after=2, guest="web1")
