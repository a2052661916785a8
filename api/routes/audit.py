"""What was agreed on: the audit trail."""

from typing import Annotated

from fastapi import APIRouter, Query

from actors.control.messages import TRAIL_MAX, TrailQuery
from actors.errors import NoMajority
from api.control_models import TrailPageView
from api.models import GUEST_PATTERN
from api.problems import documented
from api.routes import TOKEN, BackendDep

router = APIRouter(prefix="/v1", tags=["audit"], dependencies=[TOKEN])
_COUNT_MAX = (1 << 53) - 1


@router.get("/audit", responses=documented(NoMajority))
async def show_trail(
    backend: BackendDep,
    guest: Annotated[str, Query(pattern=f"^$|{GUEST_PATTERN}", description="only this guest's, with its moves")] = "",
    since: Annotated[int, Query(ge=0, le=_COUNT_MAX, description="only what was done after this revision")] = 0,
    after: Annotated[int, Query(ge=0, le=_COUNT_MAX, description="`upto` of the page before")] = 0,
    limit: Annotated[int, Query(ge=1, le=TRAIL_MAX)] = TRAIL_MAX,
) -> TrailPageView:
    """Every command that took effect, oldest first, as the members agreed on it; the page says if one was changed."""
    query = TrailQuery(guest=guest, since=since, after=after, limit=limit)
    return TrailPageView.of(await backend.audit(query))
