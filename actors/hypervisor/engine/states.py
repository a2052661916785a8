"""libvirt's numbers in NovaCron's words."""

from actors.errors import GuestExists, GuestUnknown, HypervisorDown, HypervisorFailed, NovaCronError

# virDomainState
RUNNING, BLOCKED, PAUSED, SHUTDOWN, SHUTOFF, CRASHED, SUSPENDED = 1, 2, 3, 4, 5, 6, 7
# virDomainShutoffReason
SHUTOFF_CRASHED = 3
# virDomainJobType
JOB_RUNNING = frozenset({1, 2})
# virErrorNumber
ERR_INTERNAL, ERR_NO_CONNECT, ERR_INVALID_CONN, ERR_DOM_EXIST, ERR_SYSTEM, ERR_RPC = 1, 5, 6, 28, 38, 39
ERR_NO_DOMAIN, ERR_OPERATION_INVALID, ERR_OPERATION_UNSUPPORTED = 42, 55, 84
# virErrorDomain: the client's side of the connection to the daemon
FROM_RPC, FROM_REMOTE = 7, 13


def guest_state(state: int, reason: int, *, incoming: bool) -> str:
    """The state of a domain; `incoming`: a job is bringing it here and libvirt has not taken it over for good yet."""
    if state in {RUNNING, BLOCKED}:
        return "running"
    if state in {PAUSED, SUSPENDED, SHUTDOWN}:
        return "incoming" if incoming else "paused"
    crashed = state == CRASHED or (state == SHUTOFF and reason == SHUTOFF_CRASHED)
    return "crashed" if crashed else "shut-off"


def connection_lost(code: int, domain: int) -> bool:
    """True when the error is about reaching libvirtd, not about what it was asked for."""
    if code in {ERR_NO_CONNECT, ERR_INVALID_CONN, ERR_RPC}:
        return True
    return domain in {FROM_RPC, FROM_REMOTE} and code in {ERR_INTERNAL, ERR_SYSTEM}


def error_of(node: str, guest: str, message: str, code: int, domain: int) -> NovaCronError:
    """The error of the tree that a libvirt error becomes; `guest` is the one asked about ('' for none)."""
    if connection_lost(code, domain):
        return HypervisorDown(node=node, reason=message)
    if code == ERR_NO_DOMAIN and guest:
        return GuestUnknown(guest=guest)
    if code == ERR_DOM_EXIST and guest:
        return GuestExists(node=node, guest=guest)
    return HypervisorFailed(node=node, message=message, libvirt_code=code)


def version_text(number: int) -> str:
    """libvirt's way to write versions: 10000002 is 10.0.2."""
    return f"{number // 1_000_000}.{number // 1000 % 1000}.{number % 1000}"
