"""Creating guests and acting on them, wherever they are."""

from actors.encoding.messages import StoreChange, StoreState
from actors.errors import BadRequest, GuestExists, GuestUnknown, NodeUnknown, Unreachable
from actors.hypervisor.messages import CreateGuest, GuestInfo
from actors.migration.desk import Desk
from actors.migration.messages import CreateGuestAnywhere, GuestAction, StoreQuery
from actors.migration.preflight import Preflight
from actors.migration.remotes import Remotes
from actors.migration.survey import Survey

ACTIONS = frozenset({"start", "stop", "pause", "resume", "delete"})
# Defining a guest may make disk images.
CREATE_S = 80.0
MAX_GRACE_S = 600.0


class Keeper:
    """Guests outside a move."""

    def __init__(self, remotes: Remotes, survey: Survey, preflight: Preflight, desk: Desk) -> None:
        self._remotes = remotes
        self._survey = survey
        self._preflight = preflight
        self._desk = desk

    async def create(self, request: CreateGuestAnywhere, *, from_here: bool) -> GuestInfo:
        """Create a guest; `from_here` is False when another site's manager has looked at all sites already.

        Raises:
            GuestExists: some node has one of this name.
            Unreachable: some site does not answer, so the name can't be proven free.
            NoPlacement, NodeUnknown: no node for it.
        """
        name = request.spec.name
        topology = self._remotes.calls.topology
        if request.node and topology.member(request.node) is None:
            raise NodeUnknown(node=request.node)
        async with self._desk.claim(name):
            await self._name_is_free(name, everywhere=from_here)
            site = topology.site_of(request.node) if request.node else None
            if site is not None and site.name != self._remotes.calls.site:
                if not from_here:
                    raise NodeUnknown(node=request.node)
                return await self._remotes.manager(site.name, "create_guest", request, GuestInfo, CREATE_S)
            node = request.node or await self._choose(request)
            create = CreateGuest(spec=request.spec, start=request.start)
            return await self._remotes.agent(node).create(create, CREATE_S)

    async def act(self, request: GuestAction, *, from_here: bool) -> GuestInfo:
        """Do `request.action` to a guest.

        Raises:
            GuestBusy: a move has it.
            GuestUnknown: nobody has it.
        """
        if request.action not in ACTIONS:
            raise BadRequest(detail=f"action must be one of {', '.join(sorted(ACTIONS))}, not {request.action!r}")
        if not 0 <= request.grace_s <= MAX_GRACE_S:
            raise BadRequest(detail=f"grace_s must be from 0 to {MAX_GRACE_S:g}, not {request.grace_s:g}")
        async with self._desk.claim(request.name):
            self._desk.refuse_busy(request.name)
            info = await self._survey.locate(request.name, everywhere=from_here)
            if info.site != self._remotes.calls.site:
                deadline_s = self._remotes.deadline_s + request.grace_s
                return await self._remotes.manager(info.site, "guest_action", request, GuestInfo, deadline_s)
            return await self._remotes.agent(info.node).act(request.action, request.name, request.grace_s)

    async def store(self, request: StoreQuery, *, from_here: bool) -> StoreState:
        """Look after the content store of a node, of this site or, if `from_here`, of another one.

        Raises:
            NodeUnknown: no site has such a node.
        """
        site = self._remotes.calls.topology.site_of(request.node)
        if site is None or (site.name != self._remotes.calls.site and not from_here):
            raise NodeUnknown(node=request.node)
        if site.name != self._remotes.calls.site:
            return await self._remotes.manager(site.name, "store", request, StoreState)
        change = StoreChange(action=request.action, path=request.path)
        return await self._remotes.decoder(request.node).store(change)

    async def _name_is_free(self, name: str, *, everywhere: bool) -> None:
        try:
            there = await self._survey.locate(name, everywhere=everywhere)
        except GuestUnknown:
            return
        except Unreachable as error:
            raise Unreachable(what=f"every node to make sure that the name {name} is free: {error}") from error
        raise GuestExists(guest=name, node=there.node)

    async def _choose(self, request: CreateGuestAnywhere) -> str:
        wanted = GuestInfo(
            name=request.spec.name,
            uuid="",
            node="",
            site="",
            state="shut-off",
            memory_mib=request.spec.memory_mib,
            vcpus=request.spec.vcpus,
        )
        return (await self._preflight.choose(wanted, exclude=[], everywhere=False)).node
