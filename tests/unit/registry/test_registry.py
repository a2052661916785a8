"""Publishing, promoting, going back: what is kept and what is refused."""

import io
import multiprocessing
from pathlib import Path

import numpy as np
import pytest
import torch

from models.registry import PromotionRefused, Registry, RegistryBusy, RegistryError, VersionInvalid, VersionUnknown
from models.registry.files import locked
from tests.unit.registry.conftest import card, evaluation, opened

WEIGHTS = {"weights.pt": b"one", "scales.json": b"{}"}


def test_what_is_published_is_loaded_byte_for_byte(registry: Registry) -> None:
    made = registry.publish(WEIGHTS, card())
    assert made.version.startswith("20261125-")
    assert made.version.endswith(made.content_hash[:8])
    loaded = registry.load(made.version)
    assert (loaded.files, loaded.card) == (WEIGHTS, made)
    assert [(one.version, one.role, one.shipped, one.problem) for one in registry.versions()] == [
        (made.version, "", False, "")
    ]


def test_nothing_is_in_use_before_something_is_promoted(registry: Registry) -> None:
    registry.publish(WEIGHTS, card())
    with pytest.raises(VersionUnknown, match="no bandwidth model is in use"):
        registry.load()
    with pytest.raises(VersionUnknown, match="there is no bandwidth model '20260101-00000000'"):
        registry.load("20260101-00000000")
    for name in ("../..", "", "20261125-0000000g", "/etc"):
        with pytest.raises(VersionUnknown):
            registry.load(name)


def test_the_same_content_is_published_once(registry: Registry) -> None:
    first, again = registry.publish(WEIGHTS, card()), registry.publish(WEIGHTS, card(seed=8))
    assert first == again
    assert [change.action for change in registry.history()] == ["publish"]


@pytest.mark.parametrize("name", ["../x", ".hidden", "a/b", "card.json", "", "x" * 101])
def test_a_file_name_that_leads_elsewhere_is_refused(registry: Registry, name: str) -> None:
    with pytest.raises(RegistryError, match="can't have file"):
        registry.publish({name: b""}, card())
    assert registry.versions() == []


def test_a_card_of_another_kind_or_without_a_time_is_refused(registry: Registry) -> None:
    with pytest.raises(RegistryError, match="keeps bandwidth"):
        registry.publish(WEIGHTS, card(kind="placement"))
    with pytest.raises(RegistryError, match="ISO 8601"):
        registry.publish(WEIGHTS, card(created_at="yesterday"))
    with pytest.raises(RegistryError, match="1 to 64 files"):
        registry.publish({}, card())


def test_promotion_rollback_and_what_the_history_keeps(registry: Registry, tmp_path: Path) -> None:
    first = registry.publish({"w": b"1"}, card()).version
    second = registry.publish({"w": b"2"}, card(evaluation(0.09))).version
    assert registry.promote(first) == []
    registry.shadow(second)
    assert {one.version: one.role for one in registry.versions()} == {first: "in use", second: "shadow"}
    assert registry.promote(second) == []
    assert (registry.load().version, registry.state().shadow) == (second, None)
    assert registry.rollback() == first
    assert opened(tmp_path).load().version == first
    assert registry.rollback() is None
    with pytest.raises(RegistryError, match="nothing to go back to"):
        registry.rollback()
    told = [(change.action, change.version) for change in registry.history()]
    assert told == [
        ("publish", first), ("publish", second), ("promote", first), ("shadow", second), ("promote", second),
        ("rollback", first), ("rollback", None),
    ]  # fmt: skip
    assert all(change.who and change.at for change in registry.history())


def test_a_worse_version_is_refused_and_force_is_written_down(registry: Registry) -> None:
    good = registry.publish({"w": b"1"}, card()).version
    worse = registry.publish({"w": b"2"}, card(evaluation(0.14))).version
    registry.promote(good)
    with pytest.raises(PromotionRefused) as refused:
        registry.promote(worse)
    assert any("which is in use" in reason for reason in refused.value.reasons)
    assert registry.load().version == good
    assert registry.promote(worse, force=True)
    last = registry.history()[-1]
    assert (last.action, last.version, last.forced) == ("promote", worse, True)
    assert "A/5s/wape" in last.detail
    with pytest.raises(PromotionRefused, match="in use already"):
        registry.promote(worse)


