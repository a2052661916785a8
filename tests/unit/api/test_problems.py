"""Whatever goes wrong is a problem document with a stable code, and changes nothing."""

import json

import httpx2
import pytest
import structlog
from fastapi import FastAPI

from actors.errors import BY_CODE, ActorDown, DeadlineExceeded, GuestBusy, NoRoom, NovaCronError, error_from
from api.problems import MAX_BODY_BYTES, MEDIA_TYPE, problem
from tests.unit.api.fake import AUTHORIZED, FakeBackend


def check(answer: httpx2.Response, status: int, code: str) -> dict[str, object]:
    """The answer is the problem `code`."""
    assert (answer.status_code, answer.headers["content-type"]) == (status, MEDIA_TYPE), answer.text
    body: dict[str, object] = answer.json()
    assert body["code"] == code
    assert body["status"] == status
    assert body["type"] == f"urn:novacron:error:{code}"
    assert all(body[part] for part in ("title", "detail", "next_step", "instance"))
    assert str(error_from(code, body["fields"])) == body["detail"]  # type: ignore[arg-type]
    return body


@pytest.mark.parametrize(
    ("error", "headers"),
    [
        (GuestBusy(guest="web1", job="job-7"), {}),
        (NoRoom(node="paris1", guest="web1", needs_mib=512, resource="memory", free_mib=100), {}),
        (ActorDown(service="manager@madrid1", reason="no such actor is running"), {"retry-after": "3"}),
        (DeadlineExceeded(what="manager@madrid1.guest", deadline_s=15.0), {"retry-after": "3"}),
    ],
)
async def test_backend_errors(
    client: httpx2.AsyncClient, backend: FakeBackend, error: NovaCronError, headers: dict[str, str]
) -> None:
    backend.broken = error
    answer = await client.get("/v1/guests/web1")
    body = check(answer, error.status, error.code)
    assert (body["detail"], body["fields"], body["instance"]) == (str(error), error.fields, "/v1/guests/web1")
    assert headers.items() <= dict(answer.headers).items()


def test_every_error_has_its_own_status_and_code() -> None:
    for code, kind in BY_CODE.items():
        assert 400 <= kind.status < 600, code
        assert code == kind.code


def test_titles_stay_the_same_while_details_differ() -> None:
    one, other = (problem(GuestBusy(guest=name, job="j"), "/") for name in ("a", "b"))
    assert one.title == other.title
    assert one.detail != other.detail


async def test_a_bug_tells_nothing_of_its_inside(client: httpx2.AsyncClient, backend: FakeBackend) -> None:
    backend.broken = RuntimeError("secret")  # type: ignore[assignment]
    with structlog.testing.capture_logs() as logs:
        body = check(await client.get("/v1/guests"), 500, "internal")
    assert "secret" not in json.dumps(body)
    assert [str(entry["exc_info"]) for entry in logs] == ["secret"], "but the log has it"


async def test_unknown_route_and_method(client: httpx2.AsyncClient) -> None:
    check(await client.get("/v2/guests"), 404, "not-found")
    answer = await client.put("/v1/guests")
    check(answer, 405, "method-not-allowed")
    assert {"GET", "POST"} == set(answer.headers["allow"].split(", "))


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Bearer",
        "Bearer ",
        "Bearer wrong",
        "Basic a-token-for-tests",
        "Bearer a-token-for-test",
        "a-token-for-tests",
    ],
)
@pytest.mark.parametrize("path", ["/v1/guests", "/v1/migrations/j/events", "/nowhere", "/openapi.json"])
async def test_without_the_token(app: FastAPI, authorization: str, path: str) -> None:
    headers = {"Authorization": authorization} if authorization else {}
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://api") as stranger:
        answer = await stranger.get(path, headers=headers)
    check(answer, 401, "token-invalid")
    assert answer.headers["www-authenticate"].startswith("Bearer")


