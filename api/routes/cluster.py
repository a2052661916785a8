"""Sites, nodes and links."""

from fastapi import APIRouter

from actors.errors import NodeUnknown, Unreachable
from actors.migration.messages import Sites
from actors.migration.messages import SiteView as SiteStruct
from api.models import LinkList, NodeList, NodeView, SiteList, UnreachableSite, views
from api.problems import documented
from api.routes import TOKEN, BackendDep, NodePath

router = APIRouter(prefix="/v1", tags=["cluster"], dependencies=[TOKEN])


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


def _unreachable(sites: Sites) -> list[SiteStruct]:
    return [site for site in sites.sites if site.state == "unreachable"]
