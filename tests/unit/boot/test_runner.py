"""The runner on a real event loop: concurrency, deadlines, roll-back, health. Delays cost no time."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from actors.boot import runner as runner_module
from actors.boot.component import Component, Criticality
from actors.boot.runner import Runner
from actors.errors import BootFailed, HypervisorDown


class Scene:
    """Components that write down what happens to them; `story` is the order of it."""

    def __init__(self) -> None:
        self.story: list[str] = []
        self.gates: dict[str, asyncio.Event] = {}
        self.slept: list[float] = []

    def part(
        self,
        name: str,
        *needs: str,
        criticality: Criticality = "critical",
        failures: int = 0,
        gated: bool = False,
        deadline_s: float = 10.0,
    ) -> Component:
        left = failures
        if gated:
            self.gates[name] = asyncio.Event()

        async def start(values: Mapping[str, Any]) -> str:
            nonlocal left
            assert set(values) == set(needs)
            self.story.append(f"start {name}")
            try:
                if gated:
                    await self.gates[name].wait()
            except asyncio.CancelledError:
                self.story.append(f"cancelled {name}")
                raise
            if left:
                left -= 1
                raise HypervisorDown(node=name, reason="asked to fail")
            self.story.append(f"up {name}")
            return f"{name}({', '.join(values.values())})"

        async def stop(value: str) -> None:
            assert value.startswith(f"{name}(")
            self.story.append(f"stop {name}")

        return Component(
            name=name, phase="core", needs=needs, criticality=criticality, start=start, stop=stop, deadline_s=deadline_s
        )

    async def sleep(self, delay_s: float) -> None:
        self.slept.append(delay_s)
        await asyncio.sleep(0)

    def runner(self, *parts: Component) -> Runner:
        return Runner(parts, sleep=self.sleep)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110  any turn of the loop may make it true
            await asyncio.sleep(0)


@pytest.fixture
def scene() -> Scene:
    return Scene()


async def test_values_flow_to_those_that_need_them_and_stop_goes_backwards(scene: Scene) -> None:
    runner = scene.runner(scene.part("c", "a", "b"), scene.part("b", "a"), scene.part("a"))
    await runner.boot()
    assert runner.values == {"a": "a()", "b": "b(a())", "c": "c(a(), b(a()))"}
    assert runner.status().ready
    await runner.stop()
    assert scene.story[-3:] == ["stop c", "stop b", "stop a"]
    assert runner.values == {}
    assert runner.status().phase == "stopped"
    await runner.stop()
    assert scene.story.count("stop a") == 1, "a second stop does nothing"


async def test_starts_run_at_the_same_time_and_nobody_waits_for_a_stranger(scene: Scene) -> None:
    runner = scene.runner(scene.part("slow", gated=True), scene.part("a"), scene.part("b", "a"))
    boot = asyncio.create_task(runner.boot())
    await until(lambda: runner.status().components[2].state == "up")
    status = runner.status()
    assert [c.state for c in status.components] == ["starting", "up", "up"]
    assert (status.phase, status.ready) == ("core", False)
    scene.gates["slow"].set()
    await boot
    assert runner.status().ready


async def test_a_critical_failure_names_component_cause_and_what_was_rolled_back(scene: Scene) -> None:
    runner = scene.runner(scene.part("a"), scene.part("b", "a"), scene.part("c", "b", failures=1))
    with pytest.raises(BootFailed) as raised:
        await runner.boot()
    assert raised.value.fields == {
        "component": "c",
        "reason": "libvirt on c does not answer: asked to fail",
        "rolled_back": "b, a",
    }
    assert scene.story[-2:] == ["stop b", "stop a"]
    assert "up c" not in scene.story
    assert runner.status().phase == "halted"
    assert runner.values == {}


async def test_what_is_starting_when_another_fails_is_cancelled_before_its_needs_stop(scene: Scene) -> None:
    runner = scene.runner(scene.part("a"), scene.part("hangs", "a", gated=True), scene.part("bad", "a", failures=1))
    with pytest.raises(BootFailed, match="Rolled back: a"):
        await runner.boot()
    assert scene.story.index("cancelled hangs") < scene.story.index("stop a")
    assert "stop hangs" not in scene.story


async def test_a_start_past_its_deadline_has_failed(scene: Scene) -> None:
    runner = scene.runner(scene.part("late", gated=True, deadline_s=0.01))
    with pytest.raises(BootFailed, match=r"start of late did not answer within 0\.01 s"):
        await runner.boot()
    assert scene.story == ["start late", "cancelled late"]


async def test_a_start_that_ignores_being_cancelled_does_not_hold_the_roll_back(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner_module, "_CLEAN_UP_S", 0.01)
    release = asyncio.Event()

    async def deaf(_values: Mapping[str, Any]) -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                scene.story.append("ignored")

    deaf_part = Component(name="deaf", phase="core", needs=("a",), start=deaf)
    runner = scene.runner(scene.part("a"), deaf_part, scene.part("bad", "a", failures=1))
    async with asyncio.timeout(10):
        with pytest.raises(BootFailed, match="Component bad"):
            await runner.boot()
    assert "ignored" in scene.story
    assert scene.story[-1] == "stop a"
    release.set()


async def test_a_start_that_succeeds_while_it_is_cancelled_is_stopped_too(scene: Scene) -> None:
    async def stubborn(_values: Mapping[str, Any]) -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "made it"
        raise AssertionError("nobody sets that event")

    async def stop(value: str) -> None:
        scene.story.append(f"stop stubborn {value}")

    runner = scene.runner(
        Component(name="stubborn", phase="core", start=stubborn, stop=stop),
        scene.part("a"),
        scene.part("b", "a", failures=1),
    )
    with pytest.raises(BootFailed, match="Rolled back: stubborn, a"):
        await runner.boot()
    assert scene.story[-2:] == ["stop stubborn made it", "stop a"]


async def test_a_degraded_component_is_retried_with_growing_delays(scene: Scene) -> None:
    runner = scene.runner(scene.part("a", criticality="degraded", failures=2), scene.part("b", "a"))
    await runner.boot()
    assert scene.slept == [1.0, 2.0]
    assert runner.values["b"] == "b(a())"


async def test_the_node_goes_on_without_a_degraded_component_and_its_dependents(scene: Scene) -> None:
    runner = scene.runner(
        scene.part("a", criticality="degraded", failures=9),
        scene.part("b", "a", criticality="warning"),
        scene.part("c"),
    )
    await runner.boot()
    assert scene.slept == [1.0, 2.0, 4.0]
    assert scene.story.count("start a") == 4
    assert dict(runner.values) == {"c": "c()"}
    assert [c.state for c in runner.status().components] == ["failed", "skipped", "up"]
    assert runner.status().ready


async def test_a_warning_component_is_not_retried(scene: Scene) -> None:
    runner = scene.runner(scene.part("a", criticality="warning", failures=1))
    await runner.boot()
    assert scene.slept == []
    assert runner.status().components[0].reason == "libvirt on a does not answer: asked to fail"


async def test_cancelling_the_boot_rolls_back(scene: Scene) -> None:
    runner = scene.runner(scene.part("a"), scene.part("b", "a", gated=True))
    boot = asyncio.create_task(runner.boot())
    await until(lambda: "start b" in scene.story)
    boot.cancel()
    with pytest.raises(asyncio.CancelledError):
        await boot
    assert scene.story[-2:] == ["cancelled b", "stop a"]
    assert runner.status().phase == "halted"


async def test_a_boot_that_halts_while_a_retry_waits_leaves_no_timer_behind(scene: Scene) -> None:
    async def for_ever(_delay_s: float) -> None:
        await asyncio.Event().wait()

    before = asyncio.all_tasks()
    runner = Runner(
        [scene.part("again", criticality="degraded", failures=9), scene.part("a"), scene.part("bad", "a", failures=1)],
        sleep=for_ever,
    )
    with pytest.raises(BootFailed):
        await runner.boot()
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before


async def test_a_stop_that_fails_or_hangs_does_not_keep_the_others_running(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nothing(_values: Mapping[str, Any]) -> None:
        return

    async def fail(_value: Any) -> None:
        raise RuntimeError("no")

    async def hang(_value: Any) -> None:
        await asyncio.Event().wait()

    failing = Component(name="failing", phase="core", needs=("a",), start=nothing, stop=fail)
    hanging = Component(name="hanging", phase="core", needs=("failing",), start=nothing, stop=hang, deadline_s=0.01)
    runner = scene.runner(scene.part("a"), failing, hanging)
    await runner.boot()
    await runner.stop()
    assert scene.story[-1] == "stop a"


async def test_health_asks_everything_at_once_with_a_deadline(scene: Scene) -> None:
    async def value(_values: Mapping[str, Any]) -> str:
        return "value"

    async def well(given: Any) -> None:
        assert given == "value"

    async def ill(_value: Any) -> None:
        raise HypervisorDown(node="n", reason="gone")

    async def silent(_value: Any) -> None:
        await asyncio.Event().wait()

    checks = {"well": well, "ill": ill, "silent": silent}
    runner = Runner(
        [
            *(Component(name=name, phase="core", start=value, health=check) for name, check in checks.items()),
            scene.part("absent", criticality="warning", failures=1),
        ]
    )
    assert await runner.check_health() == [], "before the boot there is nobody to ask"
    await runner.boot()
    told = await runner.check_health(deadline_s=0.01)
    assert {answer.name: answer.reason for answer in told} == {
        "ill": "libvirt on n does not answer: gone",
        "silent": "health of silent did not answer within 0.01 s.",
    }
    assert {answer.criticality for answer in told} == {"critical"}


async def test_times_come_from_the_clock_that_was_given(scene: Scene) -> None:
    now = 100.0

    async def takes_two(_values: Mapping[str, Any]) -> None:
        nonlocal now
        now += 2.0

    runner = Runner(
        [
            Component(name="a", phase="core", start=takes_two),
            Component(name="b", phase="services", start=takes_two, needs=("a",)),
        ],
        clock=lambda: now,
    )
    assert runner.status().elapsed_s == 0.0
    await runner.boot()
    now += 50.0
    status = runner.status()
    assert (status.elapsed_s, status.sequential_s) == (4.0, 4.0)
    assert [c.started_after_s for c in status.components] == [0.0, 2.0]
