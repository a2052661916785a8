"""From nodes and guests as the agents tell of them to a plan of moves."""

from collections import defaultdict

from actors.config.schema import Placement
from actors.hypervisor.messages import GuestInfo
from actors.placement.messages import MovePlan, PlanMoves, PlannedMove, Standing, Staying
from actors.placement.picture import WITH_MEMORY
from models.placement.rebalance import Measures, Move, Plan, plan
from models.placement.rebalance_cost import Costs, Receipt, fit
from models.placement.rebalance_drain import drain
from models.placement.rebalance_inventory import Host, Inventory, Resident
from models.placement.rebalance_rounds import Rounds, settled
from models.placement.rebalance_worth import Terms


def planned(request: PlanMoves, limits: Placement) -> MovePlan:
    """The plan that `request` asks for.

    Raises:
        ValueError: a node to be drained is not among its nodes.
    """
    guests = _once(request.guests)
    inventory = inventory_of(request, guests, limits)
    receipts = [Receipt(one.memory_mib, one.wire_bytes, one.total_s, one.pause_s) for one in request.past]
    costs = Costs(fit=fit(receipts))
    terms = Terms(churn=limits.churn, dwell_s=limits.dwell_s, rounds=1)
    if request.drain:
        found = drain(inventory, costs, terms, frozenset(request.drain), force=request.part_groups)
    else:
        moved = {one.guest: one.ended_at for one in request.past if one.guest in guests}
        rested = settled(inventory, Rounds(moved=moved), request.at, terms)
        found = plan(rested, costs, terms, most=request.most or None)
    return _told(found, guests)


def inventory_of(request: PlanMoves, guests: dict[str, GuestInfo], limits: Placement) -> Inventory:
    """Nodes with what they may still give, and guests where they are; those that are not running stay."""
    used: defaultdict[str, int] = defaultdict(int)
    for guest in request.guests:
        used[guest.node] += guest.vcpus if guest.state in WITH_MEMORY else 0
    hosts = []
    for node in request.nodes:
        vcpus = float(int(node.cpus * limits.max_vcpus_per_cpu))
        free = (vcpus - used[node.node], float(node.free_mib - limits.headroom_mib))
        hosts.append(
            Host(
                name=node.node,
                site=node.site,
                vcpus=vcpus,
                mib=float(node.memory_mib - limits.headroom_mib),
                free=(free,),
                takes=node.state == "up",
                machines=frozenset(node.machine_types),
            )
        )
    there = {host.name for host in hosts}
    return Inventory(hosts, [_resident(guest) for guest in guests.values() if guest.node in there])


def _resident(guest: GuestInfo) -> Resident:
    wanted = guest.attributes
    has_memory = guest.state in WITH_MEMORY
    fixed = f"migration {guest.job} has it" if guest.job else ""
    if guest.state != "running":
        fixed = f"it is {guest.state}, and only running guests move"
    return Resident(
        name=guest.name,
        node=guest.node,
        vcpus=float(guest.vcpus) if has_memory else 0.0,
        mib=float(guest.memory_mib) if has_memory else 0.0,
        machine=guest.machine,
        tenant=wanted.tenant,
        sites=frozenset(wanted.sites),
        together=frozenset(wanted.together),
        apart=frozenset(wanted.apart),
        near=frozenset(wanted.near),
        fixed=fixed,
    )


def _once(guests: list[GuestInfo]) -> dict[str, GuestInfo]:
    """Of two copies under a move, the one that runs."""
    found: dict[str, GuestInfo] = {}
    for guest in sorted(guests, key=lambda one: (one.state != "running", one.state == "incoming", one.node)):
        found.setdefault(guest.name, guest)
    return found


def _told(found: Plan, guests: dict[str, GuestInfo]) -> MovePlan:
    return MovePlan(
        moves=[_move(move, guests) for move in found.moves],
        stays=[
            Staying(guest=stay.guest, node=stay.node, rule=str(stay.rule or ""), reason=stay.reason)
            for stay in found.stays
        ],
        before=_standing(found.before),
        after=_standing(found.after),
    )


def _move(move: Move, guests: dict[str, GuestInfo]) -> PlannedMove:
    wanted = guests[move.guest].attributes
    return PlannedMove(
        guest=move.guest,
        source=move.source,
        target=move.target,
        reason=move.reason,
        without=move.without,
        gain_usd=move.gain.usd,
        cost_usd=move.cost.usd,
        expected_s=move.cost.seconds,
        expected_bytes=move.cost.wire_bytes,
        expected_pause_ms=move.cost.pause_s * 1000,
        groups=wanted.together + wanted.apart,
        parted=wanted.together if move.parts else (),
    )


def _standing(measures: Measures) -> Standing:
    return Standing(
        fragmentation_8=measures.fragmentation8,
        fragmentation_16=measures.fragmentation16,
        split_pairs=measures.split_pairs,
        near_pairs=measures.near_pairs,
        hot_nodes=measures.hot,
    )
