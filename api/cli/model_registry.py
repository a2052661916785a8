"""The registry that a ``novacron models`` command works on."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from models.registry import Registry

NODE_STATE = Path("/var/lib/novacron")

Kind = Literal["bandwidth", "placement"]
Root = Annotated[
    Path | None,
    typer.Option(
        "--registry",
        envvar="NOVACRON_MODELS",
        file_okay=False,
        help="The registry's directory; without: this host's node's, else the user's own.",
    ),
]


def registry_root(root: Path | None) -> Path:
    """`root`, else where a node of this host keeps its models, else the user's own place."""
    if root is not None:
        return root
    return (NODE_STATE if NODE_STATE.is_dir() else Path.home() / ".local" / "share" / "novacron") / "models"


@contextmanager
def opened(root: Path | None, kind: Kind) -> "Iterator[Registry]":
    """The registry; what goes wrong with it becomes an error that the command line shows.

    Raises:
        NotFound: there is no such version.
        Conflict: the gates refuse it, or another process is writing.
        Failed: it is damaged, not trusted, or can't be written.
    """
    from actors.errors import Conflict, Failed, NotFound
    from models.registry import PromotionRefused, Registry, RegistryBusy, RegistryError, VersionUnknown

    try:
        yield Registry(registry_root(root), kind)
    except VersionUnknown as error:
        raise NotFound(what=str(error)) from error
    except (PromotionRefused, RegistryBusy) as error:
        raise Conflict(detail=str(error)) from error
    except (RegistryError, OSError) as error:
        raise Failed(detail=str(error)) from error
