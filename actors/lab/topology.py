"""What a lab consists of: sites, nodes per site, and the WAN lines between sites, read from a small YAML."""

import re
from itertools import combinations
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, model_validator

from actors.config.document import Document, Where
from actors.config.schema import Name, Section
from actors.errors import BadRequest, ConfigInvalid

# Site names become parts of interface names (at most 15 characters in Linux) and of UNIX socket paths (at most 107).
ShortName = Annotated[Name, Field(max_length=24)]
_QUEUE_BYTES_MIN = 128 << 10
_QUEUE_BYTES_UNLIMITED = 16 << 20


class Shape(Section):
    """How a line behaves, the same in both directions."""

    rate_mbit: float = Field(100.0, ge=0, le=100_000, description="Mbit/s in each direction; 0: unlimited")
    rtt_ms: float = Field(50.0, ge=0, le=60_000, description="round-trip time; half of it is each direction's delay")
    jitter_ms: float = Field(0.0, ge=0, le=10_000, description="each packet's delay varies by ± this; order is kept")
    loss_percent: float = Field(0.0, ge=0, le=100, description="packets lost at random, in each direction")
    queue_kib: int | None = Field(
        None, ge=2, le=1 << 20, description="queue before the line; default: what the line carries in one RTT"
    )

    @property
    def rate_bps(self) -> int:
        """Bits per second; 0: unlimited."""
        return round(self.rate_mbit * 1_000_000)

    @property
    def delay_us(self) -> int:
        """One-way delay in microseconds."""
        return round(self.rtt_ms * 500)

    @property
    def queue_bytes(self) -> int:
        """Bytes that may wait for the line; the rest is dropped."""
        if self.queue_kib is not None:
            return self.queue_kib << 10
        if not self.rate_mbit:
            return _QUEUE_BYTES_UNLIMITED
        return max(_QUEUE_BYTES_MIN, round(self.rate_bps / 8 * self.rtt_ms / 1000))

    def __str__(self) -> str:
        return f"{self.rate_mbit:g}mbit,{self.rtt_ms:g}ms,{self.loss_percent:g}%"


class Link(Shape):
    """One WAN line between two sites."""

    name: Name = Field("", description="default: SITE-SITE", validate_default=False)
    between: tuple[Name, Name]

    @model_validator(mode="before")
    @classmethod
    def _name_from_sites(cls, raw: object) -> object:
        if isinstance(raw, dict) and not raw.get("name") and isinstance(raw.get("between"), list | tuple):
            return {**raw, "name": "-".join(str(site) for site in raw["between"])}
        return raw


class LabSite(Section):
    """One site of the lab."""

    name: ShortName
    nodes: int = Field(1, ge=1, le=16, description="hosts; they are called SITE-1, SITE-2, …; SITE-1 leads")
    witness: bool = Field(False, description="its one host is a member of the control state and nothing else")

    @model_validator(mode="after")
    def _a_witness_stands_alone(self) -> Self:
        if self.witness and self.nodes > 1:
            raise ValueError(f"site {self.name}: a witness stands alone in its site; write `nodes: 1`")
        return self

    @property
    def node_names(self) -> list[str]:
        """The site's nodes, the lead first."""
        return [f"{self.name}-{number}" for number in range(1, self.nodes + 1)]


class LabTopology(Section):
    """A whole lab."""

    name: ShortName = "default"
    emulator: Literal["auto", "wanlink", "netem"] = Field(
        "auto", description="auto: wanlink where a C compiler and /dev/net/tun are, else the kernel's netem"
    )
    sites: list[LabSite] = Field(min_length=1, max_length=50)
    links: list[Link] = Field(default_factory=list, max_length=60)
    ray_cpus: int = Field(2, ge=1, le=256, description="CPUs that each node offers to Ray")
    object_store_mib: int = Field(100, ge=80, le=65536, description="Ray's object store on each node")

    @model_validator(mode="after")
    def _names_fit(self) -> Self:
        sites = [site.name for site in self.sites]
        if len(set(sites)) != len(sites):
            raise ValueError("site names must be unique")
        links = [link.name for link in self.links]
        if len(set(links)) != len(links):
            raise ValueError("link names must be unique")
        for link in self.links:
            if link.between[0] == link.between[1] or not set(link.between) <= set(sites):
                raise ValueError(f"link {link.name}: `between` must name two different sites of this file")
        nodes = [node for site in self.sites for node in site.node_names]
        if len(set(nodes)) != len(nodes):
            raise ValueError("two sites would have nodes of the same name")
        if all(site.witness for site in self.sites):
            raise ValueError("no site has a host for guests: one at least is no witness")
        return self


