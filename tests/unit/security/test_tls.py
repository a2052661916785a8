"""Mutual TLS over real sockets: who gets in, who doesn't, and which node a certificate names."""

import asyncio
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from actors.config.schema import Security
from actors.errors import PeerRefused, SetupMissing
from actors.security.authority import Identity, create_authority, issue
from actors.security.tls import Peer, client_context, peer_node, server_context


def _security(made: Identity) -> Security:
    return Security(ca=made.ca, certificate=made.certificate, key=made.key)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("ca")
    create_authority(made)
    return made


@pytest.fixture(scope="module")
def london(folder: Path) -> Security:
    return _security(issue(folder, "london-1", "london"))


@pytest.fixture(scope="module")
def paris(folder: Path) -> Security:
    return _security(issue(folder, "paris-1", "paris"))


async def _meet(server: ssl.SSLContext, client: ssl.SSLContext) -> tuple[Peer, Peer]:
    """Connect over a real socket; what each side says of the other. Raises what the client meets."""
    seen: asyncio.Future[Peer] = asyncio.get_running_loop().create_future()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            seen.set_result(peer_node(writer.get_extra_info("ssl_object")))
            writer.write(b"in")
        except PeerRefused as error:
            seen.set_exception(error)
        finally:
            writer.close()

    listening = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=server)
    async with listening, asyncio.timeout(10):
        port = listening.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client)
        try:
            there = peer_node(writer.get_extra_info("ssl_object"))
            assert writer.get_extra_info("ssl_object").version() == "TLSv1.3"
            if await reader.read(2) != b"in":
                raise seen.exception() if seen.done() else ConnectionResetError("closed by the server")
            return await seen, there
        finally:
            writer.close()


async def test_nodes_of_one_authority_meet_and_know_each_other(london: Security, paris: Security) -> None:
    at_server, at_client = await _meet(server_context(london), client_context(paris))
    assert at_server == Peer(node="paris-1", site="paris")
    assert at_client == Peer(node="london-1", site="london")


async def test_a_client_of_another_authority_is_refused(tmp_path: Path, london: Security) -> None:
    create_authority(tmp_path)
    stranger = issue(tmp_path, "paris-1", "paris")
    client = client_context(Security(ca=london.ca, certificate=stranger.certificate, key=stranger.key))
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await _meet(server_context(london), client)


async def test_a_server_of_another_authority_is_refused(tmp_path: Path, london: Security, paris: Security) -> None:
    create_authority(tmp_path)
    stranger = issue(tmp_path, "london-1", "london")
    server = server_context(Security(ca=paris.ca, certificate=stranger.certificate, key=stranger.key))
    with pytest.raises(ssl.SSLCertVerificationError):
        await _meet(server, client_context(paris))


async def test_a_client_without_certificate_is_refused(london: Security) -> None:
    client = ssl.create_default_context(cafile=london.ca)
    client.check_hostname = False
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await _meet(server_context(london), client)


async def test_older_tls_is_refused(london: Security, paris: Security) -> None:
    client = client_context(paris)
    client.minimum_version = ssl.TLSVersion.TLSv1_2
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await _meet(server_context(london), client)


async def test_plain_text_is_refused(london: Security) -> None:
    served: list[object] = []

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.append(reader)

    listening = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=server_context(london))
    async with listening, asyncio.timeout(10):
        reader, writer = await asyncio.open_connection(*listening.sockets[0].getsockname())
        writer.write(b"GET / HTTP/1.1\r\n\r\n" * 10)
        try:
            while await reader.read(4096):
                pass
        except ConnectionError:
            pass  # a reset is as good a refusal as an end
        writer.close()
    assert served == []


def _signed_with_names(folder: Path, names: list[str], into: Path) -> Security:
    """A certificate that our authority really signed, with subject alternative names of any kind."""
    ca = x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes())
    ca_key = serialization.load_pem_private_key((folder / "ca.key").read_bytes(), password=None)
    key = ec.generate_private_key(ec.SECP256R1())
    san = [x509.UniformResourceIdentifier(name) if ":" in name else x509.DNSName(name) for name in names]
    builder = x509.CertificateBuilder(
        issuer_name=ca.subject,
        subject_name=x509.Name([]),
        public_key=key.public_key(),
        serial_number=x509.random_serial_number(),
        not_valid_before=ca.not_valid_before_utc,
        not_valid_after=ca.not_valid_after_utc,
    ).add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
    if san:
        builder = builder.add_extension(x509.SubjectAlternativeName(san), critical=True)
    made = Security(ca=folder / "ca.pem", certificate=into / "odd.pem", key=into / "odd.key")
    made.certificate.write_bytes(builder.sign(ca_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    made.key.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return made


@pytest.mark.parametrize(
    "names",
    [
        ["paris-1"],
        ["novacron://paris/paris-1"],
        ["paris-1", "novacron://paris/paris-1", "novacron://rome/rome-1"],
        ["rome-1", "novacron://paris/paris-1"],
        ["paris-1", "novacron://paris/paris-1/more"],
        ["paris-1", "novacron://paris/paris-1\n"],
        ["paris-1", "novacron://paris/../paris-1"],
        ["paris-1", "novacron://PARIS/paris-1"],
        ["paris-1", "https://paris/paris-1"],
        ["paris-1", "novacron://paris:1/paris-1"],
        ["paris-1", "novacron://paris/paris-1\0.evil"],
    ],
)
async def test_a_certificate_that_does_not_name_one_node_is_refused(
    names: list[str], folder: Path, london: Security, tmp_path: Path
) -> None:
    odd = _signed_with_names(folder, names, tmp_path)
    with pytest.raises(PeerRefused):
        await _meet(server_context(london), client_context(odd))


async def test_the_refusing_certificates_above_would_be_fine_with_the_right_names(
    folder: Path, london: Security, tmp_path: Path
) -> None:
    right = _signed_with_names(folder, ["paris-1", "novacron://paris/paris-1"], tmp_path)
    at_server, _ = await _meet(server_context(london), client_context(right))
    assert at_server == Peer(node="paris-1", site="paris")


async def test_a_peer_that_showed_no_certificate_has_no_name(london: Security, paris: Security) -> None:
    lax = server_context(london)
    lax.verify_mode = ssl.CERT_NONE
    with pytest.raises(PeerRefused, match="showed no certificate"):
        await _meet(lax, client_context(paris))


@pytest.mark.parametrize("absent", ["ca", "certificate", "key"])
def test_an_absent_file_is_named(london: Security, tmp_path: Path, absent: str) -> None:
    missing = tmp_path / "nowhere.pem"
    with pytest.raises(SetupMissing, match=r"nowhere\.pem"):
        server_context(london.model_copy(update={absent: missing}))


def test_files_that_do_not_fit_are_named(london: Security, paris: Security, tmp_path: Path) -> None:
    with pytest.raises(SetupMissing, match="to be for the key"):
        client_context(london.model_copy(update={"key": paris.key}))
    junk = tmp_path / "junk.pem"
    junk.write_text("junk")
    with pytest.raises(SetupMissing, match=r"authority in .*junk\.pem"):
        client_context(london.model_copy(update={"ca": junk}))


def test_an_encrypted_key_is_refused_without_asking_anyone(london: Security, tmp_path: Path) -> None:
    key = serialization.load_pem_private_key(london.key.read_bytes(), password=None)
    locked = tmp_path / "locked.key"
    secret = serialization.BestAvailableEncryption(b"secret")
    locked.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, secret))
    with pytest.raises(SetupMissing, match=r"locked\.key"):
        server_context(london.model_copy(update={"key": locked}))
