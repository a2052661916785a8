"""The level follows whoever is the slow part."""

from actors.encoding.level import LEVEL_MAX, LEVEL_MIN, START_UNKNOWN, LevelChooser


def observe(chooser: LevelChooser, times: int, **seconds: float) -> int:
    for _ in range(times):
        on_a_core = {"cpu_s": seconds.get("encode_s", 0.0)}
        chooser.observe(**({"encode_s": 0.0, "wire_s": 0.0, "qemu_s": 0.0} | on_a_core | seconds))
    return chooser.level


def test_a_slow_wire_raises_the_level_to_its_bound() -> None:
    chooser = LevelChooser(0, 0.0)
    assert observe(chooser, 1000, encode_s=0.01, wire_s=0.09) == LEVEL_MAX


def test_a_busy_encoder_lowers_it_to_its_bound() -> None:
    assert observe(LevelChooser(0, 1e6), 1000, encode_s=0.09, qemu_s=0.01) == LEVEL_MIN


def test_a_quiet_guest_and_an_even_match_change_nothing() -> None:
    assert observe(LevelChooser(0, 0.0), 1000, encode_s=0.01, qemu_s=0.2) == START_UNKNOWN
    assert observe(LevelChooser(0, 0.0), 1000, encode_s=0.06, wire_s=0.04) == START_UNKNOWN


def test_the_forecast_says_where_to_begin() -> None:
    levels = [LevelChooser(0, rate).level for rate in (1e6, 12.5e6, 30e6, 125e6)]
    assert levels == sorted(levels, reverse=True)
    assert len(set(levels)) > 2


def test_a_configured_level_stays() -> None:
    assert observe(LevelChooser(7, 125e6), 1000, encode_s=0.1) == 7


def test_on_cores_that_others_want_the_level_falls_however_slow_the_wire() -> None:
    assert observe(LevelChooser(0, 1e6), 1000, encode_s=0.01, cpu_s=0.005, wire_s=0.09) == LEVEL_MIN
