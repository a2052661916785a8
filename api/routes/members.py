"""The members of the agreed control state, and their coming and going."""

from typing import Annotated

from fastapi import APIRouter, Query

from actors.errors import NoMajority, NotFound, StateRefused
from api.control_models import MemberChangeView, MemberList, MemberView, NewMember
from api.models import views
from api.problems import documented
from api.routes import TOKEN, BackendDep, NodePath

router = APIRouter(prefix="/v1/members", tags=["cluster"], dependencies=[TOKEN])


@router.get("", responses=documented())
async def list_members(backend: BackendDep) -> MemberList:
    """The members as one of them, the leader if it answers, sees them; answered without a majority too."""
    return MemberList(members=views(MemberView, (await backend.cluster()).members))


@router.post("", status_code=202, responses=documented(StateRefused, NoMajority))
async def add_member(backend: BackendDep, body: NewMember) -> MemberChangeView:
    """Have a node be a member: it fetches the state, and votes once it has caught up.

    Refused (`state-refused`) with `unknown` (no such node), `already`, `changing` (another change is under way),
    `full`, or `not-in-bft`: members change in Raft only.
    """
    done = await backend.add_member(body.node)
    return MemberChangeView(node=body.node, number=done.number, index=done.index, detail=done.detail)


@router.delete("/{name}", status_code=202, responses=documented(NotFound, StateRefused, NoMajority))
async def remove_member(
    backend: BackendDep,
    name: NodePath,
    lost: Annotated[bool, Query(description="its host or disk is lost: it is no voice that could be missed")] = False,
) -> MemberChangeView:
    """Take the member on a node out for good, also one whose disk is lost; it stops, and says so.

    Refused (`state-refused`) with `last-member`, `no-quorum-left` (too few of the others answer), `no-third-voice`,
    `changing` or `not-in-bft`.
    """
    done = await backend.remove_member(name, lost=lost)
    return MemberChangeView(node=name, number=done.number, index=done.index, detail=done.detail)
