"""Guests: create, read, start, stop, pause, resume, delete, fail over."""

from enum import StrEnum
from typing import Annotated

import msgspec
from fastapi import APIRouter, Query, Response

from actors.errors import (
    Conflict,
    GuestBusy,
    GuestExists,
    GuestNotRunning,
    GuestRunning,
    GuestUnknown,
    HypervisorDown,
    HypervisorFailed,
    Incompatible,
    NodeUnknown,
    NoMajority,
    NoPlacement,
    NoRoom,
    NoTakeover,
    RuleBroken,
    SameNode,
    StateRefused,
)
from actors.hypervisor.messages import GuestSpec
from actors.migration.messages import CreateGuestAnywhere, FailOverGuest, GuestAction, GuestQuery, LabelGuest
from api.backend import OPERATOR
from api.guest_models import AttributesChange, FailedOverView, FailOverRequest, GuestCreate, GuestList, GuestView
from api.problems import documented
from api.routes import TOKEN, BackendDep, GuestPath

router = APIRouter(prefix="/v1/guests", tags=["guests"], dependencies=[TOKEN])

_ON_ONE = (GuestUnknown, GuestBusy, HypervisorDown, HypervisorFailed)
Grace = Annotated[float, Query(ge=0, le=600, description="seconds for ACPI before force; 0: force at once")]


class Action(StrEnum):
    """What can be done to a guest by POST."""

    START = "start"
    STOP = "stop"
    PAUSE = "pause"
    RESUME = "resume"


@router.get("", responses=documented())
async def list_guests(backend: BackendDep) -> GuestList:
    """The guests of every node that answers."""
    return GuestList.of(await backend.guests())


@router.post(
    "",
    status_code=201,
    responses=documented(
        GuestExists, NodeUnknown, NoPlacement, RuleBroken, NoRoom, Incompatible, HypervisorDown, HypervisorFailed
    ),
)
async def create_guest(backend: BackendDep, body: GuestCreate, response: Response) -> GuestView:
    """Define a guest and, unless `start` is false, start it."""
    fields = body.model_dump(exclude={"node", "start"})
    request = CreateGuestAnywhere(spec=msgspec.convert(fields, GuestSpec), node=body.node, start=body.start)
    created = await backend.create_guest(request)
    response.headers["Location"] = f"/v1/guests/{created.name}"
    return GuestView.of(created)


@router.get("/{name}", responses=documented(GuestUnknown))
async def show_guest(backend: BackendDep, name: GuestPath) -> GuestView:
    """One guest, wherever it is."""
    return GuestView.of(await backend.guest(GuestQuery(name=name)))


@router.patch("/{name}", responses=documented(*_ON_ONE, RuleBroken))
async def label_guest(backend: BackendDep, name: GuestPath, body: AttributesChange) -> GuestView:
    """Change what placement heeds of a guest; refused where it could not be then."""
    changed = body.model_dump(exclude_none=True)
    return GuestView.of(await backend.label_guest(msgspec.convert({"name": name, **changed}, LabelGuest)))


@router.delete("/{name}", status_code=204, responses=documented(*_ON_ONE, GuestRunning))
async def delete_guest(backend: BackendDep, name: GuestPath) -> None:
    """Remove a stopped guest's definition; its disks stay, so that nobody loses data by a slip."""
    await backend.guest_action(GuestAction(name=name, action="delete"))


@router.post(
    "/{name}/failover",
    responses=documented(
        *_ON_ONE,
        NodeUnknown,
        NoPlacement,
        NoRoom,
        Incompatible,
        NoTakeover,
        SameNode,
        Conflict,
        StateRefused,
        NoMajority,
    ),
)
async def fail_over(backend: BackendDep, name: GuestPath, body: FailOverRequest) -> FailedOverView:
    """Own and boot a guest elsewhere whose node is lost; refused while that node may still run it (`lease-held`).

    With `override` that is decreed away; refused (`risk-changed`) unless `risk` repeats what that risks now.
    """
    order = FailOverGuest(guest=name, by=OPERATOR, **body.model_dump())
    return FailedOverView.of(await backend.fail_over(order))


@router.post("/{name}/{action}", responses=documented(*_ON_ONE, GuestNotRunning, GuestRunning))
async def act_on_guest(backend: BackendDep, name: GuestPath, action: Action, grace_s: Grace = 0.0) -> GuestView:
    """Start, stop, pause or resume a guest; `grace_s` matters to stop alone."""
    return GuestView.of(await backend.guest_action(GuestAction(name=name, action=action.value, grace_s=grace_s)))
