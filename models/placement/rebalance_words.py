"""Why a move is made, and what would be without it, in words."""

from typing import TYPE_CHECKING

from models.placement.rebalance_worth import Gain, stranded

if TYPE_CHECKING:
    from models.placement.rebalance_worth import Worth


def reason(worth: "Worth", g: int, to: int, gain: Gain) -> str:
    """What moving guest `g` to row `to` brings, the most valuable first; asked before it is moved."""
    picture = worth.picture
    guest, site = picture.guests[g], picture.sites[picture.site[to]]
    split, near = (float(pairs[picture.site[to]]) for pairs in worth.pairs(g))
    words = {
        "stranded": "fills up blocks of free virtual CPUs",
        "tenant": f"joins {split:g} more of {guest.tenant}'s guests in {site}",
        "near": f"joins {near:g} more that it talks with a lot ({', '.join(sorted(guest.near))}) in {site}",
        "hot": f"relieves {picture.hosts[picture.node[g]].name}",
        "price": f"is cheaper on {picture.hosts[to].name}",
    }
    brings = sorted((-usd, name) for name, usd in gain._asdict().items() if usd > 0.005)
    return "; ".join(f"{words[name]} ({-usd:.2f} USD)" for usd, name in brings) or "it has to go"


def without(worth: "Worth", g: int, to: int, gain: Gain) -> str:
    """What stays as it is when guest `g` is not moved; asked before it is moved."""
    picture = worth.picture
    here, guest = int(picture.node[g]), picture.guests[g]
    source, target = picture.hosts[here].name, picture.hosts[to].name
    found = []
    if gain.stranded > 0:
        lost = [float(stranded(picture.vcpus[row, : picture.cells[row]]).sum()) for row in (here, to)]
        found.append(f"{source} has {lost[0]:g} free virtual CPUs outside whole blocks and {target} {lost[1]:g}")
    site = picture.sites[picture.site[here]]
    split, near = (float(pairs[picture.site[to]]) for pairs in worth.pairs(g))
    if split > 0:
        found.append(f"{split:g} pairs of {guest.tenant}'s guests stay split over {site} and others")
    if near > 0:
        found.append(f"{near:g} pairs that talk a lot keep talking between sites")
    if gain.hot > 0:
        used = 1 - picture.vcpus[here].sum() / max(picture.size_vcpus[here], 1e-9)
        used_mib = 1 - picture.mib[here].sum() / max(picture.size_mib[here], 1e-9)
        found.append(f"{source} stays used by {max(used, used_mib):.0%}")
    if gain.price > 0:
        found.append(f"it goes on costing {gain.price:.2f} USD more in {worth.terms.horizon_h:g} h")
    return "; ".join(found) or f"{source} keeps it"
