"""The kernel's link emulator: a veth pair between two routers with `tc netem` on each end, `nft` for a cut.

Not every kernel has netem. Where it is missing, `wanlink` does the same in user space; it is also the one that the
lab's own tests measure, so it is the default. Netem does not say why it dropped a packet (all of them count as
`lost_packets`) and does not count the bytes of dropped packets.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Literal

import msgspec

from actors.errors import Failed
from actors.lab.line import Change, LineState, State, Way
from actors.lab.plan import LinkPlan

_PACKET_BYTES: Final = 1500
_TABLE: Final = "novacron_cut"
# Runs a command in the router of a site and returns its output.
RunAt = Callable[[str, Sequence[str]], str]


class Behaviour(msgspec.Struct, frozen=True, kw_only=True):
    """How one direction is to behave; kept in a file because netem overwrites the loss while the line is a hole."""

    rate_bps: int
    delay_us: int
    jitter_us: int
    loss_ppm: int
    queue_bytes: int
    state: State = "pass"


class Behaviours(msgspec.Struct, kw_only=True):
    """Both directions."""

    ab: Behaviour
    ba: Behaviour


def qdisc_commands(device: str, way: Behaviour) -> list[list[str]]:
    """The `tc` commands that make `device` send as `way` says; the second keeps packets in order under jitter."""
    in_flight_bytes = way.rate_bps * (way.delay_us + way.jitter_us) // 8_000_000
    limit = (way.queue_bytes + in_flight_bytes) // _PACKET_BYTES + 1
    netem = ["tc", "qdisc", "replace", "dev", device, "root", "handle", "1:", "netem", "limit", str(limit)]
    netem += ["delay", f"{way.delay_us}us"] + ([f"{way.jitter_us}us"] if way.jitter_us else [])
    loss_percent = 100.0 if way.state == "hole" else way.loss_ppm / 10_000
    if loss_percent:
        netem += ["loss", f"{loss_percent:g}%"]
    if way.rate_bps:
        netem += ["rate", f"{way.rate_bps}bit"]
    order = ["tc", "qdisc", "replace", "dev", device, "parent", "1:1", "handle", "2:", "pfifo", "limit", str(limit)]
    return [netem, order]


def cut_commands(device: str, state: State) -> list[list[str]]:
    """The `nft` commands that refuse what would leave by `device` if the line is cut, and stop refusing if not."""
    table = f"{_TABLE}_{device}"
    commands = [["nft", "add", "table", "inet", table], ["nft", "delete", "table", "inet", table]]
    if state == "cut":
        chain = "{ type filter hook forward priority 0; }"
        reject = ["oifname", device, "counter", "reject", "with", "icmpx", "host-unreachable"]
        commands.append(["nft", "add", "table", "inet", table])
        commands.append(["nft", "add", "chain", "inet", table, "forward", chain])
        commands.append(["nft", "add", "rule", "inet", table, "forward", *reject])
    return commands


class _Qdisc(msgspec.Struct):
    kind: str
    bytes: int = 0
    packets: int = 0
    drops: int = 0
    backlog: int = 0


def read_way(behaviour: Behaviour, statistics: str) -> Way:
    """One direction, from the output of ``tc -s -j qdisc show dev DEVICE root``.

    Raises:
        Failed: there is no netem in it.
    """
    try:
        found = msgspec.json.decode(statistics, type=list[_Qdisc])
    except msgspec.MsgspecError as error:
        raise Failed(detail=f"tc wrote {statistics[:200]!r}: {error}") from error
    netem = next((qdisc for qdisc in found if qdisc.kind == "netem"), None)
    if netem is None:
        raise Failed(detail="the line has lost its netem")
    return Way(
        **msgspec.structs.asdict(behaviour),
        queued_bytes=netem.backlog,
        in_packets=netem.packets + netem.drops,
        in_bytes=netem.bytes + netem.backlog,
        out_packets=netem.packets,
        out_bytes=netem.bytes,
        lost_packets=netem.drops,
        queue_drops=0,
        hole_drops=0,
        cut_drops=0,
    )


class NetemLine:
    """A line made of netem; see `Line`."""

    def __init__(self, link: LinkPlan, run_at: RunAt) -> None:
        self._link = link
        self._run_at = run_at
        self._file: Path = link.control.with_suffix(".json")

    def change(self, change: Change) -> None:
        """See `Line.change`."""
        both = self._behaviours()
        for direction in change.directions():
            before: Behaviour = getattr(both, direction)
            after = msgspec.structs.replace(before, **change.values(), state=change.state or before.state)
            for command in [*qdisc_commands(self._link.device, after), *cut_commands(self._link.device, after.state)]:
                self._run_at(self._from(direction), command)
            setattr(both, direction, after)
        self._file.write_bytes(msgspec.json.encode(both))

    def state(self) -> LineState:
        """See `Line.state`."""
        both = self._behaviours()
        show = ["tc", "-s", "-j", "qdisc", "show", "dev", self._link.device]
        return LineState(
            ab=read_way(both.ab, self._run_at(self._from("ab"), show)),
            ba=read_way(both.ba, self._run_at(self._from("ba"), show)),
        )

    def _from(self, direction: Literal["ab", "ba"]) -> str:
        return self._link.site_a if direction == "ab" else self._link.site_b

    def _behaviours(self) -> Behaviours:
        if self._file.exists():
            return msgspec.json.decode(self._file.read_bytes(), type=Behaviours)
        link = self._link
        planned = Behaviour(
            rate_bps=link.rate_bps, delay_us=link.delay_us, jitter_us=link.jitter_us, loss_ppm=link.loss_ppm,
            queue_bytes=link.queue_bytes,
        )  # fmt: skip
        return Behaviours(ab=planned, ba=planned)
