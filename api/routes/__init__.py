"""Thin routers: read the request, call the backend, show the answer."""

from typing import Annotated, cast

from fastapi import Depends, Path, Request
from fastapi.security import HTTPBearer

from api.backend import Backend
from api.models import GUEST_PATTERN


def _backend(request: Request) -> Backend:
    return cast("Backend", request.app.state.backend)


BackendDep = Annotated[Backend, Depends(_backend)]
GuestPath = Annotated[str, Path(pattern=GUEST_PATTERN, description="the guest's name")]
JobPath = Annotated[str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$", description="the migration's id")]
PeerPath = Annotated[str, Path(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", description="the node it leads to")]
NodePath = Annotated[str, Path(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", description="the node's name")]

# Only for the OpenAPI document: `api.edge` has checked the token before any route is looked up.
TOKEN = Depends(HTTPBearer(auto_error=False, scheme_name="token", description="the node's API token"))
