"""The authority: what it issues, what it refuses, and how its files lie on disk."""

import datetime
import os
from pathlib import Path

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from actors.errors import BadRequest, Conflict, SetupMissing
from actors.files import write_atomically
from actors.security.authority import create_authority, issue, rotate


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("authority")
    create_authority(folder)
    return folder


def test_a_node_gets_its_names_and_a_signature(authority: Path) -> None:
    made = issue(authority, "paris-1", "paris")
    certificate = x509.load_pem_x509_certificate(made.certificate.read_bytes())
    ca = x509.load_pem_x509_certificate(made.ca.read_bytes())
    certificate.verify_directly_issued_by(ca)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["paris-1"]
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == ["novacron://paris/paris-1"]
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_certificates_hold_for_clocks_a_day_behind_and_do_not_outlive_the_authority(authority: Path) -> None:
    made = issue(authority, "paris-2", "paris")
    certificate = x509.load_pem_x509_certificate(made.certificate.read_bytes())
    ca = x509.load_pem_x509_certificate(made.ca.read_bytes())
    now = datetime.datetime.now(datetime.UTC)
    assert certificate.not_valid_before_utc < now - datetime.timedelta(hours=23)
    assert now + datetime.timedelta(days=365) < certificate.not_valid_after_utc < ca.not_valid_after_utc


def test_every_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "ca"
    old = os.umask(0)
    try:
        create_authority(folder)
        issue(folder, "a", "here")
    finally:
        os.umask(old)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()} == dict.fromkeys(
        ("ca.pem", "ca.key", "a.pem", "a.key"), 0o600
    )


def test_a_second_authority_is_refused_and_the_first_stays(authority: Path) -> None:
    before = (authority / "ca.key").read_bytes()
    with pytest.raises(Conflict, match="holds an authority already"):
        create_authority(authority)
    assert (authority / "ca.key").read_bytes() == before


def test_issuing_again_replaces_key_and_certificate(authority: Path) -> None:
    first = issue(authority, "again", "here").key.read_bytes()
    assert issue(authority, "again", "here").key.read_bytes() != first


def test_a_rotated_authority_is_trusted_beside_the_one_before(tmp_path: Path) -> None:
    create_authority(tmp_path)
    old = issue(tmp_path, "a", "here").certificate.read_bytes()
    rotate(tmp_path)
    new = issue(tmp_path, "a", "here").certificate.read_bytes()
    after, before = x509.load_pem_x509_certificates((tmp_path / "ca.pem").read_bytes())
    x509.load_pem_x509_certificate(new).verify_directly_issued_by(after)
    x509.load_pem_x509_certificate(old).verify_directly_issued_by(before)
    rotate(tmp_path)
    assert len(x509.load_pem_x509_certificates((tmp_path / "ca.pem").read_bytes())) == 2


def test_a_rotation_that_was_cut_short_can_still_issue(tmp_path: Path) -> None:
    create_authority(tmp_path)
    key = (tmp_path / "ca.key").read_bytes()
    rotate(tmp_path)
    (tmp_path / "ca.key").write_bytes(key)  # the new one was never written
    made = x509.load_pem_x509_certificate(issue(tmp_path, "a", "here").certificate.read_bytes())
    _, before = x509.load_pem_x509_certificates((tmp_path / "ca.pem").read_bytes())
    made.verify_directly_issued_by(before)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: (folder / "ca.key").unlink(), "No such file"),
        (lambda folder: (folder / "ca.pem").write_bytes(b"nothing"), "readable authority"),
        (lambda folder: (folder / "ca.key").write_bytes(b"nothing"), "readable authority"),
    ],
)
def test_without_a_whole_authority_nothing_is_issued(tmp_path: Path, damage, said: str) -> None:
    create_authority(tmp_path)
    damage(tmp_path)
    with pytest.raises(SetupMissing, match=said):
        issue(tmp_path, "a", "here")
    assert not (tmp_path / "a.key").exists()


def test_a_key_of_another_authority_is_refused(tmp_path: Path, authority: Path) -> None:
    create_authority(tmp_path)
    (tmp_path / "ca.key").write_bytes((authority / "ca.key").read_bytes())
    with pytest.raises(SetupMissing, match="belong together"):
        issue(tmp_path, "a", "here")


@pytest.mark.parametrize("name", ["", "../x", "A", "a/b", "a b", "-a", "a\n", "a" * 64, "ä"])
def test_names_that_could_not_stand_in_a_topology_are_refused(authority: Path, name: str) -> None:
    for node, site in ((name, "here"), ("a", name)):
        with pytest.raises(BadRequest, match="is no name for a"):
            issue(authority, node, site)


def test_a_folder_that_can_not_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadRequest, match="can't write"):
        create_authority(tmp_path / "file" / "ca")


@given(st.binary(max_size=1000), st.binary(max_size=1000))
def test_a_file_is_written_whole_and_leaves_nothing_beside_it(
    tmp_path_factory: pytest.TempPathFactory, old: bytes, new: bytes
) -> None:
    folder = tmp_path_factory.mktemp("files")
    write_atomically(folder / "f", old)
    write_atomically(folder / "f", new, mode=0o640)
    assert (folder / "f").read_bytes() == new
    assert (folder / "f").stat().st_mode & 0o777 == 0o640
    assert [path.name for path in folder.iterdir()] == ["f"]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "f").mkdir()  # a folder can't be replaced by a file
    with pytest.raises(OSError, match="directory"):
        write_atomically(tmp_path / "f", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["f"]