def default_topology(name: str = "default", shape: Shape | None = None) -> LabTopology:
    """Two sites of one node each, 100 Mbit/s and 50 ms apart."""
    line = (shape or Shape()).model_dump()
    return LabTopology(
        name=name,
        sites=[LabSite(name="london"), LabSite(name="paris")],
        links=[Link(between=("london", "paris"), **line)],
    )


def sites_apart(name: str, count: int, witnesses: int = 0) -> LabTopology:
    """`count` sites of one node each, at most four, every two of them 100 Mbit/s and 50 ms apart; the last `witnesses`
    of them without guests."""
    sites = ("london", "paris", "rome", "oslo")[:count]
    return LabTopology(
        name=name,
        sites=[LabSite(name=site, witness=at >= count - witnesses) for at, site in enumerate(sites)],
        links=[Link(between=pair, rate_mbit=100, rtt_ms=50) for pair in combinations(sites, 2)],
    )


def read_topology(file: Path) -> LabTopology:
    """Read a topology file.

    Raises:
        ConfigInvalid: names file, line, field and problem of the first mistake.
    """
    try:
        document = Document(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigInvalid(file=str(file), line=0, field="(file)", problem=f"can't be read: {error}") from error
    for where, line, problem in document.faults:
        raise ConfigInvalid(file=str(file), line=line, field=_dotted(where), problem=problem)
    try:
        return LabTopology.model_validate(document.value)
    except ValidationError as error:
        first = error.errors()[0]
        where = first["loc"]
        raise ConfigInvalid(
            file=str(file), line=document.line(where), field=_dotted(where), problem=first["msg"]
        ) from error


def _dotted(where: Where) -> str:
    return ".".join(str(part) for part in where) or "(file)"


_RATE = {"kbit": 0.001, "mbit": 1.0, "gbit": 1000.0}
_TIME = {"us": 0.001, "ms": 1.0, "s": 1000.0}


def parse_shape(text: str) -> Shape:
    """The shape that ``RATE,RTT[,LOSS[,JITTER]]`` means, for example ``100mbit,50ms,0%`` or ``1gbit,10ms,0.1%,2ms``.

    Raises:
        BadRequest: says which part can't be read.
    """
    parts = [part.strip().lower() for part in text.split(",")]
    if not 2 <= len(parts) <= 4:
        raise BadRequest(detail=f"link {text!r}: write RATE,RTT[,LOSS[,JITTER]], for example 100mbit,50ms,0%")
    fields = {"rate_mbit": parse_rate_mbit(parts[0]), "rtt_ms": parse_time_ms(parts[1])}
    if len(parts) > 2:
        fields["loss_percent"] = parse_percent(parts[2])
    if len(parts) > 3:
        fields["jitter_ms"] = parse_time_ms(parts[3])
    try:
        return Shape.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        raise BadRequest(detail=f"link {text!r}: {first['loc'][0]}: {first['msg']}") from error


def parse_rate_mbit(text: str) -> float:
    """Mbit/s of for example ``100mbit``, ``1gbit``, ``512kbit`` or ``unlimited`` (0)."""
    return 0.0 if text == "unlimited" else _number(text, _RATE, "rate")


def parse_time_ms(text: str) -> float:
    """Milliseconds of for example ``50ms``, ``1s`` or ``200us``."""
    return _number(text, _TIME, "time")


def parse_percent(text: str) -> float:
    """Percent of for example ``0.5%``."""
    return _number(text, {"%": 1.0}, "share")


def _number(text: str, units: dict[str, float], what: str) -> float:
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)([a-z%]+)", text.strip().lower())
    if match is None or match[2] not in units:
        raise BadRequest(detail=f"{text!r} is not a {what}: write a number and one of {', '.join(units)}")
    return float(match[1]) * units[match[2]]
