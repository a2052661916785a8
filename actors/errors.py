"""Every error that a caller can meet, with a stable code.

The tree (codes in brackets; the HTTP status and the CLI's exit code stand at each class)::

    NovaCronError [internal]
    ├── BadRequest [bad-request]
    │   ├── ConfigInvalid [config-invalid]
    │   ├── SameNode [same-node]
    │   ├── BodyInvalid [body-invalid]
    │   ├── BodyTooLarge [body-too-large]
    │   └── MethodNotAllowed [method-not-allowed]
    ├── NotFound [not-found]
    │   ├── GuestUnknown [guest-unknown]
    │   ├── NodeUnknown [node-unknown]
    │   ├── LinkUnknown [link-unknown]
    │   └── JobUnknown [job-unknown]
    ├── Conflict [conflict]
    │   ├── GuestBusy [guest-busy]
    │   ├── GuestExists [guest-exists]
    │   ├── GuestNotRunning [guest-not-running]
    │   ├── GuestRunning [guest-running]
    │   ├── NoRoom [no-room]
    │   ├── NoPlacement [no-placement]
    │   ├── RuleBroken [rule-broken]
    │   ├── Incompatible [incompatible]
    │   ├── NoTakeover [no-takeover]
    │   ├── PastNoReturn [past-no-return]
    │   ├── TooLate [too-late]
    │   └── StateRefused [state-refused]
    ├── Refused [refused]
    │   ├── TokenInvalid [token-invalid]
    │   └── PeerRefused [peer-refused]
    ├── Unreachable [unreachable]
    │   ├── LinkDown [link-down]
    │   ├── ActorDown [actor-down]
    │   ├── HypervisorDown [hypervisor-down]
    │   ├── DeadlineExceeded [deadline-exceeded]
    │   └── NoMajority [no-majority]
    └── Failed [failed]
        ├── HypervisorFailed [hypervisor-failed]
        ├── MoveFailed [move-failed]
        ├── NotConverging [not-converging]
        ├── StreamCorrupt [stream-corrupt]
        ├── StateCorrupt [state-corrupt]
        ├── BootFailed [boot-failed]
        └── SetupMissing [setup-missing]

A class docstring is the message template; ``next_step`` says what the reader can do. Errors cross actors and sites as
``(code, fields)``, never as pickled exceptions, so both ends show the same text.
"""

from typing import ClassVar

Field = str | int | float


class NovaCronError(Exception):
    """Something in NovaCron itself went wrong: {detail}"""

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500
    exit_code: ClassVar[int] = 1
    next_step: ClassVar[str] = "Read the log of the node named here; if it repeats, report it with that log."

    def __init__(self, **fields: Field) -> None:
        self.fields = fields
        super().__init__((type(self).__doc__ or "").format(**fields))

    def __reduce__(self) -> tuple[object, tuple[str, dict[str, Field]]]:
        return error_from, (self.code, self.fields)


class BadRequest(NovaCronError):
    """The request can't be right: {detail}"""

    code, status, exit_code = "bad-request", 400, 2
    next_step = "Correct the request and send it again; nothing was changed."


class ConfigInvalid(BadRequest):
    """{file}:{line}: {field}: {problem}"""

    code = "config-invalid"
    next_step = "Correct that line; `novacron config check FILE` shows every problem of a file."


class SameNode(BadRequest):
    """Guest {guest} already runs on {node}."""

    code, status = "same-node", 409
    next_step = "Name another node with --to, or leave it out and let placement choose."


class BodyInvalid(BadRequest):
    """The body is not valid: {detail}"""

    code, status = "body-invalid", 422
    next_step = "Compare the body with the schema at /openapi.json."


class BodyTooLarge(BadRequest):
    """The body is larger than {limit_bytes} bytes."""

    code, status = "body-too-large", 413
    next_step = "Send less: name files by their path on the node instead of putting them into the request."


