"""Whatever is changed on disk after publication, nothing of it is loaded."""

import os
import shutil
from pathlib import Path

import pytest

from models.registry import Registry, RegistryError, VersionInvalid
from tests.unit.registry.conftest import card, evaluation, opened


@pytest.fixture
def folder(registry: Registry, tmp_path: Path) -> Path:
    version = registry.publish({"weights.pt": b"some weights", "scales.json": b"{}"}, card()).version
    return tmp_path / "root" / "bandwidth" / "versions" / version


def refused(tmp_path: Path, folder: Path, why: str, **options: object) -> None:
    with pytest.raises(VersionInvalid, match=why):
        opened(tmp_path, **options).load(folder.name)


@pytest.mark.parametrize("name", ["weights.pt", "scales.json", "card.json", "card.sig"])
def test_every_flipped_byte_is_seen(tmp_path: Path, folder: Path, name: str) -> None:
    whole = (folder / name).read_bytes()
    for at in range(0, len(whole) - 1, max(1, len(whole) // 40)):
        (folder / name).write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        refused(tmp_path, folder, folder.name)
    (folder / name).write_bytes(whole)
    assert opened(tmp_path).load(folder.name).version == folder.name


@pytest.mark.parametrize("name", ["weights.pt", "card.json", "card.sig"])
def test_a_missing_a_shortened_and_a_grown_file(tmp_path: Path, folder: Path, name: str) -> None:
    whole = (folder / name).read_bytes()
    for content in (whole[:-2], whole + b"x" * 3, b""):
        (folder / name).write_bytes(content)
        refused(tmp_path, folder, folder.name)
    (folder / name).unlink()
    refused(tmp_path, folder, "missing")


def test_a_link_in_place_of_a_file_is_not_followed(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(b"some weights")
    (folder / "weights.pt").unlink()
    (folder / "weights.pt").symlink_to(tmp_path / "elsewhere")
    refused(tmp_path, folder, "can't be read")


def test_a_pipe_in_place_of_a_file_holds_nobody_up(tmp_path: Path, folder: Path) -> None:
    (folder / "weights.pt").unlink()
    os.mkfifo(folder / "weights.pt")
    refused(tmp_path, folder, "damaged")


def test_a_version_signed_by_somebody_else_is_refused(tmp_path: Path, folder: Path) -> None:
    other = Registry(tmp_path / "other", "bandwidth", key=tmp_path / "their.key", shipped=tmp_path / "none")
    theirs = other.publish({"w": b"theirs"}, card(evaluation(0.01))).version
    brought = folder.parent / theirs
    shutil.copytree(tmp_path / "other" / "bandwidth" / "versions" / theirs, brought)
    refused(tmp_path, brought, "not trusted")
    (listed,) = [one for one in opened(tmp_path).versions() if one.version == theirs]
    assert "not trusted" in listed.problem
    with pytest.raises(VersionInvalid):
        opened(tmp_path).promote(theirs, force=True)


def test_only_the_keys_that_are_named_are_believed_where_some_are(tmp_path: Path, folder: Path) -> None:
    refused(tmp_path, folder, "not trusted", trusted=frozenset({"ab" * 32}))
    with pytest.raises(RegistryError, match="told to believe"):
        opened(tmp_path, trusted=frozenset({"ab" * 32})).publish({"w": b"2"}, card())


def test_a_version_under_another_name_is_refused(tmp_path: Path, folder: Path) -> None:
    renamed = folder.rename(folder.with_name("20261125-00000000"))
    refused(tmp_path, renamed, "holds the card of")


def test_what_a_crash_left_aside_is_no_version(registry: Registry, folder: Path) -> None:
    (folder.parent / f".{folder.name}.0123").mkdir()
    (folder.parent / "notes").mkdir()
    assert [one.version for one in registry.versions()] == [folder.name]


def test_a_torn_history_keeps_its_other_lines(registry: Registry, tmp_path: Path, folder: Path) -> None:
    file = tmp_path / "root" / "bandwidth" / "history.jsonl"
    with file.open("ab") as opened_file:
        opened_file.write(b'\n{"at": "2026')
    registry.promote(folder.name)
    assert [change.action for change in registry.history()] == ["publish", "promote"]


def test_a_state_that_cannot_be_read_is_said(registry: Registry, tmp_path: Path, folder: Path) -> None:
    (tmp_path / "root" / "bandwidth" / "state.json").write_text("{")
    with pytest.raises(RegistryError, match=r"state\.json"):
        registry.load()


def test_the_key_is_its_owners_alone(registry: Registry, tmp_path: Path, folder: Path) -> None:
    key = tmp_path / "me" / "model.key"
    assert key.stat().st_mode & 0o777 == 0o600
    key.write_bytes(b"short")
    with pytest.raises(RegistryError, match="no key to sign with"):
        registry.publish({"w": b"2"}, card())
