"""The JSON shapes of rollout flags."""

from pydantic import Field

from actors.config.schema import Name
from actors.control.model import Component
from api.models import Request, View, Whole


class FlagPut(Request):
    """How far a component is rolled out; what is left out is as without a flag."""

    percent: Whole = Field(100, ge=0, le=100, description="of subjects (guests, links, sites) that have it")
    nodes_on: list[Name] = Field([], max_length=64, description="nodes that have it for every subject")
    nodes_off: list[Name] = Field([], max_length=64, description="nodes that don't have it")
    killed: bool = Field(False, description="off everywhere, whatever the rest says")
    reason: str = Field("", max_length=1000, pattern=r"^[^\x00-\x1f\x7f]*$", description="stands in the audit trail")


class FlagView(View):
    """How far a component is rolled out."""

    component: Component
    percent: int
    nodes_on: list[str]
    nodes_off: list[str]
    killed: bool
    set: bool = Field(description="false: nobody ever set it, so it is on")
    effect: str = Field(description="what it means where the component is off")


class FlagList(View):
    """All six. `agreed`: false when no majority answers; then these are what this node last knew, and what holds."""

    flags: list[FlagView]
    agreed: bool
