"""What the transport needs to know itself and its peers by."""

import ssl
from collections.abc import Callable

import msgspec

from actors.config.schema import Security
from actors.security.tls import Peer, client_context, peer_node, server_context


class Credentials(msgspec.Struct, frozen=True):
    """TLS contexts of both sides, and who a finished connection's certificate names."""

    server: ssl.SSLContext
    client: ssl.SSLContext
    peer_of: Callable[[ssl.SSLSocket], Peer] = peer_node

    @classmethod
    def load(cls, security: Security) -> "Credentials":
        """Read the files of `security`.

        Raises:
            SetupMissing: one of them is absent or unusable.
        """
        return cls(server_context(security), client_context(security))
