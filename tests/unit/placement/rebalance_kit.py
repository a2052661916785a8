"""Random clusters for the tests of rebalancing, and the hard rules once more, said plainly."""

from dataclasses import replace

from hypothesis import strategies as st

from models.placement.rebalance_inventory import BOTH, Host, Inventory, Resident

SITES = ("s0", "s1", "s2")
SMALL, EPS = 4096.0, 1e-6


class Site:
    """Where every guest is, and what each cell has left: changed only by `go`, which checks every rule."""

    def __init__(self, hosts, guests=()):
        self.hosts = {host.name: host for host in hosts}
        self.free = {host.name: [list(cell) for cell in host.free] for host in hosts}
        self.guests = {guest.name: guest for guest in guests}

    def broken(self, guest, to, cell, parted=frozenset()):
        """The rules that `guest` on `cell` of `to` breaks."""
        host, share = self.hosts[to], 2 if cell == BOTH else 1
        others = [one for one in self.guests.values() if one.name != guest.name]
        cells = [self.free[to][i] for i in self.cells(cell)]
        mates = {group: {one.node for one in others if group in one.together} for group in guest.together - set(parted)}
        return [
            name
            for name, broken in {
                "site": guest.sites and host.site not in guest.sites,
                "labels": not guest.labels <= host.labels,
                "affinity": any(nodes and to not in nodes for nodes in mates.values()),
                "anti-affinity": any(one.node == to and one.apart & guest.apart for one in others),
                "vcpus": any(cpu + EPS < guest.vcpus / share for cpu, _ in cells),
                "memory": any(mib + EPS < guest.mib / share for _, mib in cells),
            }.items()
            if broken
        ]

    @staticmethod
    def cells(cell):
        return (0, 1) if cell == BOTH else (cell,)

    def put(self, guest):
        self._give(guest, -1)
        self.guests[guest.name] = guest

    def go(self, move):
        """Make a move, and say which rules that breaks."""
        guest = self.guests[move.guest]
        parted = guest.together if move.parts else frozenset()
        broken = self.broken(guest, move.target, move.cell, parted)
        if guest.fixed:
            broken.append("fixed")
        if not self.hosts[move.target].takes:
            broken.append("state")
        assert guest.node == move.source
        self._give(guest, 1)
        self.put(replace(guest, node=move.target, cell=move.cell))
        return broken

    def inventory(self):
        hosts = [replace(h, free=tuple((c, m) for c, m in self.free[h.name])) for h in self.hosts.values()]
        return Inventory(hosts, list(self.guests.values()))

    def _give(self, guest, sign):
        cells = self.cells(guest.cell)
        for index in cells:
            self.free[guest.node][index][0] += sign * guest.vcpus / len(cells)
            self.free[guest.node][index][1] += sign * guest.mib / len(cells)


@st.composite
def inventories(draw, hosts=6, guests=14):
    """Clusters whose guests keep the rules where they are: one that would break any is left out."""
    made = [draw(_hosts(index)) for index in range(draw(st.integers(2, hosts)))]
    site = Site(made)
    for index in range(draw(st.integers(0, guests))):
        guest = draw(_residents(f"g{index:02}", draw(st.sampled_from(made))))
        if not site.broken(guest, guest.node, guest.cell):
            site.put(guest)
    return site.inventory()


@st.composite
def _hosts(draw, index):
    return Host(
        f"n{index}",
        draw(st.sampled_from(SITES)),
        vcpus=16.0,
        mib=4 * SMALL,
        free=((16.0, 4 * SMALL),) * draw(st.integers(1, 2)),
        takes=draw(st.integers(0, 5)) > 0,
        labels=frozenset(draw(st.sets(st.sampled_from("xy")))),
        usd_h=draw(st.sampled_from((0.0, 0.01))),
    )


@st.composite
def _residents(draw, name, host):
    spread = draw(st.booleans())
    kind = draw(st.sampled_from(("", "", "together", "apart", "near")))
    cell = 0 if len(host.free) == 1 else BOTH if spread else draw(st.integers(0, 1))
    return Resident(
        name,
        host.name,
        vcpus=float(draw(st.sampled_from((1, 2, 3, 4, 8)))),
        mib=SMALL * draw(st.sampled_from((0.25, 0.5, 1.0))),
        cell=cell,
        spread=spread,
        tenant=draw(st.sampled_from(("", "t1", "t2"))),
        sites=frozenset({host.site, draw(st.sampled_from(SITES))}) if draw(st.integers(0, 3)) == 0 else frozenset(),
        labels=host.labels if draw(st.integers(0, 3)) == 0 else frozenset(),
        fixed="it is paused" if draw(st.integers(0, 9)) == 0 else "",
        **({kind: frozenset({draw(st.sampled_from("pq"))})} if kind else {}),
    )
