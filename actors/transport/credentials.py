"""What the transport knows itself and its peers by; read again when the files change."""

import ssl
from collections.abc import Callable
from pathlib import Path

import structlog

from actors.config.schema import Security
from actors.errors import SetupMissing
from actors.security.tls import Peer, client_context, peer_node, server_context

log = structlog.get_logger()
_Files = tuple[tuple[int, int, int], ...]


class Credentials:
    """TLS contexts of both sides, and who a finished connection's certificate names.

    Args:
        server: context of the accepting side.
        client: context of the dialling side.
        security: the files that they were made from; None if they never change.
    """

    def __init__(
        self,
        server: ssl.SSLContext,
        client: ssl.SSLContext,
        peer_of: Callable[[ssl.SSLSocket], Peer] = peer_node,
        security: Security | None = None,
    ) -> None:
        self.server = server
        self.client = client
        self.peer_of = peer_of
        self._security = security
        self._seen = _files(security)
        self._complained: _Files = ()

    @classmethod
    def load(cls, security: Security) -> "Credentials":
        """Read the files of `security`.

        Raises:
            SetupMissing: one of them is absent or unusable.
        """
        seen = _files(security)  # before they are read: a change meanwhile shows at the next look
        made = cls(server_context(security), client_context(security), security=security)
        made._seen = seen
        return made

    def refresh(self) -> bool:
        """Read the files again if they have changed; true if there are new contexts.

        Files that don't fit together (yet: certificate and key are two files) leave the old contexts in force. Tickets
        given out before are worth nothing to the new ones, so every peer shows its certificate to the new authority.
        """
        seen = _files(self._security)
        if self._security is None or seen == self._seen:
            return False
        try:
            server, client = server_context(self._security), client_context(self._security)
        except SetupMissing as error:
            if seen != self._complained:
                log.warning("credentials unusable, the old ones stay", reason=str(error))
            self._complained = seen
            return False
        self.server, self.client = server, client
        self._seen = seen
        log.info("credentials renewed")
        return True


def _files(security: Security | None) -> _Files:
    """What tells that a file was replaced or rewritten; zeros for one that is absent."""
    paths: tuple[Path, ...] = () if security is None else (security.ca, security.certificate, security.key)
    return tuple(_stamp(path) for path in paths)


def _stamp(path: Path) -> tuple[int, int, int]:
    try:
        found = path.stat()
    except OSError:
        return (0, 0, 0)
    return (found.st_ino, found.st_mtime_ns, found.st_size)