class MethodNotAllowed(BadRequest):
    """{path} does not take {method}."""

    code, status = "method-not-allowed", 405
    next_step = "The Allow header names the methods that it takes; /openapi.json has every route."


class NotFound(NovaCronError):
    """There is no {what}."""

    code, status, exit_code = "not-found", 404, 3
    next_step = "List what exists and check the name."


class GuestUnknown(NotFound):
    """No node of this cluster has a guest named {guest}."""

    code = "guest-unknown"
    next_step = "`novacron guest list` shows the guests of every site."


class NodeUnknown(NotFound):
    """There is no node named {node}."""

    code = "node-unknown"
    next_step = "`novacron nodes` shows the nodes of every site."


class LinkUnknown(NotFound):
    """There is no link named {link}."""

    code = "link-unknown"
    next_step = "`novacron links` shows the links."


class JobUnknown(NotFound):
    """There is no migration {job}."""

    code = "job-unknown"
    next_step = "GET /v1/migrations lists the jobs this site knows."


class Conflict(NovaCronError):
    """That does not fit the present state: {detail}"""

    code, status, exit_code = "conflict", 409, 4
    next_step = "Look at the present state, then decide."


class GuestBusy(Conflict):
    """Guest {guest} is busy: migration {job} is under way."""

    code = "guest-busy"
    next_step = "Wait for that migration or cancel it; until then the guest's definition is frozen."


class GuestExists(Conflict):
    """Node {node} already has a guest named {guest}."""

    code = "guest-exists"
    next_step = "Choose another name or node, or delete the guest that is there."


class GuestNotRunning(Conflict):
    """Guest {guest} is {state}, not running."""

    code = "guest-not-running"
    next_step = "Start it first with `novacron guest start`."


class GuestRunning(Conflict):
    """Guest {guest} is running."""

    code = "guest-running"
    next_step = "Stop it first with `novacron guest stop`."


class NoRoom(Conflict):
    """Node {node} has no room for {guest}: needs {needs_mib} MiB of {resource}, {free_mib} MiB are free."""

    code = "no-room"
    next_step = "Choose another node or free some memory there."


class NoPlacement(Conflict):
    """No node can take {guest}: {reasons}"""

    code = "no-placement"
    next_step = "Free memory on one of them, add a node, or name one with --to to see its own reason."


class RuleBroken(Conflict):
    """Guest {guest} may not be on {node}, by the rule {rule}: {reason}"""

    code = "rule-broken"
    next_step = (
        "Choose a node that keeps the rule, change what the guest asks for with `novacron guest label`, or take a"
        " drained node back with `novacron node undrain`."
    )


class Incompatible(Conflict):
    """Node {node} can't run {guest}: {reason}"""

    code = "incompatible"
    next_step = (
        "Move it to a node with that CPU and machine type, or give the guest an older machine type or CPU model."
    )


class NoTakeover(Conflict):
    """Node {node} can't take {guest} over: {reason}"""

    code = "no-takeover"
    next_step = "Nothing was changed. Name another node with --to, one that has the guest's disks."


class PastNoReturn(Conflict):
    """Migration {job} is past its point of no return: the guest already belongs to {node}."""

    code = "past-no-return"
    next_step = "Let it finish, then move the guest back if you want it here."


class TooLate(Conflict):
    """Migration {job} is {state}: its pause can be changed only until the guest is stopped."""

    code = "too-late"
    next_step = "See how it ends with `novacron migrations show`."


class StateRefused(Conflict):
    """The agreed control state refuses that ({refusal}): {detail}"""

    code = "state-refused"
    next_step = (
        "Nothing was changed. Read the state again; what was asked for rests on a belief that is no longer true."
    )

    @property
    def refusal(self) -> str:
        """One of `actors.control.decision.Refusal`."""
        return str(self.fields["refusal"])


class Refused(NovaCronError):
    """Refused: {detail}"""

    code, status, exit_code = "refused", 403, 5
    next_step = "Check who you are and what you may do."


