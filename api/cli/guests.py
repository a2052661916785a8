"""``novacron guest``: create, list, show, label, start, stop, pause, resume, fail over, delete."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from api.cli import attributes
from api.cli.context import GuestName, Json, client
from api.cli.output import as_json, fields, note, say, size, table

if TYPE_CHECKING:
    from actors.hypervisor.messages import GuestInfo

app = typer.Typer(no_args_is_help=True, help="Guests: create, look at, label, start, stop, delete.")
app.command("label")(attributes.label)

_LAB, _OWN = "A guest that checks itself (on a lab's nodes)", "A guest of your own"


@app.command()
def create(
    context: typer.Context,
    name: GuestName,
    xml: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="libvirt's domain XML.", rich_help_panel=_OWN)
    ] = None,
    kind: Annotated[
        str,
        typer.Option(
            help="memory: changes pages; random: the same, random bytes; redis: a key-value store; python: compiles.",
            rich_help_panel=_LAB,
        ),
    ] = "",
    load: Annotated[
        str, typer.Option(help="REGION_MIB,CHANGES_PER_S,BYTES_EACH.", rich_help_panel=_LAB)
    ] = "64,2000,64",
    cache: Annotated[int, typer.Option(min=0, help="MiB of real files in its page cache.", rich_help_panel=_LAB)] = 0,
    data: Annotated[
        int, typer.Option(min=0, help="MiB of a disk of its own that it writes and checks.", rich_help_panel=_LAB)
    ] = 0,
    memory: Annotated[int, typer.Option(min=16, help="MiB.")] = 512,
    vcpus: Annotated[int, typer.Option(min=1)] = 1,
    kernel: Annotated[str, typer.Option(help="Path on the node.", rich_help_panel=_OWN)] = "",
    initrd: Annotated[str, typer.Option(help="Path on the node.", rich_help_panel=_OWN)] = "",
    cmdline: Annotated[str, typer.Option(help="Of the kernel.", rich_help_panel=_OWN)] = "",
    disk: Annotated[
        list[str] | None,
        typer.Option(help="TARGET=PATH[,raw|qcow2][,SIZE_MIB][,ro][,moves]; may be repeated.", rich_help_panel=_OWN),
    ] = None,
    node: Annotated[str, typer.Option(help="Where; placement chooses if it is not said.")] = "",
    tenant: Annotated[str, attributes.TENANT] = "",
    sites: Annotated[str, attributes.SITES] = "",
    together: Annotated[str, attributes.TOGETHER] = "",
    apart: Annotated[str, attributes.APART] = "",
    near: Annotated[str, attributes.NEAR] = "",
    start: Annotated[bool, typer.Option(help="Start it at once.")] = True,
    json: Json = False,
) -> None:
    """Define a guest and start it."""
    from msgspec.structs import replace

    from actors.errors import BadRequest
    from actors.hypervisor.messages import Attributes, GuestSpec
    from actors.migration.messages import CreateGuestAnywhere
    from api.cli.guest_spec import lab_spec, parse_disk

    own = any((kernel, initrd, cmdline, disk))
    if sum((xml is not None, bool(kind), own)) > 1:
        raise BadRequest(detail="--xml, --kind and --kernel/--disk are three ways to say what a guest is: choose one")
    if kind:
        spec = lab_spec(name, kind, memory, load, cache, data)
    elif xml is not None:
        spec = GuestSpec(name=name, xml=xml.read_text(encoding="utf-8"))
    else:
        disks = [parse_disk(text) for text in disk or []]
        spec = GuestSpec(
            name=name, memory_mib=memory, vcpus=vcpus, kernel=kernel, initrd=initrd, cmdline=cmdline, disks=disks
        )  # fmt: skip
    lists = {"sites": sites, "together": together, "apart": apart, "near": near}
    wanted = Attributes(tenant=tenant, **{kind: attributes.words(text) for kind, text in lists.items()})
    spec = replace(spec, attributes=wanted)
    with client(context) as api:
        made = api.create_guest(CreateGuestAnywhere(spec=spec, node=node, start=start))
    _tell(made, f"{made.name} is {made.state} on {made.node}.", json)


@app.command("list")
def list_guests(context: typer.Context, json: Json = False) -> None:
    """List the guests of every site."""
    with client(context) as api:
        found = api.guests()
    if json:
        as_json(found)
        return
    if found.silent:
        note(f"these do not answer, and may have more: {', '.join(found.silent)}")
    rows = [[g.name, g.state, g.node, g.site, f"{g.memory_mib} MiB", str(g.vcpus), g.job] for g in found.guests]
    table(["guest", "state", "node", "site", "memory", "vcpus", "migration"], rows, "There are no guests.")
    for guest in found.guests:
        if guest.note:
            note(f"  {guest.name} on {guest.node} must not run: {guest.note}")


@app.command()
def show(context: typer.Context, name: GuestName, json: Json = False) -> None:
    """Show one guest."""
    with client(context) as api:
        guest = api.guest(name)
    if json:
        as_json(guest)
        return
    disks = [
        f"{d.target} {d.path} {d.format} {size(d.size_bytes)}{' read-only' * d.read_only}{' moves' * d.moves}"
        for d in guest.disks
    ]
    fields(
        [
            ("name", guest.name), ("state", guest.state), ("node", f"{guest.node} ({guest.site})"),
            ("memory", f"{guest.memory_mib} MiB"), ("vcpus", str(guest.vcpus)), ("cpu", guest.cpu_model),
            ("machine", guest.machine), ("uuid", guest.uuid), *(("disk", disk) for disk in disks),
            *attributes.rows(guest.attributes),
            ("migration", guest.job), ("must not run", guest.note),
        ]
    )  # fmt: skip


def _act(context: typer.Context, name: str, action: str, json: bool, grace_s: float = 0.0) -> None:
    with client(context) as api:
        guest = api.act(name, action, grace_s)
    _tell(guest, f"{guest.name} is {guest.state} on {guest.node}.", json)


@app.command()
def start(context: typer.Context, name: GuestName, json: Json = False) -> None:
    """Start a stopped guest."""
    _act(context, name, "start", json)


@app.command()
def stop(
    context: typer.Context,
    name: GuestName,
    grace: Annotated[float, typer.Option(min=0, max=600, help="Seconds to shut down by itself; 0: at once.")] = 0.0,
    json: Json = False,
) -> None:
    """Stop a guest."""
    _act(context, name, "stop", json, grace)


@app.command()
def pause(context: typer.Context, name: GuestName, json: Json = False) -> None:
    """Stop a guest's CPUs; its memory stays."""
    _act(context, name, "pause", json)


