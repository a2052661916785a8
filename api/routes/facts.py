"""What sites tell each other without agreeing on it."""

from typing import Annotated

import msgspec
from fastapi import APIRouter, Path, Query, Response

from actors.errors import NotFound
from actors.sync.messages import MOST, FactsQuery, PutFact
from actors.sync.records import HINT
from api.fact_models import FactListView, FactView, HintPut, ReplicaStateView
from api.problems import documented
from api.routes import TOKEN, BackendDep

router = APIRouter(prefix="/v1", tags=["facts"], dependencies=[TOKEN])
HintPath = Annotated[str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$", description="the hint's name")]
KeyQuery = Annotated[str, Query(max_length=128, pattern=r"^[^\x00-\x1f\x7f]*$")]


@router.get("/facts", responses=documented())
async def list_facts(
    backend: BackendDep,
    prefix: KeyQuery = "",
    after: KeyQuery = "",
    limit: Annotated[int, Query(ge=1, le=MOST)] = MOST,
) -> FactListView:
    """Facts of all sites whose keys begin with `prefix`, in order, those after key `after`."""
    return FactListView.of(await backend.facts(FactsQuery(prefix=prefix, after=after, most=limit)))


@router.get("/facts/state", responses=documented())
async def show_replica(backend: BackendDep) -> ReplicaStateView:
    """How this site's replica and its exchange with each other site stand."""
    return ReplicaStateView.of(await backend.replica())


@router.put("/hints/{name}", responses=documented())
async def put_hint(backend: BackendDep, name: HintPath, body: HintPut) -> FactView:
    """Write a hint for every site to see, as fact `hint/NAME`; the newest write of any site stands."""
    key = HINT + name
    await backend.put_fact(PutFact(key=key, value=msgspec.json.encode(body.value)))
    found = await backend.facts(FactsQuery(prefix=key, most=1))
    shown = [fact for fact in found.facts if fact.key == key]
    if not shown:  # another site has removed it since
        raise NotFound(what=f"hint {name} any more")
    return FactView.of(shown[0])


@router.delete("/hints/{name}", status_code=204, responses=documented())
async def remove_hint(backend: BackendDep, name: HintPath) -> Response:
    """Remove a hint everywhere; one that is not there is removed too, from sites that this one has not heard."""
    await backend.put_fact(PutFact(key=HINT + name, value=None))
    return Response(status_code=204)
