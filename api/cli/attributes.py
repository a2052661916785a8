"""Options that say what placement heeds of a guest, and ``novacron guest label``."""

from typing import TYPE_CHECKING, Annotated

import typer

from api.cli.context import GuestName, Json, client
from api.cli.output import as_json, fields

if TYPE_CHECKING:
    from actors.hypervisor.messages import Attributes

_HEEDED = "What placement heeds"
TENANT = typer.Option(help="Whose it is.", rich_help_panel=_HEEDED)
SITES = typer.Option(help="SITE,…: the only ones it may be in.", rich_help_panel=_HEEDED)
TOGETHER = typer.Option(help="GROUP,…: whose guests share a node.", rich_help_panel=_HEEDED)
APART = typer.Option(help="GROUP,…: of which no two guests share a node.", rich_help_panel=_HEEDED)
NEAR = typer.Option(help="GROUP,…: that talk a lot and gain by one site.", rich_help_panel=_HEEDED)


def words(text: str) -> tuple[str, ...]:
    """The words of a list with commas."""
    return tuple(word.strip() for word in text.split(",") if word.strip())


def label(
    context: typer.Context,
    name: GuestName,
    tenant: Annotated[str | None, TENANT] = None,
    sites: Annotated[str | None, SITES] = None,
    together: Annotated[str | None, TOGETHER] = None,
    apart: Annotated[str | None, APART] = None,
    near: Annotated[str | None, NEAR] = None,
    json: Json = False,
) -> None:
    """Change what placement heeds of a guest; what is not said stays, '' takes it away."""
    from actors.migration.messages import LabelGuest

    def given(text: str | None) -> tuple[str, ...] | None:
        return None if text is None else words(text)

    request = LabelGuest(
        name=name, tenant=tenant, sites=given(sites), together=given(together), apart=given(apart), near=given(near)
    )
    with client(context) as api:
        guest = api.label(request)
    as_json(guest) if json else fields([("name", guest.name), *rows(guest.attributes)])


def rows(attributes: "Attributes") -> list[tuple[str, str]]:
    """Names and values to show; those that are not set are empty."""
    return [
        ("tenant", attributes.tenant),
        *((kind, ", ".join(getattr(attributes, kind))) for kind in ("sites", "together", "apart", "near")),
    ]
