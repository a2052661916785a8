"""TLS between nodes: version 1.3, both sides show a certificate of the cluster's own authority.

Names are not checked against addresses (nodes move, NAT rewrites): who the peer is stands in its certificate and is
read with `peer_node` after the handshake. The caller decides whether it is the node that it expects.
"""

import re
import ssl
import time
from typing import NamedTuple, cast

from actors.config.schema import Security
from actors.errors import PeerRefused, SetupMissing

_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_URI = re.compile(rf"novacron://(?P<site>{_LABEL})/(?P<node>{_LABEL})")


class Peer(NamedTuple):
    """Who a certificate belongs to."""

    node: str
    site: str


def server_context(security: Security) -> ssl.SSLContext:
    """Context of the side that accepts.

    Raises:
        SetupMissing: a file of `security` is absent or not what it should be.
    """
    context = _context(ssl.PROTOCOL_TLS_SERVER, security)
    # A ticket holds the certificate that the peer showed, sealed with a key of this very context: whoever redials with
    # it proves that it is that peer, and a context of other files does not take it. One connection, one ticket.
    context.num_tickets = 1
    return context


def client_context(security: Security) -> ssl.SSLContext:
    """Context of the side that connects. With TLS 1.3 its handshake ends before the server has checked its certificate:
    a refusal shows at the first read.

    Raises:
        SetupMissing: a file of `security` is absent or not what it should be.
    """
    return _context(ssl.PROTOCOL_TLS_CLIENT, security)


def peer_node(connection: ssl.SSLObject | ssl.SSLSocket) -> Peer:
    """The node and site that the certificate of the other side names.

    Raises:
        PeerRefused: no certificate, one that does not name exactly one node of NovaCron, or one that has expired since
            the peer showed it (a resumed connection shows it no more, so TLS does not look).
    """
    certificate = connection.getpeercert()
    if not certificate:
        raise PeerRefused(peer="without a name", reason="it showed no certificate")
    expires = str(certificate["notAfter"])
    if ssl.cert_time_to_seconds(expires) < time.time():
        raise PeerRefused(peer="expired", reason=f"its certificate was valid until {expires}")
    names = cast("tuple[tuple[str, str], ...]", certificate.get("subjectAltName", ()))
    uris = [value for kind, value in names if kind == "URI"]
    found = _URI.fullmatch(uris[0]) if len(uris) == 1 else None
    if found is None:
        raise PeerRefused(peer=f"{uris!r:.200}", reason="its certificate must hold one URI novacron://SITE/NODE")
    peer = Peer(node=found["node"], site=found["site"])
    if ("DNS", peer.node) not in names:
        raise PeerRefused(peer=peer.node, reason="its certificate's DNS name and its URI are not the same node")
    return peer


def _context(protocol: int, security: Security) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    for path in (security.ca, security.certificate, security.key):
        if not path.is_file():
            raise SetupMissing(what=f"the TLS file {path}, which is not there")
    try:
        context.load_verify_locations(cafile=security.ca)
    except (ssl.SSLError, OSError) as error:
        raise SetupMissing(what=f"a certificate of the cluster's authority in {security.ca}: {error}") from error
    try:
        context.load_cert_chain(security.certificate, security.key, password=_no_password)
    except (ssl.SSLError, OSError) as error:
        raise SetupMissing(what=f"{security.certificate} to be for the key {security.key}: {error}") from error
    return context


def _no_password() -> str:
    # Without this OpenSSL asks at the terminal for an encrypted key's password, and a service would hang there.
    return ""
