"""What the keeper does when, pure. Times are milliseconds of CLOCK_BOOTTIME, which also counts suspension."""

from enum import StrEnum

import msgspec


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What the agent has told the keeper: a file that outlives both.

    `boot`: of the host, whose clock `pause_at_ms` is by; None: never (the lease does not end by time). `lease`: its
    number. `answered`: the agent has dealt with the paused guests of the keeper's note up to this number.
    """

    boot: str
    lease: int
    pause_at_ms: float | None
    answered: int = 0


class Paused(msgspec.Struct, frozen=True, kw_only=True):
    """A guest that the keeper paused, or was about to. `number` counts up; `lease`: which one had run out."""

    number: int
    guest: str
    uuid: str
    lease: int


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """What the keeper tells the agent: a file that outlives both. `last`: number of the newest pause.

    `trouble`: why not all is paused that should be, '' when it is.
    """

    last: int = 0
    paused: tuple[Paused, ...] = ()
    trouble: str = ""


class Running(msgspec.Struct, frozen=True):
    """A guest that executes."""

    guest: str
    uuid: str


class Act(StrEnum):
    """What the keeper does now."""

    WAIT = "wait"
    PAUSE = "pause"
    """Pause whatever executes and end what arrives; again at every look, since a guest may be started meanwhile."""
    END = "end"
    """End: there is nothing to keep and no node that might give it something."""


def decide(order: Order | None, boot: str, now_ms: float, *, node_runs: bool) -> Act:
    """What to do at `now_ms` in boot `boot`; `order` is None when there never was a lease, or it was given back."""
    if order is None or order.pause_at_ms is None:
        return Act.WAIT if node_runs else Act.END
    # A lease of an earlier boot says nothing about guests that were started since: they wait for a new one.
    if order.boot != boot or now_ms >= order.pause_at_ms:
        return Act.PAUSE
    return Act.WAIT


def wait_ms(order: Order | None, now_ms: float, look_ms: float) -> float:
    """How long until the next look: `look_ms`, or less when the lease runs out before."""
    if order is None or order.pause_at_ms is None or order.pause_at_ms <= now_ms:
        return look_ms
    return min(look_ms, order.pause_at_ms - now_ms)


def noted(note: Note, order: Order | None, running: list[Running]) -> Note:
    """The note when `running` are about to be paused; what the agent has answered is left out."""
    answered = order.answered if order else 0
    kept = tuple(paused for paused in note.paused if paused.number > answered)
    known = {paused.uuid for paused in kept}
    new = [guest for guest in running if guest.uuid not in known]
    lease, last = order.lease if order else 0, max(note.last, answered)
    added = tuple(
        Paused(number=number, guest=guest.guest, uuid=guest.uuid, lease=lease)
        for number, guest in enumerate(new, last + 1)
    )
    return msgspec.structs.replace(note, last=last + len(new), paused=kept + added)