@app.command()
def resume(context: typer.Context, name: GuestName, json: Json = False) -> None:
    """Let a paused guest go on."""
    _act(context, name, "resume", json)


@app.command()
def failover(
    context: typer.Context,
    name: GuestName,
    reason: Annotated[str, typer.Option("--reason", help="Why; kept in the audit trail.")],
    to: Annotated[str, typer.Option(help="Where; placement chooses if it is not said.")] = "",
    override: Annotated[
        bool, typer.Option("--override", help="Decree that the node that may still run it runs nothing any more.")
    ] = False,
    risk: Annotated[str, typer.Option(help="What that risks, word by word; asked for when left out.")] = "",
    disks_here: Annotated[
        bool, typer.Option("--disks-here", help="What lies there at the paths of its own disks is its newest state.")
    ] = False,
    json: Json = False,
) -> None:
    """Boot a guest elsewhere whose node is lost, from its disks; what it had in memory is lost."""
    from actors.control.decision import Refusal
    from actors.errors import StateRefused

    with client(context) as api:
        try:
            done = api.fail_over(name, reason, to=to, override=override, risk=risk, disks_here=disks_here)
        except StateRefused as no:
            if risk or not override or no.refusal != Refusal.RISK_CHANGED:
                raise
            note(str(no.fields["detail"]))
            typed = typer.prompt("Type this sentence to go on", err=True)
            done = api.fail_over(name, reason, to=to, override=override, risk=typed, disks_here=disks_here)
    _tell(done.guest, f"{done.guest.name} is {done.guest.state} on {done.guest.node}. {done.detail}", json)


@app.command()
def delete(context: typer.Context, name: GuestName) -> None:
    """Remove a stopped guest's definition; its disks stay."""
    with client(context) as api:
        api.delete_guest(name)
    say(f"{name} is gone.")


def _tell(guest: "GuestInfo", text: str, json: bool) -> None:
    if json:
        as_json(guest)
    else:
        say(text)
