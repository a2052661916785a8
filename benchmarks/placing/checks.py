"""Whether guests are where their rules and the plan have them, counted anew from what the nodes tell. Pure."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from itertools import combinations

import msgspec

from actors.hypervisor.messages import GuestInfo
from actors.migration.messages import SweepView
from actors.placement.messages import Standing

_CLOSE = 1e-6


class Host(msgspec.Struct, frozen=True, kw_only=True):
    """A node: its site, the virtual CPUs that it may give, and whether it takes guests."""

    site: str
    vcpus: int
    takes: bool = True


def broken_rules(guests: Iterable[GuestInfo], hosts: Mapping[str, Host]) -> list[str]:
    """Every hard rule that is broken where the guests are."""
    found, here = [], defaultdict(list)
    for guest in guests:
        here[guest.node].append(guest)
        sites = guest.attributes.sites
        if sites and hosts[guest.node].site not in sites:
            found.append(f"{guest.name} is in {hosts[guest.node].site}, allowed are {', '.join(sites)}")
    homes: defaultdict[str, set[str]] = defaultdict(set)
    for node, there in sorted(here.items()):
        used = sum(guest.vcpus for guest in there)
        if used > hosts[node].vcpus:
            found.append(f"{node} gives {used} virtual CPUs of {hosts[node].vcpus}")
        lone = Counter(group for guest in there for group in guest.attributes.apart)
        found += [f"{count} guests of {group} share {node}" for group, count in lone.items() if count > 1]
        for group in {group for guest in there for group in guest.attributes.together}:
            homes[group].add(node)
    found += [f"guests of {group} are on {', '.join(sorted(at))}" for group, at in sorted(homes.items()) if len(at) > 1]
    return found


def standing(guests: list[GuestInfo], hosts: Mapping[str, Host]) -> Standing:
    """How the cluster stands; `hot_nodes`, which is of the hosts' memory, is left at 0."""
    used = Counter[str]()
    for guest in guests:
        used[guest.node] += guest.vcpus
    free = [host.vcpus - used[name] for name, host in hosts.items() if host.takes]
    shares = {block: sum(each % block for each in free) / max(sum(free), 1) for block in (8, 16)}
    tenants = [(guest, {guest.attributes.tenant} - {""}) for guest in guests]
    talking = [(guest, set(guest.attributes.near)) for guest in guests]
    return Standing(
        fragmentation_8=shares[8],
        fragmentation_16=shares[16],
        split_pairs=_split(tenants, hosts),
        near_pairs=_split(talking, hosts),
        hot_nodes=0,
    )


def unlike(promised: Standing, found: Standing) -> list[str]:
    """The figures in which what is there is not what was promised."""
    names = ("fragmentation_8", "fragmentation_16", "split_pairs", "near_pairs")
    pairs = [(name, getattr(promised, name), getattr(found, name)) for name in names]
    return [f"{name} is {now:.4f}, promised {then:.4f}" for name, then, now in pairs if abs(then - now) > _CLOSE]


def strayed(before: Mapping[str, str], sweep: SweepView, after: Mapping[str, str]) -> list[str]:
    """Guests that are elsewhere than the plan's last move of them, or where they were, has them; nodes by guest."""
    due = {**before, **{move.plan.guest: move.plan.target for move in sweep.moves}}
    undone = [
        f"the move of {move.plan.guest} {move.state}: {move.error}" for move in sweep.moves if move.state != "completed"
    ]
    names = sorted({*due, *after})
    return undone + [
        f"{name} is on {after.get(name, 'no node')}, promised {due.get(name, 'nowhere')}"
        for name in names
        if due.get(name) != after.get(name)
    ]


def _split(named: list[tuple[GuestInfo, set[str]]], hosts: Mapping[str, Host]) -> float:
    """Of all pairs that share a name, the share in two sites."""
    pairs = [
        hosts[one.node].site != hosts[other.node].site
        for (one, names), (other, others) in combinations(named, 2)
        for _ in names & others
    ]
    return sum(pairs) / len(pairs) if pairs else 0.0
