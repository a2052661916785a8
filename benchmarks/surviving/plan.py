"""Which faults are tried at which moments of a move. Pure."""

from typing import Literal

import msgspec

Phase = Literal["idle", "begin", "copying", "switchover", "arrived"]
Role = Literal["source", "target", "third"]
Part = Literal["member", "agent", "keeper", "manager", "line", "site"]

PHASES: tuple[Phase, ...] = ("idle", "begin", "copying", "switchover", "arrived")
"""`begin`: just accepted; `copying`: a MiB has left; `switchover`: the source has stopped; `arrived`: the target
runs."""
_ROLES: tuple[Role, ...] = ("source", "target", "third")
_OF_HOSTS: tuple[Part, ...] = ("agent", "keeper", "manager")
_KILLED: tuple[Part, ...] = ("member", *_OF_HOSTS)


class Fault(msgspec.Struct, frozen=True):
    """Kill -9 of a part of one node; the line of which `role` is no end; or a site, off from both others.

    `role`: of the node in the move.
    """

    part: Part
    role: Role

    def __str__(self) -> str:
        if self.part == "line":
            return "cut " + "-".join(role for role in _ROLES if role != self.role)
        return f"{'cut' if self.part == 'site' else 'kill'} {self.part} {self.role}"


class Cell(msgspec.Struct, frozen=True):
    """One fault at one moment."""

    fault: Fault
    phase: Phase


def faults(witness: bool = False) -> list[Fault]:
    """All of them; where the third node is a `witness`, it has no other part to kill than its member."""
    parts: tuple[Part, ...] = (*_KILLED, "line", "site")
    every = [Fault(part, role) for part in parts for role in _ROLES]
    return [each for each in every if not witness or each.role != "third" or each.part not in _OF_HOSTS]


def matrix(wanted: str = "", phases: tuple[Phase, ...] = PHASES, witness: bool = False) -> list[Cell]:
    """Every fault whose name holds `wanted`, at each of `phases`; `witness`: see `faults`."""
    return [Cell(fault, phase) for fault in faults(witness) if wanted in str(fault) for phase in phases]


def short() -> list[Cell]:
    """Few that together have every part, every phase and every role."""
    chosen: list[tuple[Part, Role, Phase]] = [
        ("site", "source", "copying"),
        ("agent", "target", "arrived"),
        ("keeper", "target", "begin"),
        ("manager", "source", "switchover"),
        ("line", "third", "copying"),
        ("member", "third", "idle"),
    ]
    return [Cell(Fault(part, role), phase) for part, role, phase in chosen]