def test_versions_on_other_data_are_compared_once_both_were_evaluated_on_it(registry: Registry) -> None:
    old = registry.publish({"w": b"1"}, card()).version
    new = registry.publish({"w": b"2"}, card(evaluation(0.2, ewma=0.3, data_hash="d2"))).version
    registry.promote(old)
    with pytest.raises(PromotionRefused, match="no evaluation on the same data"):
        registry.promote(new)
    registry.record(old, evaluation(0.25, ewma=0.3, data_hash="d2"))
    assert registry.promote(new) == []
    assert [one.data_hash for one in registry.evaluations(old)] == ["d1", "d2"]


def test_a_forged_evaluation_does_not_count(registry: Registry, tmp_path: Path) -> None:
    old = registry.publish({"w": b"1"}, card()).version
    registry.record(old, evaluation(0.9, data_hash="d2"))
    (file,) = (tmp_path / "root" / "bandwidth" / "evaluations").glob("*.json")
    file.write_bytes(file.read_bytes().replace(b"0.9", b"0.1"))
    assert [one.data_hash for one in registry.evaluations(old)] == ["d1"]


def test_a_shadow_can_be_taken_away_and_is_never_the_one_in_use(registry: Registry) -> None:
    version = registry.publish(WEIGHTS, card()).version
    registry.shadow(version)
    registry.shadow(None)
    assert registry.state().shadow is None
    registry.promote(version)
    with pytest.raises(RegistryError, match="own shadow"):
        registry.shadow(version)


def test_shipped_versions_answer_until_one_is_promoted(registry: Registry, tmp_path: Path) -> None:
    shipped = registry.publish({"w": b"1"}, card()).version
    registry.export(shipped, tmp_path / "shipped")
    fresh = Registry(tmp_path / "elsewhere", "bandwidth", key=tmp_path / "key", shipped=tmp_path / "shipped")
    assert fresh.load().version == shipped
    assert [(one.role, one.shipped) for one in fresh.versions()] == [("in use", True)]
    better = fresh.publish({"w": b"2"}, card(evaluation(0.05))).version
    fresh.promote(better)
    assert fresh.load().version == better
    assert fresh.rollback() == shipped
    alone = Registry(None, "bandwidth", shipped=tmp_path / "shipped")
    assert alone.load().version == shipped
    with pytest.raises(RegistryError, match="name a registry"):
        alone.promote(shipped)


def test_weights_are_tensors_and_nothing_else(registry: Registry) -> None:
    buffer = io.BytesIO()
    torch.save({"w": torch.arange(3.0)}, buffer)
    evil = b"cos\nsystem\n(S'true'\ntR."
    version = registry.publish({"good.pt": buffer.getvalue(), "evil.pt": evil}, card()).version
    loaded = registry.load(version)
    assert loaded.tensors("good.pt")["w"].tolist() == [0, 1, 2]
    for name in ("evil.pt", "missing.pt"):
        with pytest.raises(VersionInvalid):
            loaded.tensors(name)


def _publish(tmp_path: Path, number: int) -> None:
    opened(tmp_path).publish({"w": str(number).encode()}, card())


def test_two_writers_lose_nothing(tmp_path: Path) -> None:
    opened(tmp_path).publish({"w": b"first"}, card())
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_publish, args=(tmp_path, number)) for number in range(6)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert [writer.exitcode for writer in writers] == [0] * 6
    assert len(opened(tmp_path).versions()) == len(opened(tmp_path).history()) == 7


def test_a_lock_that_is_never_freed_is_an_error(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(RegistryBusy), locked(tmp_path, wait_s=0.1):
        pass


def test_arrays_are_read_and_nothing_is_unpickled(registry: Registry) -> None:
    good, bad, other = io.BytesIO(), io.BytesIO(), io.BytesIO()
    np.savez(good, w=np.arange(3))
    np.savez(bad, allow_pickle=True, w=np.array([{}], dtype=object))
    np.save(other, np.arange(3))
    files = {"good.npz": good.getvalue(), "bad.npz": bad.getvalue(), "other.npz": other.getvalue(), "text.npz": b"no"}
    loaded = registry.load(registry.publish(files, card()).version)
    assert loaded.arrays("good.npz")["w"].tolist() == [0, 1, 2]
    for name in ("bad.npz", "other.npz", "text.npz"):
        with pytest.raises(VersionInvalid, match="holds no arrays"):
            loaded.arrays(name)
    with pytest.raises(VersionInvalid, match="has no file"):
        loaded.arrays("none.npz")
