"""The placement policy: one per site, on its lead node."""

import asyncio

import structlog

from actors.calls.messages import Caller
from actors.calls.service import Service, exposed
from actors.config.schema import Config
from actors.errors import NoPlacement
from actors.flags.file import Switches
from actors.placement.messages import MovePlan, Place, Placed, PlanMoves
from actors.placement.picture import nodes_of
from actors.placement.planning import planned
from actors.placement.serving import Serving
from models.placement.cluster import Cluster, Request
from models.placement.policy import Refusal

log = structlog.get_logger()


class PlacementPolicy(Service):
    """Chooses the node a guest runs on (ITP): by the version in use, else the tenant's site and best fit; the hard
    rules always hold."""

    def __init__(self, config: Config) -> None:
        self._limits = config.placement
        self._switches = Switches(config.node.name, config.node.state_dir)
        self._serving = Serving(config.node.models_dir or config.node.state_dir / "models")

    @exposed()
    async def place(self, caller: Caller, request: Place) -> Placed:  # noqa: ARG002
        """Choose among `request.nodes`.

        Raises:
            NoPlacement: none may take the guest; the reasons name each node's.
        """
        limits = self._limits
        nodes = nodes_of(request.nodes, request.guests)
        cluster = Cluster(nodes, headroom_mib=limits.headroom_mib, max_vcpus_per_cpu=limits.max_vcpus_per_cpu)
        attributes = request.attributes
        wanted = Request(
            guest=request.guest,
            memory_mib=request.memory_mib,
            vcpus=request.vcpus,
            machine=request.machine,
            site=request.site,
            exclude=frozenset(request.exclude),
            tenant=attributes.tenant,
            sites=frozenset(attributes.sites),
            together=frozenset(attributes.together),
            apart=frozenset(attributes.apart),
        )
        await asyncio.to_thread(self._serving.refresh)
        answer, others = self._serving.choose(cluster, wanted, on=self._switches.on("itp", request.guest))
        if isinstance(answer, Refusal):
            reasons = "; ".join(f"{node}: {why}" for node, why in answer.rejected.items()) or answer.reason
            raise NoPlacement(guest=request.guest, reasons=reasons)
        if others:
            log.info("a guest was placed", guest=request.guest, node=answer.node, by=answer.by, others=others)
        return Placed(node=answer.node, reason=answer.reason, rejected=answer.rejected, by=answer.by, others=others)

    @exposed()
    async def plan_moves(self, caller: Caller, request: PlanMoves) -> MovePlan:  # noqa: ARG002
        """Plan moves that empty nodes, or that pay; beside it, others are answered."""
        return await asyncio.to_thread(planned, request, self._limits)
