"""The placement policy: one per site, on its lead node."""

from actors.calls.messages import Caller
from actors.calls.service import Service, exposed
from actors.config.schema import Config
from actors.errors import NoPlacement
from actors.placement.messages import Place, Placed
from models.placement.best_fit import Candidate, Need, Rules, choose


class PlacementPolicy(Service):
    """Chooses the node a guest runs on (ITP): best fit under hard rules."""

    def __init__(self, config: Config) -> None:
        self._rules = Rules(config.placement.headroom_mib, config.placement.max_vcpus_per_cpu)

    @exposed()
    async def place(self, caller: Caller, request: Place) -> Placed:  # noqa: ARG002
        """Choose among `request.nodes`.

        Raises:
            NoPlacement: none may take the guest; the reasons name each node's.
        """
        need = Need(request.memory_mib, request.vcpus, request.machine, request.site, frozenset(request.exclude))
        candidates = [
            Candidate(
                name=facts.node,
                site=facts.site,
                state=facts.state,
                cpus=facts.cpus,
                vcpus_in_use=request.vcpus_in_use.get(facts.node, 0),
                free_mib=facts.free_mib,
                machines=frozenset(facts.machine_types),
            )
            for facts in request.nodes
        ]
        choice = choose(need, candidates, self._rules)
        if choice.node is None:
            reasons = "; ".join(f"{node}: {why}" for node, why in choice.rejected.items()) or "there is no node"
            raise NoPlacement(guest=request.guest, reasons=reasons)
        return Placed(node=choice.node, reason=choice.reason, rejected=choice.rejected)
