"""What stands on a version's card, and what the state of a registry is: plain data, JSON on disk."""

import re
from hashlib import sha256
from typing import Literal

import msgspec

Kind = Literal["bandwidth", "placement"]
KINDS: tuple[Kind, ...] = ("bandwidth", "placement")
_VERSION = re.compile(r"^[0-9]{8}-[0-9a-f]{8}$")
_FILE = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")


class Metric(msgspec.Struct, frozen=True, kw_only=True):
    """One figure of an evaluation, and what the baselines reach on the same data.

    `name` as in ``A/5s/wape``. `tolerance`: how much worse than a baseline, or than the version in use, it may be and
    still pass (relative). Without `gate` it is told, and decides nothing.
    """

    name: str
    value: float
    better: Literal["lower", "higher"] = "lower"
    baselines: dict[str, float] = {}
    tolerance: float = 0.02
    gate: bool = True


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """How often the truth lay in a band (`covered`) that promised `promised` of them; `width` relative to the truth.

    It passes when both differ by at most `tolerance`. `low` and `high`: 95 % interval of `covered` over so many
    `groups` of links, where it was drawn.
    """

    name: str
    promised: float
    covered: float
    low: float | None = None
    high: float | None = None
    groups: int = 0
    width: float = 0.0
    tolerance: float = 0.05


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """Figures of one version on one set of data. `data_hash` tells whether two evaluations can be compared."""

    data: str
    data_hash: str
    metrics: list[Metric] = []
    calibration: list[Calibration] = []


class FileEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One file of a version."""

    bytes: int
    sha256: str


class Card(msgspec.Struct, frozen=True, kw_only=True):
    """Everything about one version besides its weights.

    `created_at`: UTC, ISO 8601. `data_hash` is of what it was trained on, `code_version` of what trained it; with
    `seed` and `settings` the training can be repeated. `parents`: the versions that it was made from. `version`,
    `content_hash` and `files` are filled in by the registry.
    """

    kind: Kind
    created_at: str
    created_by: str
    code_version: str
    data: str
    data_hash: str
    seed: int
    evaluation: Evaluation
    settings: dict[str, str | int | float | bool | None] = {}
    parents: list[str] = []
    notes: str = ""
    version: str = ""
    content_hash: str = ""
    files: dict[str, FileEntry] = {}


class State(msgspec.Struct, frozen=True, kw_only=True):
    """What answers (`in_use`), what only listens (`shadow`), and what answered before, the latest last."""

    in_use: str | None = None
    shadow: str | None = None
    before: list[str | None] = []


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the history. `detail`: the reasons that were overruled, or what was recorded."""

    at: str
    who: str
    action: Literal["publish", "evaluate", "promote", "rollback", "shadow"]
    version: str | None
    forced: bool = False
    detail: str = ""


def content_hash(files: dict[str, FileEntry]) -> str:
    """One SHA-256 over the names, sizes and digests of all files."""
    whole = sha256()
    for name in sorted(files):
        whole.update(f"{name}\0{files[name].bytes}\0{files[name].sha256}\n".encode())
    return whole.hexdigest()


def valid_version(name: str) -> bool:
    """True for a name that a version can have: the day and eight digits of its content's hash."""
    return _VERSION.match(name) is not None


def valid_file(name: str) -> bool:
    """True for a plain file name that a version may have."""
    return _FILE.match(name) is not None and name not in ("card.json", "card.sig")
