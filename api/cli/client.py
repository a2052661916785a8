"""Typed client of the REST API: answers become the actors' own messages, problem documents their errors."""

import time
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx2
import msgspec
import stamina

from actors.boot.status import BootStatus
from actors.control.messages import ClusterView, MemberView, Outcome, ShownMembers, TrailPage
from actors.encoding.messages import StoreState
from actors.errors import DeadlineExceeded, NovaCronError, Unreachable, error_from
from actors.flags.messages import ShownFlag, ShownFlags
from actors.hypervisor.messages import GuestInfo, Guests, TakenOver
from actors.migration.messages import (
    CreateGuestAnywhere,
    JobEvent,
    Jobs,
    JobView,
    LabelGuest,
    Links,
    MoveRequest,
    Sites,
    Sweeps,
    SweepView,
)
from actors.prediction.messages import Accuracies
from actors.sync.messages import Fact, FactList, ReplicaState
from actors.sync.records import LinkFacts
from actors.transport.messages import HistoryQuery, LinkPeriods, LinkState, SteerLink
from api.cli.target import Target

_T = TypeVar("_T")

CONNECT_S = 5.0
READ_S = 30.0
CREATE_S = 120.0
# Three of the server's heartbeats: a stream silent for longer is dead.
STREAM_SILENT_S = 45.0
STREAM_PATIENCE_S = 60.0
STREAM_RETRY_S = 1.0


class ProblemDocument(msgspec.Struct, frozen=True, kw_only=True):
    """The part of a problem document from which the same error can be raised here."""

    code: str
    detail: str = ""
    fields: dict[str, str | int | float] = {}


