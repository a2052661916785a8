"""The OpenAPI document: current, complete, true to the messages, and what schemathesis makes of it."""

import json
from typing import Literal, get_args, get_origin, get_type_hints

import msgspec
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from pydantic import BaseModel
from schemathesis import Case
from schemathesis.config import SchemathesisConfig

from actors.boot import status
from actors.control import messages as control
from actors.encoding.messages import LayerCount, StoreImage, StoreState
from actors.flags import messages as flags
from actors.hypervisor import messages as hypervisor
from actors.migration import messages as migration
from actors.migration.pause import Pause
from actors.placement import messages as placement
from actors.prediction import messages as prediction
from actors.sync import messages as sync
from actors.sync.records import LinkFact
from actors.transport import messages as transport
from actors.transport import modes
from api import control_models, fact_models, flag_models, guest_models, models, move_models, sweep_models
from api.app import create_app
from api.openapi import PATH, document
from api.problems import MEDIA_TYPE
from tests.unit.api.fake import AUTHORIZED, TOKEN, FakeBackend, boot

DOCUMENT = json.loads(document())
# 413 rejects too: a text over its `maxLength` may already be over what a body may be.
REJECTIONS = ["400", "401", "403", "404", "405", "406", "409", "413", "415", "422", "428", "429", "5xx"]
schema = schemathesis.openapi.from_asgi(
    "/openapi.json",
    create_app(FakeBackend(), TOKEN, boot),
    headers=AUTHORIZED,
    config=SchemathesisConfig.from_dict({"checks": {"negative_data_rejection": {"expected-statuses": REJECTIONS}}}),
)


# Streams that end only with their client; tests/unit/api/test_link_events.py and test_state_events.py read them.
@schema.exclude(path=["/v1/links/events", "/v1/events"]).parametrize()
@settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_every_route_keeps_its_contract(case: Case) -> None:
    case.call_and_validate(headers=AUTHORIZED)


def test_the_checked_in_document_is_current() -> None:
    assert PATH.read_text() == document(), "run `python -m api.openapi`"


@pytest.mark.parametrize("path", DOCUMENT["paths"])
def test_every_route_documents_its_errors(path: str) -> None:
    for operation in DOCUMENT["paths"][path].values():
        assert operation["summary"]
        assert operation["description"]
        open_to_all = path in {"/healthz", "/readyz", "/metrics"}
        assert ("security" in operation) is not open_to_all
        problems = {
            status for status, answer in operation["responses"].items() if MEDIA_TYPE in answer.get("content", {})
        }
        assert {"500"} <= problems if open_to_all else {"400", "401", "413", "422", "500", "503", "504"} <= problems


@pytest.mark.parametrize(
    ("view", "struct"),
    [
        (models.ComponentView, status.ComponentStatus),
        (models.Readiness, status.BootStatus),
        (models.NodeView, hypervisor.NodeFacts),
        (sweep_models.PlannedMoveView, placement.PlannedMove),
        (sweep_models.StayingView, placement.Staying),
        (sweep_models.StandingView, placement.Standing),
        (sweep_models.SweepMoveView, migration.SweepMove),
        (sweep_models.SweepView, migration.SweepView),
        (sweep_models.SweepList, migration.Sweeps),
        (guest_models.DiskView, hypervisor.DiskSpec),
        (guest_models.AttributesView, hypervisor.Attributes),
        (guest_models.GuestView, hypervisor.GuestInfo),
        (guest_models.GuestList, hypervisor.Guests),
        (guest_models.FailedOverView, hypervisor.TakenOver),
        (move_models.LayerView, LayerCount),
        (models.StoreImageView, StoreImage),
        (models.StoreView, StoreState),
        (models.SiteView, migration.SiteView),
        (models.SiteList, migration.Sites),
        (move_models.ProgressView, migration.Progress),
        (move_models.PauseView, Pause),
        (move_models.MigrationView, migration.JobView),
        (move_models.MigrationList, migration.Jobs),
        (move_models.MigrationEvent, migration.JobEvent),
        (models.ForecastView, migration.ForecastView),
        (models.AccuracyView, prediction.Accuracy),
        (models.AccuracyList, prediction.Accuracies),
        (models.LinkView, migration.LinkView),
        (models.LinkList, migration.Links),
        (models.SampleView, transport.LinkSample),
        (models.LinkStateView, transport.LinkState),
        (models.SwitchView, modes.Switch),
        (models.PeriodView, transport.LinkPeriod),
        (models.LinkHistoryView, transport.LinkPeriods),
        (fact_models.FactListView, sync.FactList),
        (fact_models.PeerStateView, sync.PeerState),
        (fact_models.ReplicaStateView, sync.ReplicaState),
        (fact_models.LinkFactView, LinkFact),
        (control_models.MemberView, control.MemberView),
        (control_models.ClusterStateView, control.ClusterView),
        (control_models.TrailEntryView, control.TrailEntry),
        (control_models.TrailPageView, control.TrailPage),
        (flag_models.FlagView, flags.ShownFlag),
        (flag_models.FlagList, flags.ShownFlags),
    ],
)
def test_views_mirror_the_messages(view: type[BaseModel], struct: type[msgspec.Struct]) -> None:
    shapes = [
        {name: _kind(kind) for name, kind in get_type_hints(shape).items() if not name.startswith(("_", "model_"))}
        for shape in (view, struct)
    ]
    assert shapes[0] == shapes[1]


def _kind(kind: object) -> object:
    """Scalars as they are, choices between strings as strings, everything else as one."""
    if kind in {str, int, float, bool}:
        return kind
    choices = get_args(kind)
    return str if choices and all(isinstance(one, str) or get_origin(one) is Literal for one in choices) else "nested"


def test_a_new_guest_has_every_field_of_its_spec() -> None:
    asked = set(guest_models.GuestCreate.model_fields) - {"node", "start"}
    assert asked == set(hypervisor.GuestSpec.__struct_fields__)
    assert set(guest_models.DiskCreate.model_fields) == set(hypervisor.DiskSpec.__struct_fields__)
