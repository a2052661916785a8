"""Which policy answers: the version in use, or the rule where it is missing, slow, faulty or off; and who listens."""

import time
from collections.abc import Callable
from pathlib import Path

import structlog

from models.placement import load_policy
from models.placement.cluster import Cluster, Request
from models.placement.policy import Choice, Policy, Refusal
from models.registry import Registry, RegistryError
from models.registry import State as Roles

log = structlog.get_logger()
LOOK_S = 30.0
"""How often the registry is looked at."""
SLOW_S = 0.05
REST_S = 60.0
"""A version that took longer than `SLOW_S` for an answer, or failed, leaves them to the rule for so long."""


class Serving:
    """The rule, the version in use and the one in the shadow.

    Args:
        root: the registry's directory.
        clock: seconds that only grow.
    """

    def __init__(self, root: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._root, self._clock = root, clock
        self._rule = Policy()
        self._in_use: Policy | None = None
        self._shadow: Policy | None = None
        self._roles: Roles | None = None
        self._looked = self._rests_until = -LOOK_S

    def refresh(self) -> None:
        """Take up what the registry says now, at most every `LOOK_S`; blocking: reads files, and torch the first time.

        A version that can't be loaded is logged once, and the rule answers.
        """
        if self._clock() - self._looked < LOOK_S:
            return
        self._looked = self._clock()
        try:
            roles = Registry(self._root, "placement").state()
        except (RegistryError, OSError) as error:
            log.error("the registry of placement can't be read: the rule answers", reason=str(error))
            roles = Roles()
        if roles != self._roles:
            self._roles = roles
            self._in_use, self._shadow = self._load(roles.in_use), self._load(roles.shadow)

    def choose(self, cluster: Cluster, request: Request, *, on: bool) -> tuple[Choice | Refusal, dict[str, str]]:
        """The answer, and by version (or ``rule``) the node that each of the others would have chosen.

        Off, the rule answers and the version in use only listens; where that fails, the rule answers too.
        """
        in_use = self._in_use if self._clock() >= self._rests_until else None
        answering = in_use if on and in_use is not None else self._rule
        answer = self._ask(answering, cluster, request)
        if answer is None:
            answering, in_use, answer = self._rule, None, self._rule.place(cluster, request)
        if isinstance(answer, Refusal):
            return answer, {}
        others = {one.version: one for one in (self._rule, in_use, self._shadow) if one is not None}
        others.pop(answering.version)
        listening = {}
        for version, policy in others.items():
            other = self._ask(policy, cluster, request)
            listening[version] = other.node if isinstance(other, Choice) else ""
        return answer, listening

    def _ask(self, policy: Policy, cluster: Cluster, request: Request) -> Choice | Refusal | None:
        """What `policy` says; None where a version fails: one in use rests then, one in the shadow is let go."""
        if policy is self._rule:
            return policy.place(cluster, request)
        begun = self._clock()
        try:
            answer = policy.place(cluster, request)
        except Exception:  # whatever is wrong with a version, guests are placed
            log.exception("a placement model failed: the rule answers", version=policy.version)
            if policy is self._in_use:
                self._rests_until = self._clock() + REST_S
            else:
                self._shadow = None
            return None
        took = self._clock() - begun
        if took > SLOW_S and policy is self._in_use:
            self._rests_until = self._clock() + REST_S
            log.warning("placement was slow: the rule answers for a while", version=policy.version, took_s=took)
        return answer

    def _load(self, version: str | None) -> Policy | None:
        if version is None:
            return None
        try:
            return load_policy(version, self._root)
        except (RegistryError, OSError) as error:
            log.error("a placement model can't be used", version=version, reason=str(error))
            return None
