"""Best fit under hard rules: of the nodes that may take the guest, the one that it fills best."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Rules:
    """Hard rules. `headroom_mib` stays free on the chosen node; `max_vcpus_per_cpu` limits overcommit."""

    headroom_mib: int
    max_vcpus_per_cpu: float


@dataclass(frozen=True, slots=True)
class Need:
    """What the guest needs; `machine` and `site` are '' when any will do."""

    memory_mib: int
    vcpus: int
    machine: str = ""
    site: str = ""
    exclude: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Candidate:
    """One node; `vcpus_in_use` are those of its running guests."""

    name: str
    site: str
    state: str
    cpus: int
    vcpus_in_use: int
    free_mib: int
    machines: frozenset[str]


@dataclass(frozen=True, slots=True)
class Choice:
    """The chosen node (None when none will do), why, and what spoke against each other one."""

    node: str | None
    reason: str
    rejected: dict[str, str] = field(default_factory=dict)


def choose(need: Need, candidates: list[Candidate], rules: Rules) -> Choice:
    """The node with the least memory left after taking the guest; ties go to the first name."""
    rejected: dict[str, str] = {}
    fitting: list[Candidate] = []
    for candidate in sorted(candidates, key=lambda each: each.name):
        objection = against(need, candidate, rules)
        if objection:
            rejected[candidate.name] = objection
        else:
            fitting.append(candidate)
    if not fitting:
        return Choice(None, "no node passes the hard rules", rejected)
    best = min(fitting, key=lambda each: (each.free_mib, each.name))
    left_mib = best.free_mib - need.memory_mib
    for other in fitting:
        if other is not best:
            rejected[other.name] = (
                f"would leave {other.free_mib - need.memory_mib} MiB free, {best.name} {left_mib} MiB"
            )
    return Choice(best.name, f"best fit of {len(fitting)}: {left_mib} MiB stay free there", rejected)


def against(need: Need, node: Candidate, rules: Rules) -> str:
    """The first hard rule that forbids `node`, '' when none does."""
    if node.name in need.exclude:
        return "excluded (the guest's present node)"
    if need.site and node.site != need.site:
        return f"in site {node.site}, not {need.site}"
    if node.state != "up":
        return f"is {node.state}"
    if need.machine and need.machine not in node.machines:
        return f"has no machine type {need.machine}"
    if node.free_mib - rules.headroom_mib < need.memory_mib:
        return f"needs {need.memory_mib} MiB and {rules.headroom_mib} MiB of headroom, has {node.free_mib} MiB free"
    allowed = int(node.cpus * rules.max_vcpus_per_cpu)
    if node.vcpus_in_use + need.vcpus > allowed:
        return f"{node.vcpus_in_use} of at most {allowed} virtual CPUs are in use, {need.vcpus} more are needed"
    return ""
