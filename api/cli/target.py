"""Which API the commands talk to, and with which token.

Looked for in this order: ``--url`` and ``--token-file``; ``NOVACRON_URL``, ``NOVACRON_TOKEN`` and
``NOVACRON_TOKEN_FILE``; the lab that is up on this machine (``NOVACRON_LAB`` names another than ``default``); this
host's own node.
"""

from collections.abc import Mapping
from pathlib import Path

import msgspec

from actors.errors import Conflict, TokenInvalid

LOCAL_URL = "http://127.0.0.1:8443"
LOCAL_TOKEN_FILE = Path("/etc/novacron/api.token")


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """One API."""

    url: str
    token: str


def find(
    environ: Mapping[str, str], url: str = "", token_file: Path | None = None, lab_root: Path | None = None
) -> Target:
    """The API to talk to; `url` and `token_file` are what the command line said, `lab_root` is where labs are kept.

    Raises:
        TokenInvalid: no token is to be found.
        Conflict: the lab is there in pieces only.
    """
    named_url = url or environ.get("NOVACRON_URL", "")
    named_token = _first_line(token_file) if token_file else _token_of(environ)
    # A lab's token goes to that lab alone, never to another URL that somebody named.
    fallback = None if named_url else _lab(environ.get("NOVACRON_LAB", "default"), lab_root)
    token = named_token or (fallback.token if fallback else _first_line(LOCAL_TOKEN_FILE))
    if not token:
        raise TokenInvalid
    return Target(url=named_url or (fallback.url if fallback else LOCAL_URL), token=token)


def _token_of(environ: Mapping[str, str]) -> str:
    if token := environ.get("NOVACRON_TOKEN", ""):
        return token
    named = environ.get("NOVACRON_TOKEN_FILE", "")
    return _first_line(Path(named)) if named else ""


def _first_line(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").split("\n", 1)[0].strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _lab(name: str, root: Path | None) -> Target | None:
    """The API of the lab's first site."""
    from actors.lab.plan import STATE_ROOT, decode_plan

    try:
        plan = decode_plan(((root or STATE_ROOT) / Path(name).name / "plan.json").read_bytes())
    except OSError:
        return None
    except msgspec.MsgspecError as error:
        raise Conflict(detail=f"lab {name!r} was made by another version: {error}") from error
    return Target(url=plan.hosts[0].api_url, token=_first_line(plan.api_token_file))
