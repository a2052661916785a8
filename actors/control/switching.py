"""When a member asks for the other protocol: as it is configured, or by the links between the members."""

import msgspec

from actors.config.schema import BFT_MEMBERS_MIN, Consensus
from actors.consensus.chain import Choice, Protocol, Thresholds, switch_to
from actors.consensus.ready import Entry, Kind
from actors.control.commands import AddMember, AnyCommand, LoggedCommand, RemoveMember, Signed, plain
from actors.control.distances import Distances
from actors.control.envelope import Envelope
from actors.control.member_rules import under_way
from actors.control.shell import Shell
from actors.control.signing import SIGNED_SINCE

LOOK_MS = 500.0
"""Between two looks, at least."""


class Switching:
    """One member's. In Raft the leader's word counts; in BFT f + 1 must want the same."""

    def __init__(self, settings: Consensus, distances: Distances) -> None:
        self._mode, self._distances = settings.mode, distances
        self._choice = Choice(
            Thresholds(
                dwell_ticks=max(1, round(settings.switch_after_s * 1000 / LOOK_MS)),
                rest_ticks=round(settings.switch_rest_s * 1000 / LOOK_MS),
                bft_voters_min=BFT_MEMBERS_MIN,
            )
        )

    def look(self, shell: Shell, now_ms: float) -> None:
        """Ask for a switch if it is wanted; to be called every `LOOK_MS`."""
        wanted, core = self._wanted(shell, now_ms), shell.core
        if wanted is None or wanted is core.protocol or core.sealed or not shell.proposes:
            return
        if under_way(shell.replica.state, shell.among) is not None:
            # Who joins has nothing yet but the part of the log that it began with.
            return
        if any(_changes_members(entry) for entry in shell.unapplied):
            # The same, though this leader, a new one say, has not applied it yet.
            return
        if wanted is Protocol.BFT and shell.replica.state.cluster.version < SIGNED_SINCE:
            # Nobody could tell whose word a command is.
            return
        known = shell.replica.state.members
        voters = core.membership.voters
        if wanted is Protocol.BFT and any(str(number) not in known for number in voters):
            # Nobody could check what that member signs.
            return
        core.propose(switch_to(wanted), Kind.SWITCH)

    def _wanted(self, shell: Shell, now_ms: float) -> Protocol | None:
        core = shell.core
        if self._mode == "adaptive":
            links = self._distances.pairs(now_ms)
            return self._choice.tick(core.part, core.protocol, core.membership.voters, links)
        if self._mode != "bft":
            return Protocol.RAFT
        return Protocol.BFT if len(core.membership.voters) >= BFT_MEMBERS_MIN else None


def _changes_members(entry: Entry) -> bool:
    return entry.kind is Kind.COMMAND and isinstance(asked_in(entry.payload), AddMember | RemoveMember)


def asked_in(entry: bytes) -> AnyCommand | None:
    """The command in the bytes of an entry, whoever signed it; None: there is none of these rules."""
    try:
        command = _commands.decode(_envelopes.decode(entry).body)
        return plain(command.body) if isinstance(command, Signed) else command
    except (ValueError, RecursionError, OverflowError):
        return None


_envelopes: msgspec.msgpack.Decoder[Envelope] = msgspec.msgpack.Decoder(Envelope)
_commands: msgspec.msgpack.Decoder[LoggedCommand] = msgspec.msgpack.Decoder(LoggedCommand)
