"""What clients send and get of guests."""

from typing import Annotated, Literal

from pydantic import Field

from actors.hypervisor.engine.attributes import WORDS_MAX
from api.models import GUEST_PATTERN, HostPath, NodeName, Request, View, Whole

GuestName = Annotated[str, Field(pattern=GUEST_PATTERN, description="a libvirt domain's name: no slash, no space")]


class DiskCreate(Request):
    """One disk of a new guest."""

    target: str = Field(pattern=r"^[a-z]{2,4}[0-9]{0,2}$", examples=["vda"])
    path: HostPath = Field("", description="empty: a new file in the node's images_dir")
    format: Literal["raw", "qcow2"] = "raw"
    size_bytes: Whole = Field(0, ge=0, le=1 << 50)
    read_only: bool = False
    moves: bool = Field(False, description="writable, local and so to be copied with the guest")


Word = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
Words = Annotated[list[Word], Field(max_length=WORDS_MAX)]
Tenant = Annotated[
    str, Field(pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]{0,62})?$", description="whose it is; empty: unknown")
]


class AttributesCreate(Request):
    """What placement is to heed of a guest."""

    tenant: Tenant = ""
    sites: Words = Field([], description="the only ones it may be in; empty: any")
    together: Words = Field([], description="groups whose guests share a node")
    apart: Words = Field([], description="groups of which no two guests share a node")
    near: Words = Field([], description="groups that talk a lot and gain by one site")


class AttributesChange(Request):
    """What to change of it; what is left out stays as it is."""

    tenant: Tenant | None = None
    sites: Words | None = None
    together: Words | None = None
    apart: Words | None = None
    near: Words | None = None


class GuestCreate(Request):
    """A new guest: libvirt XML when `xml` is set (its name must agree), else built from the other fields."""

    name: GuestName
    node: NodeName | Literal[""] = Field("", description="where; empty lets placement choose within this site")
    start: bool = True
    xml: str = Field("", max_length=262_144)
    memory_mib: Whole = Field(512, ge=16, le=1 << 24)
    vcpus: Whole = Field(1, ge=1, le=1024)
    kernel: HostPath = ""
    initrd: HostPath = ""
    cmdline: str = Field("", max_length=2048, pattern=r"^[^\x00-\x1f\x7f]*$")
    disks: list[DiskCreate] = Field([], max_length=32)
    console: HostPath = Field("", description="file for the serial console; empty: one in the node's run_dir")
    attributes: AttributesCreate = Field(
        AttributesCreate(), description="heeded by placement; if any is set, in the place of those in `xml`"
    )


class DiskView(View):
    """One disk of a guest."""

    target: str
    path: str
    format: str
    size_bytes: int = 0
    read_only: bool = False
    moves: bool = False


class AttributesView(View):
    """What placement heeds of a guest."""

    tenant: str = ""
    sites: list[str] = Field([])
    together: list[str] = Field([])
    apart: list[str] = Field([])
    near: list[str] = Field([])


class GuestView(View):
    """One guest. `state`: running, paused, shut-off, crashed, incoming. `job`: the migration under way, or empty.

    `note`: why it must not run there, or empty.
    """

    name: str
    uuid: str
    node: str
    site: str
    state: str
    memory_mib: int
    vcpus: int
    machine: str = ""
    cpu_model: str = ""
    disks: list[DiskView] = Field([])
    attributes: AttributesView = AttributesView()
    job: str = ""
    note: str = ""


class GuestList(View):
    """The guests of every node that answers; `silent` names those that do not."""

    guests: list[GuestView]
    silent: list[str] = Field([])


class FailOverRequest(Request):
    """Take a guest over whose node is lost."""

    to: NodeName | Literal[""] = Field("", description="where; empty lets placement choose")
    reason: str = Field(min_length=1, max_length=1024, description="kept in the audit trail")
    override: bool = Field(False, description="decree that whoever may still run it runs nothing any more")
    risk: str = Field(
        "", max_length=8192, description="what the refusal of an override says, word by word; empty: be told it"
    )
    disks_here: bool = Field(
        False,
        description="what lies at the paths of its own disks on the target is the guest's, as nothing else says",
    )


class FailedOverView(View):
    """A guest that was taken over. `detail`: from what it was begun, and what is lost."""

    guest: GuestView
    detail: str
