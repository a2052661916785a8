"""The terms of leases as this node's configuration wants them: asked for, and not again where that is in vain."""

from typing import Protocol

import structlog

from actors.control.commands import AnyCommand, SetTerms
from actors.control.decision import Refusal
from actors.control.messages import ClusterView, Outcome
from actors.control.model import Terms
from actors.errors import NovaCronError, StateRefused
from actors.hypervisor.engine.terms import Wanted

log = structlog.get_logger()
_LOOK_MS = 30_000.0
_LOOK_S = 2.0


class States(Protocol):
    """What is asked of the control state here; `StateClient` has it."""

    async def submit(self, command: AnyCommand, *, by: str, deadline_s: float = ...) -> Outcome:
        """Have a command agreed on."""
        ...

    async def cluster(self, *, deadline_s: float = ...) -> ClusterView:
        """How the members stand."""
        ...


class Setting:
    """One node's part in it: only the node that `wanted` names as `here` asks.

    Members that agree in BFT take the first terms and no later ones (`not-in-bft`). Each try would be an entry in
    everybody's log, so it is asked for once: again with other terms in force, once members agree in Raft, or by a new
    process, which has read its configuration anew.
    """

    def __init__(self, states: States, by: str, wanted: Wanted) -> None:
        self._states, self._by, self._wanted = states, by, wanted
        self._refused = 0
        """The number of the terms in whose place no others were taken, 0 for none."""
        self._look_at_ms = 0.0
        self.note = ""
        """Why the terms are not those that are configured here; '' if they are, as far as this node has asked."""

    def due(self, terms: Terms) -> bool:
        """Whether to ask for other terms than these, which are in force."""
        met = self._wanted.met(terms)
        if met or (self._refused and self._refused != terms.number):
            self._refused, self.note = 0, ""
        return self._wanted.here and not met and not self._refused

    async def ask(self, terms: Terms) -> None:
        """Ask for the configured terms in place of `terms`; what the rules refuse is logged.

        Raises:
            NoMajority: no answer in time.
        """
        wanted = self._wanted
        setting = SetTerms(
            after=terms.number,
            duration_ms=wanted.duration_ms,
            pause_ms=wanted.pause_ms,
            drift_ppm=wanted.drift_ppm,
            takeover=wanted.takeover,
        )
        try:
            await self._states.submit(setting, by=self._by)
        except StateRefused as no:
            self.note = f"leases keep terms that are not those configured here: {no.fields['detail']}"
            # Where not every member has joined yet, say, it is asked for again with the next renewal.
            if no.refusal == Refusal.NOT_IN_BFT:
                self._refused = terms.number
            log.warning("the terms of leases were not set", reason=str(no))

    async def look(self, now_ms: float) -> None:
        """Ask again with the next renewal if members that refused agree in Raft by now: looked at now and then."""
        if not self._refused or now_ms < self._look_at_ms:
            return
        self._look_at_ms = now_ms + _LOOK_MS
        try:
            view = await self._states.cluster(deadline_s=_LOOK_S)
        except NovaCronError as error:
            log.debug("which protocol members agree by is not known", error=str(error))
            return
        if view.mode == "raft":
            self._refused, self.note = 0, ""
