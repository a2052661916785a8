"""Creating guests and acting on them, wherever they are."""

from msgspec.structs import asdict, replace

from actors.encoding.messages import StoreChange, StoreState
from actors.errors import BadRequest, GuestExists, GuestUnknown, NodeUnknown, Unreachable
from actors.hypervisor.engine.attributes import checked
from actors.hypervisor.engine.domain import parse_domain
from actors.hypervisor.messages import NO_ATTRIBUTES, CreateGuest, GuestInfo, GuestSpec
from actors.migration.desk import Desk
from actors.migration.messages import CreateGuestAnywhere, GuestAction, LabelGuest, StoreQuery
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
            RuleBroken: its attributes keep it from the node.
        """
        name = request.spec.name
        topology = self._remotes.calls.topology
        if request.node and topology.member(request.node) is None:
            raise NodeUnknown(node=request.node)
        async with self._desk.claim(name):
            await self._name_is_free(name, everywhere=from_here)
            wanted = _wanted(request.spec)
            if request.node:
                await self._preflight.keep_rules(wanted, request.node)
            else:
                everywhere = bool(wanted.attributes.sites or wanted.attributes.together) and from_here
                chosen = await self._preflight.choose(wanted, exclude=[], everywhere=everywhere)
                request = replace(request, node=chosen.node)
            site = topology.site_of(request.node)
            if site is not None and site.name != self._remotes.calls.site:
                if not from_here:
                    raise NodeUnknown(node=request.node)
                return await self._remotes.manager(site.name, "create_guest", request, GuestInfo, CREATE_S)
            create = CreateGuest(spec=request.spec, start=request.start)
            return await self._remotes.agent(request.node).create(create, CREATE_S)

    async def label(self, request: LabelGuest, *, from_here: bool) -> GuestInfo:
        """Change what placement heeds of a guest.

        Raises:
            GuestBusy: a move has it.
            RuleBroken: it is where it could not be then.
            GuestUnknown: nobody has it.
        """
        async with self._desk.claim(request.name):
            self._desk.refuse_busy(request.name)
            info = await self._survey.locate(request.name, everywhere=from_here)
            if info.site != self._remotes.calls.site:
                return await self._remotes.manager(info.site, "label_guest", request, GuestInfo)
            changed = {kind: value for kind, value in asdict(request).items() if kind != "name" and value is not None}
            attributes = checked(replace(info.attributes, **changed))
            await self._preflight.keep_rules(replace(info, attributes=attributes), info.node)
            return await self._remotes.agent(info.node).set_attributes(info.name, attributes)

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


def _wanted(spec: GuestSpec) -> GuestInfo:
    """The guest as placement is asked about it, before there is one."""
    found = parse_domain(spec.xml) if spec.xml else None
    own = checked(spec.attributes)
    return GuestInfo(
        name=spec.name,
        uuid="",
        node="",
        site="",
        state="shut-off",
        memory_mib=found.memory_mib if found else spec.memory_mib,
        vcpus=found.vcpus if found else spec.vcpus,
        attributes=found.attributes if found and own == NO_ATTRIBUTES else own,
    )
