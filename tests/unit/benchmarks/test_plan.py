"""What a run consists of, percentiles, and when a rival's pause is raised."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.errors import BadRequest
from benchmarks.moving.loads import LOADS, STORES, parse_loads, parse_stores
from benchmarks.moving.memory import own_bytes
from benchmarks.moving.plan import by_lab, missing, tasks
from benchmarks.moving.rivals import PAUSE_MS, SYSTEMS, allowed_pause_ms
from benchmarks.moving.stats import percentile
from benchmarks.moving.tuning import near_enough, next_start_s
from benchmarks.report import Row


def test_rivals_run_once_for_each_load_and_novacron_once_for_each_store() -> None:
    plan = tasks(LOADS[:2], STORES, SYSTEMS, 1, 20)
    light = [(task.system, task.store, task.measure) for task in plan if task.load.name == "light"]
    assert light == [
        ("qemu-plain", "", "move"), ("qemu-xbzrle", "", "move"), ("qemu-multifd", "", "move"),
        ("qemu-multifd-zstd", "", "move"), ("novacron", "empty", "move"), ("novacron", "image", "move"),
        ("novacron", "visited", "move"), ("novacron", "visited", "pauses"),
    ]  # fmt: skip
    heavy = [task.system for task in plan if task.load.name == "heavy"]
    assert heavy.count("qemu-raised") == 1
    assert heavy.index("qemu-raised") > heavy.index("novacron")


def test_runs_take_turns_and_have_names_of_their_own() -> None:
    plan = tasks(LOADS[:1], ["image"], ["qemu-plain", "novacron"], 2, 0)
    assert [(task.system, task.run) for task in plan] == [
        ("qemu-plain", 1), ("novacron", 1), ("qemu-plain", 2), ("novacron", 2),
    ]  # fmt: skip
    assert len({task.key for task in tasks(LOADS, STORES, SYSTEMS, 3, 5)}) == len(tasks(LOADS, STORES, SYSTEMS, 3, 5))


def test_only_moves_to_an_empty_store_need_another_lab() -> None:
    plan = tasks(LOADS[:1], STORES, ["qemu-plain", "novacron"], 1, 0)
    assert [(images, [task.store for task in group]) for images, group in by_lab(plan)] == [
        (True, ["", "image", "visited"]), (False, ["empty"]),
    ]  # fmt: skip
    assert [images for images, _ in by_lab(tasks(LOADS[:1], ["empty"], ["novacron"], 1, 0))] == [False]


def test_what_a_file_has_is_not_measured_again() -> None:
    plan = tasks(LOADS, STORES, SYSTEMS, 2, 20)
    rows: list[Row] = [
        {"load": task.load.load, "system": task.system, "asked": task.store, "run": task.run, "measure": task.measure}
        for task in plan[:7]
    ]
    assert missing(plan, rows) == plan[7:]
    assert missing(plan, []) == plan


def test_loads_and_stores_are_named() -> None:
    assert [load.name for load in parse_loads("kv, light", "")] == ["light", "kv"]
    assert [(load.name, load.kind, load.load) for load in parse_loads("light", "1,2,3")] == [("own", "memory", "1,2,3")]
    assert parse_stores("visited,empty") == ["empty", "visited"]
    for text in ("", "medium"):
        with pytest.raises(BadRequest, match="light, heavy, kv"):
            parse_loads(text, "")


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0.01, 1.0))
def test_a_percentile_is_a_sample_with_enough_below(samples: list[float], share: float) -> None:
    found = percentile(samples, share)
    assert found in samples
    assert sum(sample <= found for sample in samples) >= share * len(samples)
    assert sum(sample < found for sample in samples) < share * len(samples)


def test_percentiles_of_twenty() -> None:
    samples = [float(n) for n in range(20, 0, -1)]
    assert (percentile(samples, 0.5), percentile(samples, 0.99)) == (10.0, 20.0)
    assert percentile([], 0.5) is None


def test_a_pause_is_raised_later_when_the_move_ended_too_soon() -> None:
    assert next_start_s([], 20.0) == 12.0
    assert next_start_s([(12.0, 15.0)], 20.0) == 17.0
    assert next_start_s([(12.0, 30.0)], 20.0) == 2.0
    assert next_start_s([(12.0, 60.0)], 20.0) > 0
    assert next_start_s([(12.0, None)], 20.0) == 6.0
    assert near_enough(21.0, 20.0)
    assert not near_enough(23.0, 20.0)
    assert not near_enough(None, 20.0)


@given(st.floats(0, 1000), st.floats(0, 1000))
def test_the_allowed_pause_only_grows(one: float, other: float) -> None:
    early, late = sorted((one, other))
    assert PAUSE_MS < allowed_pause_ms(early) <= allowed_pause_ms(late) <= 60_000


def test_own_memory_is_read_from_the_kernels_text() -> None:
    assert own_bytes("Name:\tray::DeltaEncod\nVmRSS:\t  900 kB\nRssAnon:\t     800 kB\nRssFile:\t 100 kB\n") == 819_200
    assert own_bytes("Name:\tzombie\n") == 0