class Client:
    """One API.

    Args:
        target: its URL and token.

    Every method raises `Unreachable` or `DeadlineExceeded` when the API does not answer, else what the API said.
    """

    def __init__(self, target: Target) -> None:
        self._url = target.url
        self._http = httpx2.Client(
            base_url=target.url,
            headers={"Authorization": f"Bearer {target.token}"},
            timeout=_timeout(READ_S),
            trust_env=False,  # a proxy for the web does not reach a cluster's inside
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def readiness(self) -> BootStatus:
        """How far the start of the API's node is; a node that is not ready is an answer, not an error."""
        answer = self._send("GET", "/readyz")
        if answer.status_code != 503 or _is_problem(answer):
            _check(answer)
        return self._decode(answer, BootStatus)

    def sites(self) -> Sites:
        """Every site with its nodes."""
        return self._ask("GET", "/v1/sites", Sites)

    def cluster(self) -> ClusterView:
        """How the members of the control state stand."""
        return self._ask("GET", "/v1/cluster", ClusterView)

    def members(self) -> list[MemberView]:
        """The members of the control state."""
        return self._ask("GET", "/v1/members", ShownMembers).members

    def add_member(self, node: str) -> Outcome:
        """Have a node be a member; the outcome's number is its own."""
        return self._ask("POST", "/v1/members", Outcome, json={"node": node})

    def remove_member(self, node: str, *, lost: bool) -> Outcome:
        """Take the member on a node out for good."""
        return self._ask("DELETE", f"/v1/members/{_part(node)}", Outcome, params={"lost": lost})

    def override(self, nodes: list[str], risk: str, reason: str) -> Outcome:
        """Decree that nodes run nothing; refused with what it risks unless `risk` says just that."""
        body = {"nodes": nodes, "risk": risk, "reason": reason}
        return self._ask("POST", "/v1/cluster/override", Outcome, json=body)

    def audit(self, guest: str = "", since: int = 0, after: int = 0) -> TrailPage:
        """A page of the audit trail, after entry number `after`."""
        return self._ask("GET", "/v1/audit", TrailPage, params={"guest": guest, "since": since, "after": after})

    def guests(self) -> Guests:
        """The guests of every site that answers."""
        return self._ask("GET", "/v1/guests", Guests)

    def guest(self, name: str) -> GuestInfo:
        """One guest."""
        return self._ask("GET", f"/v1/guests/{_part(name)}", GuestInfo)

    def create_guest(self, request: CreateGuestAnywhere) -> GuestInfo:
        """Define a guest and start it if asked to."""
        body = {**msgspec.to_builtins(request.spec), "node": request.node, "start": request.start}
        return self._ask("POST", "/v1/guests", GuestInfo, json=body, timeout=_timeout(CREATE_S))

    def act(self, name: str, action: str, grace_s: float = 0.0) -> GuestInfo:
        """`action`: start, stop, pause or resume."""
        path, wait = f"/v1/guests/{_part(name)}/{action}", _timeout(READ_S + grace_s)
        return self._ask("POST", path, GuestInfo, params={"grace_s": grace_s}, timeout=wait)

    def fail_over(
        self, name: str, reason: str, *, to: str = "", override: bool = False, risk: str = "", disks_here: bool = False
    ) -> TakenOver:
        """Take a guest over whose node is lost; an override is refused with its risk unless `risk` says just that."""
        body = {"to": to, "reason": reason, "override": override, "risk": risk, "disks_here": disks_here}
        path = f"/v1/guests/{_part(name)}/failover"
        return self._ask("POST", path, TakenOver, json=body, timeout=_timeout(CREATE_S))

    def label(self, request: LabelGuest) -> GuestInfo:
        """Change what placement heeds of a guest."""
        body = {kind: value for kind, value in msgspec.to_builtins(request).items() if kind != "name"}
        return self._ask("PATCH", f"/v1/guests/{_part(request.name)}", GuestInfo, json=body)

    def drain(self, node: str, *, dry_run: bool, part_groups: bool) -> SweepView:
        """Let a node take no guests and move those that it has elsewhere."""
        body = {"dry_run": dry_run, "part_groups": part_groups}
        return self._ask("POST", f"/v1/nodes/{_part(node)}/drain", SweepView, json=body)

    def undrain(self, node: str) -> None:
        """Let a node take guests again."""
        _check(self._send("POST", f"/v1/nodes/{_part(node)}/undrain"))

    def rebalance(self, *, dry_run: bool, most: int) -> SweepView:
        """Make the moves that pay."""
        return self._ask("POST", "/v1/rebalance", SweepView, json={"dry_run": dry_run, "most": most})

    def sweeps(self) -> Sweeps:
        """The drains and rebalancings of the site's manager."""
        return self._ask("GET", "/v1/sweeps", Sweeps)

    def sweep(self, name: str) -> SweepView:
        """One of them."""
        return self._ask("GET", f"/v1/sweeps/{_part(name)}", SweepView)

    def cancel_sweep(self, name: str) -> SweepView:
        """Begin no more of its moves, and cancel those under way."""
        return self._ask("POST", f"/v1/sweeps/{_part(name)}/cancel", SweepView)

    def delete_guest(self, name: str) -> None:
        """Remove a stopped guest."""
        _check(self._send("DELETE", f"/v1/guests/{_part(name)}"))

    def submit(self, request: MoveRequest) -> JobView:
        """Ask for a move. With a `key` the request is repeated when its answer is lost: it stays one move."""
        path = f"/v1/guests/{_part(request.guest)}/migrations"
        body: dict[str, str | float] = {
            "to": request.to,
            "if_stalled": request.if_stalled,
            "max_mbit": request.max_mbit,
        }
        if request.pause_ms:
            body["pause_ms"] = request.pause_ms
        if not request.key:
            return self._ask("POST", path, JobView, json=body)
        for attempt in stamina.retry_context(on=Unreachable, attempts=3, wait_initial=0.2, timeout=20.0):
            with attempt:
                answer = self._send("POST", path, json=body, headers={"Idempotency-Key": request.key})
        return self._decode(_check(answer), JobView)

    def jobs(self, guest: str = "") -> Jobs:
        """The moves that the site knows, newest first; of `guest` only, if named."""
        return self._ask("GET", "/v1/migrations", Jobs, params={"guest": guest})

    def job(self, job: str) -> JobView:
        """One move."""
        return self._ask("GET", f"/v1/migrations/{_part(job)}", JobView)

    def cancel(self, job: str) -> JobView:
        """Cancel a move."""
        return self._ask("POST", f"/v1/migrations/{_part(job)}/cancel", JobView)

    def change_pause(self, job: str, pause_ms: int) -> JobView:
        """Let a move under way pause its guest for about `pause_ms`."""
        return self._ask("PATCH", f"/v1/migrations/{_part(job)}", JobView, json={"pause_ms": pause_ms})

    def links(self) -> Links:
        """The site's links."""
        return self._ask("GET", "/v1/links", Links)

    def store(self, node: str) -> StoreState:
        """A node's content store."""
        return self._ask("GET", f"/v1/nodes/{_part(node)}/store", StoreState)

    def add_image(self, node: str, path: str) -> StoreState:
        """Register an image in a node's store."""
        return self._ask("POST", f"/v1/nodes/{_part(node)}/store/images", StoreState, json={"path": path})

    def remove_image(self, node: str, path: str) -> StoreState:
        """Forget a registered image."""
        return self._ask("DELETE", f"/v1/nodes/{_part(node)}/store/images", StoreState, params={"path": path})

    def clear_store(self, node: str) -> StoreState:
        """Forget every block of a node's store."""
        return self._ask("DELETE", f"/v1/nodes/{_part(node)}/store", StoreState)

    def steer_link(self, node: str, order: SteerLink) -> LinkState:
        """Force the mode of a link, or cap it."""
        body = {
            name: value for name, value in (("mode", order.mode), ("cap_mbit", order.cap_mbit)) if value is not None
        }
        return self._ask("PATCH", f"/v1/links/{_part(node)}/{_part(order.peer)}", LinkState, json=body)

    def link_history(self, node: str, query: HistoryQuery) -> LinkPeriods:
        """What a link measured."""
        path = f"/v1/links/{_part(node)}/{_part(query.peer)}/history"
        asked = {"after": query.after, "span_s": query.span_s, "limit": query.most}
        return self._ask("GET", path, LinkPeriods, params=asked)

    def accuracies(self) -> Accuracies:
        """What forecasts of the site's links were worth."""
        return self._ask("GET", "/v1/links/accuracy", Accuracies)

    def recorded(self, node: str, peer: str, since: float) -> Iterator[bytes]:
        """What the site's links carried as CSV, piece by piece."""
        asked: dict[str, str | float] = {"node": node, "peer": peer, "since": since}
        try:
            with self._http.stream("GET", "/v1/links/recorded", params=asked) as answer:
                if answer.status_code != 200:
                    answer.read()
                    _check(answer)
                yield from answer.iter_bytes()
        except httpx2.TimeoutException as error:
            raise DeadlineExceeded(what=f"the API at {self._url}", deadline_s=READ_S) from error
        except httpx2.TransportError as error:
            raise Unreachable(what=f"the API at {self._url}") from error

    def links_everywhere(self) -> LinkFacts:
        """The links of every site, as their nodes last told."""
        return self._ask("GET", "/v1/links/everywhere", LinkFacts)

    def facts(self, prefix: str = "", after: str = "") -> FactList:
        """What sites have told each other, a thousand at once."""
        return self._ask("GET", "/v1/facts", FactList, params={"prefix": prefix, "after": after})

    def replica(self) -> ReplicaState:
        """How the exchange of facts stands."""
        return self._ask("GET", "/v1/facts/state", ReplicaState)

    def put_hint(self, name: str, value: str) -> Fact:
        """Write a hint for every site."""
        return self._ask("PUT", f"/v1/hints/{_part(name)}", Fact, json={"value": value})

    def remove_hint(self, name: str) -> None:
        """Remove a hint everywhere."""
        _check(self._send("DELETE", f"/v1/hints/{_part(name)}"))

    def flags(self) -> ShownFlags:
        """Every component's rollout flag."""
        return self._ask("GET", "/v1/flags", ShownFlags)

    def set_flag(self, component: str, body: dict[str, object]) -> ShownFlag:
        """Say how far a component is rolled out."""
        return self._ask("PUT", f"/v1/flags/{_part(component)}", ShownFlag, json=body)

    def events(self, job: str, after: int = 0) -> Iterator[JobEvent]:
        """Events of `job` with seq > `after` until it has ended, over as many connections as it takes.

        Raises:
            Unreachable: no connection held for `STREAM_PATIENCE_S`.
            NovaCronError: what the API said, such as `JobUnknown`.
        """
        heard_at = time.monotonic()
        while True:
            try:
                for event in self._stream(job, after):
                    if event is None:
                        return
                    heard_at, after = time.monotonic(), event.seq
                    yield event
            except Unreachable:
                if time.monotonic() - heard_at > STREAM_PATIENCE_S:
                    raise
            time.sleep(STREAM_RETRY_S)

    def _stream(self, job: str, after: int) -> Iterator[JobEvent | None]:
        """Events of one connection; None when the job has ended."""
        path, headers = f"/v1/migrations/{_part(job)}/events", {"Last-Event-ID": str(after)}
        try:
            with self._http.stream("GET", path, headers=headers, timeout=_timeout(STREAM_SILENT_S)) as answer:
                if answer.status_code != 200:
                    answer.read()
                    _check(answer)
                for sse in httpx2.EventSource(answer):
                    if sse.event == "end":
                        yield None
                        return
                    if sse.event == "problem":
                        raise _error(sse.data.encode())
                    yield self._json(sse.data.encode(), JobEvent)
        except httpx2.TransportError as error:
            raise self._lost(error) from error

    def _ask(self, method: str, path: str, kind: type[_T], **options: Any) -> _T:
        return self._decode(_check(self._send(method, path, **options)), kind)

    def _send(self, method: str, path: str, **options: Any) -> httpx2.Response:
        try:
            return self._http.request(method, path, **options)
        except (httpx2.TransportError, httpx2.InvalidURL) as error:
            raise self._lost(error) from error

    def _lost(self, error: Exception) -> Unreachable:
        if isinstance(error, httpx2.ReadTimeout):
            waited_s = error.request.extensions.get("timeout", {}).get("read", READ_S)
            return DeadlineExceeded(what=f"the API at {self._url}", deadline_s=waited_s)
        return Unreachable(what=f"the API at {self._url}: {error}")

    def _decode(self, answer: httpx2.Response, kind: type[_T]) -> _T:
        return self._json(answer.content, kind)

    def _json(self, body: bytes, kind: type[_T]) -> _T:
        try:
            return msgspec.json.decode(body, type=kind)
        except msgspec.MsgspecError as error:
            raise NovaCronError(detail=f"{self._url} does not answer like a NovaCron API: {error}") from error


def _timeout(read_s: float) -> httpx2.Timeout:
    return httpx2.Timeout(connect=CONNECT_S, read=read_s, write=READ_S, pool=CONNECT_S)


def _part(name: str) -> str:
    """A name as one part of a path, so that the API, not the URL, says what is wrong with it."""
    from urllib.parse import quote

    return quote(name, safe="")


def _is_problem(answer: httpx2.Response) -> bool:
    return answer.headers.get("content-type", "").startswith("application/problem+json")


def _check(answer: httpx2.Response) -> httpx2.Response:
    if answer.is_success:
        return answer
    if not _is_problem(answer):
        raise NovaCronError(detail=f"{answer.url} answered {answer.status_code} without a problem document")
    raise _error(answer.content)


def _error(document: bytes) -> NovaCronError:
    try:
        problem = msgspec.json.decode(document, type=ProblemDocument)
    except msgspec.MsgspecError as error:
        return NovaCronError(detail=f"a problem document that can't be read: {error}")
    known = error_from(problem.code, problem.fields)
    # A code of a newer version: its text is all there is.
    return known if known.code == problem.code else NovaCronError(detail=problem.detail)
