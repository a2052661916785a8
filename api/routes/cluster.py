"""Sites, nodes and links."""

from collections.abc import AsyncIterable
from typing import Annotated, Literal

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.responses import StreamingResponse

from actors.control.commands import Override
from actors.errors import NodeUnknown, NoMajority, StateRefused, Unreachable
from actors.migration.messages import NodeLinkHistory, Sites, SteerNodeLink
from actors.migration.messages import SiteView as SiteStruct
from actors.prediction.messages import RecordedQuery
from actors.sync.messages import FactsQuery
from actors.sync.records import LINK, LinkFact, LinkFacts, record_of
from actors.transport.messages import HistoryQuery, SteerLink
from api.control_models import ClusterStateView, Decree, DecreeView
from api.fact_models import LinkFactList
from api.link_events import as_sse
from api.link_record import HEADER, PAGE, as_csv, followed
from api.models import (
    AccuracyList,
    LinkHistoryView,
    LinkList,
    LinkStateView,
    LinkSteer,
    NodeList,
    NodeView,
    SiteList,
    UnreachableSite,
    views,
)
from api.problems import Responses, documented
from api.routes import TOKEN, BackendDep, NodePath, PeerPath

router = APIRouter(prefix="/v1", tags=["cluster"], dependencies=[TOKEN])

_CSV: Responses = {200: {"description": "The header is `" + HEADER + "`.", "content": {"text/csv": {}}}}
_EVENTS: Responses = {
    200: {
        "description": "Server-sent events `mode` (data: a LinkSwitchView, id: when it was, Unix time in ms); "
        "`problem` (data: a Problem) when the stream can't go on. Comments every 15 s keep it alive.",
        "content": {
            "text/event-stream": {
                "itemSchema": {
                    "type": "object",
                    "required": ["event", "data"],
                    "properties": {
                        "event": {"enum": ["mode", "problem"]},
                        "id": {"type": "string"},
                        "data": {
                            "type": "string",
                            "contentMediaType": "application/json",
                            "contentSchema": {"$ref": "#/components/schemas/LinkSwitchView"},
                        },
                    },
                }
            }
        },
    }
}


@router.get("/sites", responses=documented())
async def list_sites(backend: BackendDep) -> SiteList:
    """Every site with its nodes; one that does not answer says why."""
    return SiteList.of(await backend.sites())


@router.get("/nodes", responses=documented())
async def list_nodes(backend: BackendDep) -> NodeList:
    """The nodes of every site that answers."""
    sites = await backend.sites()
    away = [UnreachableSite(site=site.name, reason=site.reason) for site in _unreachable(sites)]
    return NodeList(nodes=[view for site in sites.sites for view in views(NodeView, site.nodes)], unreachable=away)


@router.get("/nodes/{name}", responses=documented(NodeUnknown))
async def show_node(backend: BackendDep, name: NodePath) -> NodeView:
    """One node."""
    sites = await backend.sites()
    for site in sites.sites:
        for node in site.nodes:
            if node.node == name:
                return NodeView.of(node)
    if away := ", ".join(site.name for site in _unreachable(sites)):
        raise Unreachable(what=f"site {away}, which may have node {name}")
    raise NodeUnknown(node=name)


@router.get("/links", responses=documented())
async def list_links(backend: BackendDep) -> LinkList:
    """This site's links with their newest measurements and a forecast."""
    return LinkList.of(await backend.links())


@router.get("/links/everywhere", responses=documented())
async def list_links_everywhere(backend: BackendDep) -> LinkFactList:
    """The links of every site, as their nodes last told, with how long ago that was."""
    found = await backend.facts(FactsQuery(prefix=LINK))
    links = [record_of(fact, LinkFact) for fact in found.facts]
    return LinkFactList.of(LinkFacts(links=[link for link in links if link is not None]))


@router.get("/links/events", response_class=EventSourceResponse, responses=documented() | _EVENTS)
async def follow_links(
    backend: BackendDep,
    request: Request,
    last_event_id: Annotated[
        int | None,
        Header(alias="Last-Event-ID", ge=0, le=(1 << 53) - 1, description="go on after it; without: what comes now"),
    ] = None,
) -> AsyncIterable[ServerSentEvent]:
    """Follow the changes of mode of this site's links, for as long as the client wants; seen within 2 s."""
    async for event in as_sse(backend, last_event_id, request.url.path):
        yield event


@router.get("/links/accuracy", responses=documented())
async def forecast_accuracy(backend: BackendDep) -> AccuracyList:
    """What forecasts of this site's links were worth in the last hour, by method, beside the later truth."""
    return AccuracyList.of(await backend.accuracies())


@router.get("/links/recorded", response_class=Response, responses=documented() | _CSV)
async def recorded_links(
    backend: BackendDep,
    since: Annotated[float, Query(ge=0, le=1e12, description="Unix time")] = 0.0,
    node: Annotated[str, Query(max_length=63, description="of one node only")] = "",
    peer: Annotated[str, Query(max_length=63, description="to one peer only")] = "",
) -> StreamingResponse:
    """What this site's links carried, second by second while they were busy, as CSV; a month at most."""
    pages = as_csv(backend, RecordedQuery(node=node, peer=peer, since=since, most=PAGE))
    # What is wrong is said before the first byte.
    first = await anext(pages)
    return StreamingResponse(followed(first, pages), media_type="text/csv")


@router.patch("/links/{node}/{peer}", responses=documented(NodeUnknown))
async def steer_link(backend: BackendDep, node: NodePath, peer: PeerPath, body: LinkSteer) -> LinkStateView:
    """Force the mode of a link of this site, or cap what its node sends; it holds at once, and over restarts."""
    order = SteerLink(peer=peer, mode=body.mode, cap_mbit=body.cap_mbit)
    return LinkStateView.of(await backend.steer_link(SteerNodeLink(node=node, order=order)))


@router.get("/links/{node}/{peer}/history", responses=documented(NodeUnknown))
async def link_history(
    backend: BackendDep,
    node: NodePath,
    peer: PeerPath,
    after: Annotated[float, Query(ge=0, le=1e12, description="Unix time")] = 0.0,
    span_s: Annotated[Literal["10", "3600"], Query(description="10: the last day; 3600: the last year")] = "10",
    limit: Annotated[int, Query(ge=1, le=10_000, description="the latest so many")] = 1000,
) -> LinkHistoryView:
    """What a link of this site measured, over restarts, oldest first."""
    query = HistoryQuery(peer=peer, after=after, span_s=int(span_s), most=limit)
    return LinkHistoryView.of(await backend.link_history(NodeLinkHistory(node=node, query=query)))


@router.get("/cluster", responses=documented())
async def show_cluster(backend: BackendDep) -> ClusterStateView:
    """The members of the agreed control state: who leads, who lags; answered without a majority too."""
    return ClusterStateView.of(await backend.cluster())


@router.post("/cluster/override", responses=documented(StateRefused, NoMajority))
async def override(backend: BackendDep, body: Decree) -> DecreeView:
    """Decree that nodes run nothing, so that their guests may be started elsewhere; if that is wrong, they run twice.

    Refused (`state-refused`, refusal `risk-changed`) unless `risk` repeats what it risks now, which the refusal says.
    """
    # No state has this for its risk, so it asks for it.
    risk = body.risk or "-"
    order = Override(nodes=tuple(body.nodes), risk=risk, reason=body.reason)
    outcome = await backend.decree(order)
    return DecreeView(index=outcome.index, detail=outcome.detail)


def _unreachable(sites: Sites) -> list[SiteStruct]:
    return [site for site in sites.sites if site.state == "unreachable"]
