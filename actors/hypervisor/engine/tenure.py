"""What an agent does with the guests that it finds, by what the control state says of them. Pure."""

import re
from enum import StrEnum
from typing import NamedTuple

from actors.control.model import Guest, Run
from actors.control.ownership import Right, Standing

DEFINITION_BYTES_MAX = 65536
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_EXECUTES = "running"
_HAS_MEMORY = frozenset({"running", "paused"})


class Here(NamedTuple):
    """A guest as this host has it.

    `state`: as in `GuestInfo`. `job`: the move that has it by this agent's own record, '' for none. `epoch`: under
    which it was started here or arrived, 0 if that was never written down. `kept`: the keeper paused it, and that is
    not answered yet.
    """

    name: str
    state: str
    job: str
    epoch: int
    kept: bool


class Deed(StrEnum):
    """What is to be done about one guest."""

    NOTHING = "nothing"
    CLAIM = "claim"
    """Ask for an epoch: it runs here, and nobody else may run it."""
    WRITE_DOWN = "write-down"
    """It is ours: write down under which epoch."""
    RESUME = "resume"
    WITHHOLD = "withhold"
    """Never run it, and say why. What executes is paused if it was ours once; what never was came here by an
    operator's own hand (a move by libvirt alone, say), and its owner's agent will tell that it has left."""
    SAY_STOPPED = "say-stopped"
    """It has stopped: tell the control state."""


def governed(name: str) -> bool:
    """True for a guest that the control state can know; others belong to this host alone and are left to libvirt."""
    return _NAME.fullmatch(name) is not None


def deed(here: Here, record: Guest | None, standing: Standing, node: str) -> Deed:
    """What to do about a governed guest of `node`, as a linearizable read under the lease held has it."""
    if here.job or standing.right is Right.LEAVE:
        return Deed.NOTHING
    if here.state not in _HAS_MEMORY:
        mine = record is not None and record.run is Run.RUNNING and record.node == node
        return Deed.SAY_STOPPED if mine and standing.right is Right.RUN else Deed.NOTHING
    if standing.right is Right.RUN:
        # Our own again by a failover that went there and back: what is here is of before.
        if here.epoch not in (0, standing.epoch):
            return Deed.WITHHOLD
        if not here.epoch:
            return Deed.WRITE_DOWN
        return Deed.RESUME if here.kept and here.state == "paused" else Deed.NOTHING
    if record is None:
        return Deed.CLAIM
    # Under an epoch that it had it may not go on: who said that it has stopped has counted on that.
    if record.run is Run.STOPPED and not here.epoch:
        return Deed.CLAIM
    return Deed.WITHHOLD


def reason(record: Guest, here: Here, node: str) -> str:
    """Why a guest is withheld, in words."""
    if record.run is Run.STOPPED:
        return "it was stopped, and what is here is of before: stop it here, then start it anew"
    if record.node != node:
        return f"{record.node} owns it since epoch {record.epoch}: what is here is an earlier owner's, stop it"
    return (
        f"it is owned at epoch {record.epoch}, and what is here is of epoch {here.epoch}: stop it, then start it anew"
    )
