"""Drains and rebalancings: plan, carry out, follow, cancel."""

from typing import Annotated

from fastapi import APIRouter, Path, Response

from actors.control.commands import DrainNode
from actors.errors import ActorDown, Conflict, NodeUnknown, NoMajority, NotFound, StateRefused
from actors.migration.messages import SweepId, SweepRequest
from api.problems import documented
from api.routes import TOKEN, BackendDep, NodePath
from api.sweep_models import DrainCreate, Drained, RebalanceCreate, SweepList, SweepView

router = APIRouter(prefix="/v1", tags=["sweeps"], dependencies=[TOKEN])
SweepPath = Annotated[str, Path(pattern=r"^s-[0-9a-f]{1,32}$", description="the drain's or rebalancing's id")]


@router.post(
    "/nodes/{name}/drain",
    status_code=202,
    responses=documented(NodeUnknown, Conflict, StateRefused, NoMajority, ActorDown),
)
async def drain_node(backend: BackendDep, name: NodePath, body: DrainCreate, response: Response) -> SweepView:
    """Let a node take no guests and move those that it has elsewhere; what can't go is said, with the rule."""
    if not body.dry_run:
        await backend.drain_node(DrainNode(node=name, draining=True))
    made = await backend.sweep(SweepRequest(node=name, dry_run=body.dry_run, part_groups=body.part_groups))
    return _located(made.id, SweepView.of(made), response)


@router.post("/nodes/{name}/undrain", responses=documented(NodeUnknown, StateRefused, NoMajority))
async def undrain_node(backend: BackendDep, name: NodePath) -> Drained:
    """Let a node take guests again; none is moved back."""
    await backend.drain_node(DrainNode(node=name, draining=False))
    return Drained(node=name, draining=False)


@router.post("/rebalance", status_code=202, responses=documented(Conflict, ActorDown))
async def rebalance(backend: BackendDep, body: RebalanceCreate, response: Response) -> SweepView:
    """Make the moves of one round that are worth more than they cost."""
    made = await backend.sweep(SweepRequest(dry_run=body.dry_run, most=body.most))
    return _located(made.id, SweepView.of(made), response)


@router.get("/sweeps", responses=documented())
async def list_sweeps(backend: BackendDep) -> SweepList:
    """The drains and rebalancings of this site's manager, until it is started again."""
    return SweepList.of(await backend.sweeps())


@router.get("/sweeps/{sweep}", responses=documented(NotFound))
async def show_sweep(backend: BackendDep, sweep: SweepPath) -> SweepView:
    """One of them."""
    return SweepView.of(await backend.sweep_view(SweepId(id=sweep)))


@router.post("/sweeps/{sweep}/cancel", responses=documented(NotFound))
async def cancel_sweep(backend: BackendDep, sweep: SweepPath) -> SweepView:
    """Begin no more of its moves and cancel those under way; a drained node stays drained."""
    return SweepView.of(await backend.cancel_sweep(SweepId(id=sweep)))


def _located(name: str, view: SweepView, response: Response) -> SweepView:
    response.headers["Location"] = f"/v1/sweeps/{name}"
    return view
