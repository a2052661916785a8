"""Which terms the leases are to have, by the configuration."""

import msgspec

from actors.config.schema import Config
from actors.control.members import members_of
from actors.control.model import Node, Takeover, Terms
from actors.control.ownership import third_voice


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Terms as they are to be; `here`: this node is the one that sets them, so that two never take turns."""

    takeover: Takeover
    duration_ms: int
    pause_ms: int
    drift_ppm: int
    here: bool

    def met(self, terms: Terms) -> bool:
        """True when `terms` are these."""
        return (self.takeover, self.duration_ms, self.pause_ms, self.drift_ppm) == (
            terms.takeover,
            terms.duration_ms,
            terms.pause_ms,
            terms.drift_ppm,
        )


def wanted_terms(config: Config) -> Wanted:
    """The configured terms; `takeover` auto: `lease` where the majority outlives any one site, else `operator`."""
    chosen = config.consensus
    members = {each.node: Node(name=each.node, site=each.site, role=each.role, speaks=1) for each in members_of(config)}
    auto: Takeover = "lease" if third_voice(members) else "operator"
    return Wanted(
        takeover=auto if chosen.takeover == "auto" else chosen.takeover,
        duration_ms=round(chosen.lease_s * 1000),
        pause_ms=round(chosen.lease_pause_s * 1000),
        drift_ppm=chosen.clock_drift_ppm,
        here=config.topology.hosting[0].nodes[0].name == config.node.name,
    )
