"""The cluster's own certificate authority, and the certificates it issues to nodes.

A node's certificate carries who it is twice: ``DNS:<node>`` for tools, ``URI:novacron://<site>/<node>`` for NovaCron
(`actors.security.tls.peer_node`). Keys are EC P-256; TLS signs once per connection, so their speed does not matter.
"""

import datetime
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from pydantic import TypeAdapter, ValidationError

from actors.config.schema import Name
from actors.errors import BadRequest, Conflict, SetupMissing
from actors.files import write_atomically

CA_CERTIFICATE = "ca.pem"
CA_KEY = "ca.key"
_CA_VALID = datetime.timedelta(days=3650)
_NODE_VALID = datetime.timedelta(days=825)
# Certificates are valid a day before they are made: a node whose clock is behind must not refuse its peers.
_CLOCK_SKEW = datetime.timedelta(days=1)


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """Files that make a node part of the cluster: the authority's certificate, its own, and its private key."""

    ca: Path
    certificate: Path
    key: Path


def create_authority(folder: Path) -> Path:
    """Make a new authority in `folder` (made if missing, mode 0700): ``ca.key`` and the certificate, which is returned.

    Raises:
        Conflict: there is an authority already; a second one would lock out every node of the first.
        BadRequest: the folder can't be written.
    """
    certificate, key = folder / CA_CERTIFICATE, folder / CA_KEY
    if certificate.exists() or key.exists():
        raise Conflict(detail=f"{folder} holds an authority already")
    private = ec.generate_private_key(ec.SECP256R1())
    # The key first: a certificate without its key would look like an authority and could issue nothing.
    _write(folder, {key: _private_pem(private), certificate: _self_signed(private).public_bytes(Encoding.PEM)})
    return certificate


def issue(folder: Path, node: str, site: str) -> Identity:
    """Issue a new key and certificate to `node` of `site`, signed by the authority in `folder`, and store both there.

    The files are ``<node>.pem`` and ``<node>.key``, mode 0600; ones from an earlier call are replaced.

    Raises:
        SetupMissing: there is no usable authority in `folder`.
        BadRequest: `node` or `site` is not a valid name, or the folder can't be written.
    """
    _check_name("node", node)
    _check_name("site", site)
    ca_certificate, ca_key = _authority(folder)
    private = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, node)])
    names = [x509.DNSName(node), x509.UniformResourceIdentifier(f"novacron://{site}/{node}")]
    both = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())
    signed = (
        _builder(subject, ca_certificate.subject, private.public_key(), _NODE_VALID)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(both, critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(issuer, critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    made = Identity(ca=folder / CA_CERTIFICATE, certificate=folder / f"{node}.pem", key=folder / f"{node}.key")
    _write(folder, {made.key: _private_pem(private), made.certificate: signed.public_bytes(Encoding.PEM)})
    return made


def rotate(folder: Path) -> Path:
    """Replace the authority's key; its file then holds the new certificate and the one before, and is returned.

    Nodes that have the file trust certificates of both, so that they can be issued new ones one after another. A second
    call before that is done locks out the nodes that still have a certificate of the key before the last.

    Raises:
        SetupMissing: there is no usable authority in `folder`.
        BadRequest: the folder can't be written.
    """
    before, _ = _authority(folder)
    private = ec.generate_private_key(ec.SECP256R1())
    both = _self_signed(private).public_bytes(Encoding.PEM) + before.public_bytes(Encoding.PEM)
    certificate = folder / CA_CERTIFICATE
    # The certificates first: the old key still finds its own among them if the new one is never written.
    _write(folder, {certificate: both, folder / CA_KEY: _private_pem(private)})
    return certificate


def _self_signed(private: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "NovaCron cluster authority")])
    return (
        _builder(name, name, private.public_key(), _CA_VALID)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .sign(private, hashes.SHA256())
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey, valid: datetime.timedelta
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + valid)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _authority(folder: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    try:
        certificates = x509.load_pem_x509_certificates((folder / CA_CERTIFICATE).read_bytes())
        key = load_pem_private_key((folder / CA_KEY).read_bytes(), password=None)
    except OSError as error:
        raise SetupMissing(what=f"the cluster's authority: {error.filename}: {error.strerror}") from error
    except (ValueError, TypeError) as error:
        raise SetupMissing(what=f"a readable authority in {folder}: {error}") from error
    if isinstance(key, ec.EllipticCurvePrivateKey):
        for certificate in certificates:
            if key.public_key() == certificate.public_key():
                return certificate, key
    raise SetupMissing(what=f"an authority whose key and certificate belong together in {folder}")


def _check_name(what: str, name: str) -> None:
    # A node's name becomes a file name and part of a URI: only what the topology may hold.
    try:
        TypeAdapter(Name).validate_python(name, strict=True)
    except ValidationError as error:
        raise BadRequest(detail=f"{name!r} is no name for a {what}: lower case, digits, hyphens") from error


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _write(folder: Path, files: dict[Path, bytes]) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path, content in files.items():
            write_atomically(path, content)
    except OSError as error:
        raise BadRequest(detail=f"can't write {error.filename or folder}: {error.strerror}") from error
