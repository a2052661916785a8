"""The order of a start, decided without I/O: examples of each rule, then any graph with any outcome."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.boot.component import PHASES, Component, Criticality, Phase
from actors.boot.engine import (
    Cancel,
    Engine,
    Failed,
    GoOnWithout,
    Instruction,
    Interrupted,
    Ready,
    RetryAfter,
    RetryDue,
    RollBack,
    Start,
    Started,
)
from actors.errors import BootFailed


async def _start(_needs: Mapping[str, Any]) -> None:
    return


def part(name: str, *needs: str, phase: Phase = "core", criticality: Criticality = "critical") -> Component:
    return Component(name=name, phase=phase, needs=needs, criticality=criticality, start=_start)


def test_a_component_starts_as_soon_as_its_own_needs_are_up() -> None:
    engine = Engine([part("a"), part("b"), part("c", "a"), part("d", "b", "c", phase="services")])
    assert engine.begin() == [Start("a"), Start("b")]
    assert engine.handle(Started("a", 1.0)) == [Start("c")], "c does not wait for b"
    assert engine.handle(Started("c", 2.0)) == []
    assert engine.handle(Started("b", 5.0)) == [Start("d")]
    assert engine.handle(Started("d", 6.0)) == [Ready()]


def test_phases_are_no_barriers() -> None:
    engine = Engine([part("slow", phase="pre-init"), part("quick", phase="post-init")])
    assert engine.begin() == [Start("slow"), Start("quick")]


def test_nothing_to_start_is_ready_at_once() -> None:
    assert Engine([]).begin() == [Ready()]


def test_a_critical_failure_cancels_waits_and_rolls_back_in_reverse() -> None:
    engine = Engine([part("a"), part("b", "a"), part("c", "b"), part("x", "a"), part("y", "b")])
    engine.begin()
    engine.handle(Started("a", 1.0))
    engine.handle(Started("b", 2.0))
    assert engine.handle(Failed("c", "no disk", 3.0)) == [Cancel(("x", "y"))]
    assert engine.handle(Failed("x", "cancelled", 3.1)) == []
    assert engine.handle(Started("y", 3.2)) == [RollBack(("y", "b", "a"), "c", "no disk")], "y won the race"
    status = engine.status(9.0)
    assert (status.phase, status.ready, status.elapsed_s) == ("halted", False, 3.0)
    assert {c.name: c.state for c in status.components} == {
        "a": "up",
        "b": "up",
        "c": "failed",
        "x": "failed",
        "y": "up",
    }


def test_what_waited_is_skipped_when_the_start_halts() -> None:
    engine = Engine([part("a"), part("b", "a")])
    engine.begin()
    assert engine.handle(Failed("a", "broken", 1.0)) == [RollBack((), "a", "broken")]
    assert [(c.state, c.reason) for c in engine.status(1.0).components] == [
        ("failed", "broken"),
        ("skipped", "halted by a"),
    ]


def test_a_degraded_component_is_tried_again_after_1_2_and_4_s_and_then_left_out() -> None:
    engine = Engine([part("a", criticality="degraded"), part("b")])
    engine.begin()
    assert engine.handle(Started("b", 0.1)) == []
    at = 0.5
    for delay in (1.0, 2.0, 4.0):
        assert engine.handle(Failed("a", "busy", at)) == [RetryAfter("a", delay, "busy")]
        assert engine.status(at).components[0].state == "retrying"
        at += delay
        assert engine.handle(RetryDue("a", at)) == [Start("a")]
    assert engine.handle(Failed("a", "still busy", at)) == [GoOnWithout("a", "still busy"), Ready()]
    status = engine.status(99.0)
    assert status.ready
    assert (status.elapsed_s, status.components[0].took_s, status.components[0].reason) == (7.5, 7.5, "still busy")


def test_a_degraded_component_that_recovers_is_up_and_says_of_what_it_had_failed() -> None:
    engine = Engine([part("a", criticality="degraded"), part("b", "a")])
    engine.begin()
    engine.handle(Failed("a", "busy", 0.0))
    engine.handle(RetryDue("a", 1.0))
    assert engine.handle(Started("a", 1.5)) == [Start("b")]
    assert (engine.status(2.0).components[0].state, engine.status(2.0).components[0].reason) == ("up", "busy")


def test_a_warning_component_is_left_out_at_once() -> None:
    engine = Engine([part("a", criticality="warning")])
    engine.begin()
    assert engine.handle(Failed("a", "no GPU", 1.0)) == [GoOnWithout("a", "no GPU"), Ready()]


def test_what_needs_a_missing_component_is_skipped_through_the_graph() -> None:
    engine = Engine(
        [
            part("a", criticality="warning"),
            part("b", "a", criticality="degraded"),
            part("c", "b", "d", criticality="warning"),
            part("d"),
        ]
    )
    engine.begin()
    assert engine.handle(Failed("a", "gone", 1.0)) == [
        GoOnWithout("a", "gone"),
        GoOnWithout("b", "it needs a, which did not start"),
    ]
    assert engine.handle(Started("d", 2.0)) == [GoOnWithout("c", "it needs b, which did not start"), Ready()]
    assert [c.state for c in engine.status(2.0).components] == ["failed", "skipped", "skipped", "up"]


def test_what_only_comes_after_a_component_waits_for_it_and_can_go_without() -> None:
    last = Component(name="last", phase="post-init", after=("a", "b"), start=_start)
    engine = Engine([part("a", criticality="degraded"), part("b"), last])
    engine.begin()
    assert engine.handle(Started("b", 0.5)) == []
    for at in (1.0, 2.0, 3.0):
        assert isinstance(engine.handle(Failed("a", "busy", at))[0], RetryAfter)
        engine.handle(RetryDue("a", at))
    assert engine.handle(Failed("a", "busy", 4.0)) == [GoOnWithout("a", "busy"), Start("last")]
    with pytest.raises(BootFailed, match="needs 'nope', which does not exist"):
        Engine([Component(name="last", phase="core", after=("nope",), start=_start)])


def test_a_critical_component_that_lacks_a_need_halts() -> None:
    engine = Engine([part("z"), part("a", criticality="warning"), part("b", "a")])
    engine.begin()
    engine.handle(Started("z", 0.5))
    assert engine.handle(Failed("a", "gone", 1.0)) == [
        GoOnWithout("a", "gone"),
        RollBack(("z",), "b", "it needs a, which did not start"),
    ]


def test_an_interrupted_start_is_rolled_back_and_late_timers_do_nothing() -> None:
    engine = Engine([part("a"), part("b", criticality="degraded")])
    engine.begin()
    engine.handle(Started("a", 1.0))
    engine.handle(Failed("b", "busy", 1.0))
    assert engine.handle(Interrupted(1.5)) == [RollBack(("a",), "boot", "interrupted")]
    assert engine.handle(Interrupted(1.6)) == []
    assert engine.handle(RetryDue("b", 2.0)) == []


def test_status_tells_phase_and_times() -> None:
    engine = Engine([part("a", phase="pre-init"), part("b", "a"), part("c", "a", phase="post-init")])
    engine.begin()
    assert engine.status(0.5).phase == "pre-init"
    engine.handle(Started("a", 1.0))
    engine.handle(Started("c", 2.0))
    status = engine.status(3.0)
    assert (status.phase, status.ready, status.elapsed_s) == ("core", False, 3.0)
    assert [(c.started_after_s, c.took_s) for c in status.components] == [(0.0, 1.0), (1.0, 2.0), (1.0, 1.0)]
    engine.handle(Started("b", 4.0))
    status = engine.status(50.0)
    assert (status.phase, status.elapsed_s, status.sequential_s) == ("ready", 4.0, 5.0)
    for name in engine.stop_order():
        engine.stopped(name)
    assert engine.status(60.0).phase == "stopped"
    assert not engine.status(60.0).ready
    assert engine.stop_order() == ()


@pytest.mark.parametrize(
    ("components", "said"),
    [
        ([part("a", "nope")], "a: needs 'nope', which does not exist"),
        ([part("a", "b"), part("b", "c"), part("c", "a")], "needs a"),
        ([part("a", "a")], "a cycle: a needs a"),
        ([part("a", "b"), part("b", phase="services")], "a: is in core and needs 'b' of the later services"),
        ([part("a"), part("a")], "a: its name is taken twice"),
        ([part("a", "x"), part("b", "y")], "a: needs 'x', which does not exist; b: needs 'y'"),
    ],
)
def test_a_graph_that_can_not_be_started_names_every_fault(components: list[Component], said: str) -> None:
    with pytest.raises(BootFailed) as raised:
        Engine(components)
    assert said in str(raised.value)


def test_a_cycle_is_told_in_the_direction_of_needs() -> None:
    with pytest.raises(BootFailed) as raised:
        Engine([part("a", "b"), part("b", "c"), part("c", "a")])
    told = str(raised.value)
    assert any(f"{x} needs {y} needs {z} needs {x}" in told for x, y, z in ("abc", "bca", "cab")), told


@st.composite
def graphs(draw: st.DrawFn) -> list[Component]:
    """Any components that can be started: each may need earlier ones of its own or an earlier phase."""
    made: list[Component] = []
    for number in range(draw(st.integers(1, 9))):
        phase = draw(st.sampled_from(PHASES))
        may_need = [c.name for c in made if PHASES.index(c.phase) <= PHASES.index(phase)]
        needs = draw(st.lists(st.sampled_from(may_need), unique=True, max_size=3)) if may_need else []
        criticality = draw(st.sampled_from(["critical", "degraded", "warning"]))
        made.append(part(f"c{number}", *needs, phase=phase, criticality=criticality))
    return draw(st.permutations(made))


@given(graphs(), st.data())
def test_any_start_ends_and_keeps_its_promises(components: list[Component], data: st.DataObject) -> None:
    parts = {component.name: component for component in components}
    engine = Engine(components)
    in_flight: list[str] = []
    timers: list[str] = []
    up: list[str] = []
    tries = dict.fromkeys(parts, 0)
    ends: list[Instruction] = []
    cancelled = False

    def obey(instructions: list[Instruction]) -> None:
        nonlocal cancelled
        for instruction in instructions:
            match instruction:
                case Start(name):
                    assert set(parts[name].needs) <= set(up), f"{name} started without its needs"
                    assert name not in up
                    assert not cancelled
                    tries[name] += 1
                    in_flight.append(name)
                case RetryAfter(name, delay_s, _):
                    assert parts[name].criticality == "degraded"
                    assert delay_s == 2.0 ** (tries[name] - 1)
                    timers.append(name)
                case GoOnWithout(name, _):
                    assert parts[name].criticality != "critical"
                case Cancel(names):
                    cancelled = True
                    assert sorted(names) == sorted(in_flight)
                case Ready() | RollBack():
                    ends.append(instruction)

    obey(engine.begin())
    at = 0.0
    for _ in range(100):
        if ends:
            break
        at += 1.0
        choices = [*(("timer", name) for name in timers), *(("start", name) for name in in_flight)]
        assert choices, "the start is not over and waits for nothing"
        if not cancelled and data.draw(st.integers(0, 40)) == 0:
            obey(engine.handle(Interrupted(at)))
            continue
        kind, name = data.draw(st.sampled_from(choices))
        if kind == "timer":
            timers.remove(name)
            obey(engine.handle(RetryDue(name, at)))
            continue
        in_flight.remove(name)
        if data.draw(st.integers(0, 3)):
            up.append(name)
            obey(engine.handle(Started(name, at)))
        else:
            obey(engine.handle(Failed(name, "drawn", at)))

    assert len(ends) == 1
    assert not in_flight, "an end was told while a start was under way"
    assert max(tries.values()) <= 4
    order = engine.stop_order()
    assert order == tuple(reversed(up))
    assert all(order.index(name) < order.index(need) for name in order for need in parts[name].needs)
    if isinstance(ends[0], RollBack):
        assert ends[0].names == order
        assert ends[0].component == "boot" or parts[ends[0].component].criticality == "critical"
    else:
        assert all(name in up for name, component in parts.items() if component.criticality == "critical")
        assert engine.status(at).ready
