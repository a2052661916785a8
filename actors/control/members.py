"""Who founded the control state: a function of the configuration, recorded when that is done; and who came later."""

from hashlib import blake2b
from pathlib import Path

import msgspec

from actors.config.schema import Config, Site
from actors.consensus.bft.settings import BftSettings
from actors.consensus.raft.config import Config as RaftConfig
from actors.control.model import Role
from actors.control.shelf import parts_in
from actors.control.shell import Settings
from actors.errors import Conflict, StateCorrupt
from actors.files import write_atomically

FOLDER = "control"
"""Of a member, in `node.state_dir`."""
FOUNDERS_FILE = "founders.json"
JOINED_FILE = "joined.json"
"""Of a member that came later."""
LEFT_FILE = "left.json"
"""Of one that was taken out: why."""
KNOWN_FILE = "members.json"
"""In `node.state_dir` of every node: the members, as it last knew them."""


class Founder(msgspec.Struct, frozen=True, kw_only=True):
    """One member: its number, which is never used again, and the node that it runs on."""

    number: int
    node: str
    site: str
    role: Role = "host"


def members_of(config: Config) -> tuple[Founder, ...]:
    """The configured ones, numbered from 1 in the order of the list or of the topology."""
    return tuple(
        Founder(number=number, node=node, site=site.name, role=role_in(site))
        for number, node in enumerate(config.member_names, 1)
        if (site := config.topology.site_of(node)) is not None
    )


def role_in(site: Site) -> Role:
    """The role of the nodes of `site`."""
    return "witness" if site.witness else "host"


class Joined(msgspec.Struct, frozen=True, kw_only=True):
    """A member that came later: who it is, the part of the log that it begins with, and the members that it found."""

    me: Founder
    part: int
    members: tuple[Founder, ...]


def is_member(config: Config) -> bool:
    """Whether this node is one, as far as its disk and the configuration tell."""
    folder = config.node.state_dir / FOLDER
    if (folder / LEFT_FILE).exists():
        return False
    founds = any(each.node == config.node.name for each in members_of(config))
    return founds or (folder / JOINED_FILE).exists()


def joined(folder: Path) -> Joined | None:
    """The record of a member that came later, None for a founder's folder.

    Raises:
        StateCorrupt: it can't be read.
    """
    path = folder / JOINED_FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=Joined)
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise StateCorrupt(where=str(path), reason=str(error)) from error


def has_left(folder: Path) -> str:
    """Why the member in `folder` takes part no more; '' if it does."""
    try:
        return (folder / LEFT_FILE).read_text()
    except FileNotFoundError:
        return ""


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """The members as a node last knew them, of the state that `founders` founded."""

    founders: tuple[Founder, ...]
    members: tuple[Founder, ...]


def known(config: Config) -> tuple[Founder, ...]:
    """The members as this node last knew them; the configured ones if it never did.

    With other founders configured, those members are of a state that was given up (`recovery.py`), and are not asked.
    """
    founders = members_of(config)
    try:
        found = msgspec.json.decode((config.node.state_dir / KNOWN_FILE).read_bytes(), type=Known)
    except (OSError, ValueError):
        return founders
    if found.founders != founders:
        return founders
    return tuple(each for each in found.members if config.topology.member(each.node)) or founders


def founded(folder: Path, config: Config) -> tuple[Founder, ...]:
    """The founders that are recorded in `folder`; at the first start those of `config`, which are then recorded.

    Raises:
        Conflict: the configuration now names others.
        StateCorrupt: there is a store and no such record, or none that can be read.
    """
    path, now = folder / FOUNDERS_FILE, members_of(config)
    if not path.exists():
        if parts_in(folder):
            raise StateCorrupt(where=str(path), reason="it is missing, which belongs to the store beside it")
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(path, msgspec.json.encode(now), 0o600)
        return now
    try:
        then = msgspec.json.decode(path.read_bytes(), type=tuple[Founder, ...])
    except ValueError as error:
        raise StateCorrupt(where=str(path), reason=str(error)) from error
    if then != now:
        raise Conflict(
            detail=f"the control state was founded by the members {_named(then)}, and the configuration now makes them"
            f" {_named(now)}. Keep the first: set consensus.members to [{', '.join(each.node for each in then)}]"
            f" (and every site's `witness` as it was) on every node. To found a new state, and lose all that was agreed"
            f" on, stop every node and move {folder} away on each"
        )
    return then


def settings_of(config: Config, founding: bytes) -> Settings:
    """What a member of that cluster is told."""
    ticks = config.consensus.election_ms // config.consensus.heartbeat_ms
    return Settings(
        raft=RaftConfig(election_ticks=ticks, heartbeat_ticks=1),
        bft=BftSettings(chain=founding, beat=max(1, ticks // 4), timeout=ticks, checkpoint=512, window=2048),
        tick_ms=config.consensus.heartbeat_ms,
    )


def founding_of(founders: tuple[Founder, ...]) -> bytes:
    """8 bytes that name this set of founders; members that were founded otherwise are not heard."""
    return blake2b(msgspec.msgpack.encode(founders), digest_size=8).digest()


def _named(founders: tuple[Founder, ...]) -> str:
    return ", ".join(f"{each.node} ({each.number}, {each.role} in {each.site})" for each in founders)