class TokenInvalid(Refused):
    """The API token is missing or wrong."""

    code, status = "token-invalid", 401
    next_step = "Send `Authorization: Bearer TOKEN`; the CLI reads NOVACRON_TOKEN or the token file of its node."


class PeerRefused(Refused):
    """Peer {peer} was refused: {reason}"""

    code = "peer-refused"
    next_step = "Check that both nodes have certificates of the same CA and stand in each other's topology."


class Unreachable(NovaCronError):
    """Can't reach {what}."""

    code, status, exit_code = "unreachable", 503, 6
    next_step = "Check that it is up and that the network lets you through."


class LinkDown(Unreachable):
    """The link from {node} to {peer} is down: {reason}"""

    code = "link-down"
    next_step = "`novacron links` shows its state; the move can be asked for again when it is up."


class ActorDown(Unreachable):
    """{service} does not answer: {reason}"""

    code = "actor-down"
    next_step = "Ray restarts it; ask again in a few seconds and look at `novacron status` if it stays down."


class HypervisorDown(Unreachable):
    """libvirt on {node} does not answer: {reason}"""

    code = "hypervisor-down"
    next_step = "Check libvirtd on that node; the agent reconnects by itself."


class DeadlineExceeded(Unreachable):
    """{what} did not answer within {deadline_s} s."""

    code, status = "deadline-exceeded", 504
    next_step = "Look at the state again before you repeat it: it may have happened."


class NoMajority(Unreachable):
    """No majority of the control state's members answered within {deadline_s} s, so {what} is {outcome}: {reason}"""

    code = "no-majority"
    next_step = (
        "`novacron cluster` shows which members hear each other; mend the link or start the missing one."
        " What is `unknown` may have happened or may still: read the state before you repeat it."
    )


class Failed(NovaCronError):
    """Failed: {detail}"""

    code, exit_code = "failed", 7
    next_step = "The reason stands in the message; nothing was lost."


class HypervisorFailed(Failed):
    """libvirt on {node} says: {message} (libvirt error {libvirt_code})"""

    code = "hypervisor-failed"
    next_step = "libvirt's own message names the cause."


class MoveFailed(Failed):
    """Migration {job} failed in {state}: {reason}"""

    code = "move-failed"
    next_step = "The guest was left where it last ran; ask again once the cause is gone."


class NotConverging(Failed):
    """Migration {job} gets nowhere. {advice}"""

    code = "not-converging"
    next_step = "The guest goes on at its source; ask again with a longer pause, or when it is less busy."


class StreamCorrupt(Failed):
    """The stream can't be trusted: {reason}"""

    code = "stream-corrupt"
    next_step = "Nothing of it was used; repeat the move. If it repeats, test memory and network cards."


class StateCorrupt(Failed):
    """The control state in {where} is damaged: {reason}"""

    code = "state-corrupt"
    next_step = (
        "Stop this member, move that file away, and let it join again under a new number; the others have the state."
    )


class BootFailed(Failed):
    """Component {component} failed to start: {reason}. Rolled back: {rolled_back}"""

    code = "boot-failed"
    next_step = "Mend the cause named here and start the node again."


class SetupMissing(Failed):
    """This needs {what}."""

    code, status = "setup-missing", 501
    next_step = "`make setup` as root installs everything the lab needs."


def _tree(root: type[NovaCronError]) -> dict[str, type[NovaCronError]]:
    found = {root.code: root}
    for child in root.__subclasses__():
        found |= _tree(child)
    return found


BY_CODE: dict[str, type[NovaCronError]] = _tree(NovaCronError)


def error_from(code: str, fields: dict[str, Field]) -> NovaCronError:
    """The error that `code` names, with its fields; one that this version does not know becomes `NovaCronError`."""
    kind = BY_CODE.get(code)
    try:
        return kind(**fields) if kind else NovaCronError(detail=f"unknown error {code}: {fields}")
    except KeyError as missing:
        return NovaCronError(detail=f"error {code} came without its field {missing}: {fields}")
