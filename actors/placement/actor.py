"""The placement policy: one per site, on its lead node."""

import asyncio

from actors.calls.messages import Caller
from actors.calls.service import Service, exposed
from actors.config.schema import Config
from actors.errors import NoPlacement
from actors.placement.messages import MovePlan, Place, Placed, PlanMoves
from actors.placement.picture import nodes_of
from actors.placement.planning import planned
from models.placement import load_policy
from models.placement.cluster import Cluster, Request
from models.placement.policy import Refusal


class PlacementPolicy(Service):
    """Chooses the node a guest runs on (ITP): the tenant's site, then best fit, under hard rules."""

    def __init__(self, config: Config) -> None:
        self._limits = config.placement
        self._policy = load_policy()

    @exposed()
    async def place(self, caller: Caller, request: Place) -> Placed:  # noqa: ARG002
        """Choose among `request.nodes`.

        Raises:
            NoPlacement: none may take the guest; the reasons name each node's.
        """
        limits = self._limits
        nodes = nodes_of(request.nodes, request.guests)
        cluster = Cluster(nodes, headroom_mib=limits.headroom_mib, max_vcpus_per_cpu=limits.max_vcpus_per_cpu)
        wanted = request.attributes
        answer = self._policy.place(
            cluster,
            Request(
                guest=request.guest,
                memory_mib=request.memory_mib,
                vcpus=request.vcpus,
                machine=request.machine,
                site=request.site,
                exclude=frozenset(request.exclude),
                tenant=wanted.tenant,
                sites=frozenset(wanted.sites),
                together=frozenset(wanted.together),
                apart=frozenset(wanted.apart),
            ),
        )
        if isinstance(answer, Refusal):
            reasons = "; ".join(f"{node}: {why}" for node, why in answer.rejected.items()) or answer.reason
            raise NoPlacement(guest=request.guest, reasons=reasons)
        return Placed(node=answer.node, reason=answer.reason, rejected=answer.rejected)

    @exposed()
    async def plan_moves(self, caller: Caller, request: PlanMoves) -> MovePlan:  # noqa: ARG002
        """Plan moves that empty nodes, or that pay; beside it, others are answered."""
        return await asyncio.to_thread(planned, request, self._limits)
