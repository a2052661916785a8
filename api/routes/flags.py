"""Rollout flags: which components are on, where and for how many."""

from fastapi import APIRouter

from actors.control.commands import SetFlag
from actors.control.model import Component, Flag
from actors.errors import NoMajority, StateRefused
from actors.flags.effects import EFFECTS
from api.flag_models import FlagList, FlagPut, FlagView
from api.problems import documented
from api.routes import TOKEN, BackendDep

router = APIRouter(prefix="/v1", tags=["flags"], dependencies=[TOKEN])


@router.get("/flags", responses=documented())
async def list_flags(backend: BackendDep) -> FlagList:
    """Every component's flag, agreed on by the members; if they don't answer, as this node last knew them."""
    known = await backend.flags()
    return FlagList(flags=[_view(component, known.flags.get(component)) for component in EFFECTS], agreed=known.agreed)


@router.put("/flags/{component}", responses=documented(StateRefused, NoMajority))
async def set_flag(backend: BackendDep, component: Component, body: FlagPut) -> FlagView:
    """Say how far a component is rolled out; agreed on, audited, and in effect on every node within 5 s."""
    command = SetFlag(
        component=component,
        percent=body.percent,
        nodes_on=frozenset(body.nodes_on),
        nodes_off=frozenset(body.nodes_off),
        killed=body.killed,
        reason=body.reason,
    )
    await backend.set_flag(command)
    flag = Flag(
        component=component,
        percent=command.percent,
        nodes_on=command.nodes_on,
        nodes_off=command.nodes_off,
        killed=command.killed,
    )
    return _view(component, flag)


def _view(component: Component, flag: Flag | None) -> FlagView:
    shown = flag or Flag(component=component)
    return FlagView(
        component=component,
        percent=shown.percent,
        nodes_on=sorted(shown.nodes_on),
        nodes_off=sorted(shown.nodes_off),
        killed=shown.killed,
        set=flag is not None,
        effect=EFFECTS[component],
    )
