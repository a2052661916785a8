"""``novacron demo``: a guest moves between two sites and back, told as it happens."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from api.cli.output import console, note, say, size

if TYPE_CHECKING:
    from actors.lab.guests import Verdict
    from actors.lab.guests.watch import Watch
    from actors.lab.status import LabStatus, NodeStatus
    from actors.migration.messages import JobView
    from api.cli.client import Client

GUEST = "web1"
MEMORY_MIB, CACHE_MIB, LOAD = 1024, 300, "64,2000,64"
# The whole guest boots in software emulation on a slow machine.
_BOOT_S = 600.0
_TICKS_S = 120.0
# Enough new ticks after a move to see the host's clock tick over a few times, which dates the pause.
_TICKS_AFTER = 200


def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Leave the lab and the guest as they are at the end.")] = False,
) -> None:
    """Build a lab of two sites, move a running guest there and back, and let the guest say whether it noticed."""
    from actors.lab.guests.watch import Watch

    with _lab(keep) as lab:
        _tell_line(lab)
        here, there = _two_sites(lab)
        with _api() as api:
            watch = Watch(GUEST, {node.name: _console_file(lab, node) for node in lab.nodes}, here.name)
            _create(api, here.name)
            watch.until_ticks(1, _BOOT_S)
            _title("The guest runs. It checks its memory page by page and prints the time on its own clock.")
            _move(api, watch, here, there)
            _move(api, watch, there, here)
            if keep:
                say(f"\nThe lab stays: try `novacron guest list` and `novacron migrate {GUEST} --to {there.name}`.")
            else:
                api.act(GUEST, "stop")
                api.delete_guest(GUEST)


@contextmanager
def _lab(keep: bool) -> "Iterator[LabStatus]":
    """The lab that is up, or a new one, which is removed afterwards unless it is to be kept."""
    from actors.errors import Conflict, NotFound
    from actors.lab.lab import down, status, up

    try:
        found, made = status(), False
    except NotFound:
        _title("Building two sites on this machine: network, libvirt, Ray and NovaCron on each. This takes a minute.")
        found, made = up(progress=note), True
    if not found.healthy:
        raise Conflict(detail=f"lab {found.name!r} is up but not well; `novacron lab status` says what is wrong")
    try:
        yield found
    finally:
        if made and not keep:
            _title("Removing the lab.")
            down()


def _api() -> "Client":
    from api.cli.client import Client
    from api.cli.target import find

    return Client(find({}))


def _two_sites(lab: "LabStatus") -> "tuple[NodeStatus, NodeStatus]":
    from actors.errors import Conflict

    leads = [node for node in lab.nodes if node.leads and not node.witness]
    if len(leads) < 2:
        raise Conflict(detail=f"lab {lab.name!r} has guests at one site only; the demo moves one between two")
    return leads[0], leads[1]


def _console_path() -> Path:
    return Path(f"/run/console-{GUEST}.log")


def _console_file(lab: "LabStatus", node: "NodeStatus") -> Path:
    """The guest's console on `node`, as this machine sees it: each node has a /run of its own."""
    from actors.lab.lab import Lab

    return Lab.load(lab.name).node(node.name).run_dir / _console_path().name


def _create(api: "Client", node: str) -> None:
    import msgspec

    from actors.migration.messages import CreateGuestAnywhere
    from api.cli.guest_spec import lab_spec

    _title(
        f"Creating guest {GUEST} on {node}: {MEMORY_MIB} MiB, {CACHE_MIB} MiB of real files in its page cache, and a "
        f"program that changes 2,000 pages a second. (The first time, its images are built from Debian packages.)"
    )
    spec = msgspec.structs.replace(
        lab_spec(GUEST, "memory", MEMORY_MIB, LOAD, CACHE_MIB, 0), console=str(_console_path())
    )  # fmt: skip
    api.create_guest(CreateGuestAnywhere(spec=spec, node=node))
    say("It boots …")


def _move(api: "Client", watch: "Watch", source: "NodeStatus", target: "NodeStatus") -> None:
    from actors.errors import MoveFailed, error_from
    from actors.migration.messages import MoveRequest
    from api.cli.migrate import follow
    from api.cli.progress import COMPLETED

    before = watch.until_ticks(_TICKS_AFTER, _TICKS_S)
    _title(f"Moving it, running, from {source.site} to {target.site}:  novacron migrate {GUEST} --to {target.name}")
    job = follow(api, api.submit(MoveRequest(guest=GUEST, to=target.name)), json=False)
    if job.state != COMPLETED:
        failed = MoveFailed(job=job.id, state=job.state, reason=job.message)
        raise error_from(job.error, job.error_fields) if job.error else failed
    watch.arrived(target.name)
    after = watch.until_ticks(_TICKS_AFTER, _TICKS_S)
    _result(job, before, after)


def _result(job: "JobView", before: "Verdict", after: "Verdict") -> None:
    from actors.errors import StreamCorrupt
    from api.cli.progress import pause

    progress = job.progress
    say(f"It arrived after {job.total_s:.1f} s; {size(progress.wire_bytes)} went over the line for {MEMORY_MIB} MiB.")
    pause_ms = after.stopped_ms - max(before.stopped_ms, 0.0)
    say(f"It stood still for {pause_ms:.0f} ms by its own clock; as the nodes have it: {pause(job)}.")
    if not after.ok:
        raise StreamCorrupt(reason=f"guest {GUEST} says: {'; '.join(after.problems)}")
    say(f"The guest says OK: {after.ticks} ticks, none missing; {after.verified:,} checks of its memory, all good.")


def _tell_line(lab: "LabStatus") -> None:
    for link in lab.links:
        if link.line is not None:
            way = link.line.ab
            mbit, rtt_ms = way.rate_bps / 1e6, (way.delay_us + link.line.ba.delay_us) / 1000
            say(f"Between {link.site_a} and {link.site_b} lies a line of {mbit:g} Mbit/s and {rtt_ms:g} ms round trip.")


def _title(text: str) -> None:
    from rich.text import Text

    console().print(Text(f"\n{text}", style="bold"))