async def test_probes_need_no_token_and_the_document_does(app: FastAPI, client: httpx2.AsyncClient) -> None:
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://api") as stranger:
        for path in ("/healthz", "/readyz", "/metrics"):
            assert (await stranger.get(path)).status_code == 200
    assert (await client.get("/openapi.json")).json()["openapi"].startswith("3.1")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "body"),
        (b"{", "not JSON at character 1"),
        (b"hello", "not JSON"),
        (b"[]", "body"),
        (b'{"to": 5}', "body.to"),
        (b'{"to": "paris1", "fast": true}', "body.fast"),
        (b'{"pause_ms": "100"}', "body.pause_ms"),
        (b'{"pause_ms": true}', "body.pause_ms"),
        (b'{"pause_ms": 1.5}', "body.pause_ms"),
        (b'{"pause_ms": 0}', "body.pause_ms"),
        (b'{"to": "../etc"}', "body.to"),
        (b'{"to": "\\ud800"}', "body.to"),
    ],
)
async def test_wrong_bodies(client: httpx2.AsyncClient, backend: FakeBackend, body: bytes, said: str) -> None:
    headers = {"Content-Type": "application/json"}
    answer = await client.post("/v1/guests/web1/migrations", content=body, headers=headers)
    assert said in str(check(answer, 422, "body-invalid")["detail"])
    assert backend.requests == []


async def test_a_body_that_is_not_declared_json(client: httpx2.AsyncClient) -> None:
    answer = await client.post(
        "/v1/guests/web1/migrations", content=b"to=paris1", headers={"Content-Type": "text/plain"}
    )
    assert "application/json" in str(check(answer, 422, "body-invalid")["detail"])


@pytest.mark.parametrize(
    "field",
    [
        {"name": "../../etc/passwd"},
        {"name": "a b"},
        {"name": "a\n"},
        {"name": "-rf"},
        {"name": "x" * 64},
        {"name": "x", "kernel": "boot/vmlinuz"},
        {"name": "x", "cmdline": "a\nb"},
        {"name": "x", "memory_mib": 0},
        {"name": "x", "disks": [{"target": "vda", "path": "/d", "format": "vmdk"}]},
        {"name": "x", "disks": [{"target": "'/><x", "path": "/d"}]},
    ],
)
async def test_wrong_guests(client: httpx2.AsyncClient, backend: FakeBackend, field: dict[str, object]) -> None:
    check(await client.post("/v1/guests", json=field), 422, "body-invalid")
    assert backend.requests == []


@pytest.mark.parametrize(
    "path",
    [
        "/v1/guests/..%2f..%2fetc",
        "/v1/guests/a%20b",
        "/v1/guests/a%00b",
        "/v1/nodes/UPPER",
        "/v1/migrations/a.b",
        "/v1/migrations?limit=x",
        "/v1/migrations?guest=a%2fb",
    ],
)
async def test_wrong_names_never_reach_the_backend(client: httpx2.AsyncClient, backend: FakeBackend, path: str) -> None:
    answer = await client.get(path)
    assert answer.status_code in {400, 404}
    check(answer, answer.status_code, "bad-request" if answer.status_code == 400 else "not-found")
    assert backend.requests == []


async def test_bodies_over_the_limit(client: httpx2.AsyncClient, backend: FakeBackend) -> None:
    big = b" " * (MAX_BODY_BYTES + 1)

    async def chunks() -> object:
        for _ in range(17):
            yield b" " * 65536

    check(await client.post("/v1/guests", content=big), 413, "body-too-large")
    check(await client.post("/v1/guests", content=chunks()), 413, "body-too-large")
    assert backend.requests == []


async def test_a_content_length_that_is_no_number(app: FastAPI) -> None:
    headers = {**AUTHORIZED, "Content-Length": "1e9"}
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://api") as client:
        check(await client.post("/v1/guests", headers=headers), 400, "bad-request")
