"""Notices that the site's Ray cluster is gone for good."""

import asyncio

_EVERY_S = 2.0
_CONNECT_S = 2.0
_REFUSALS = 3


async def until_gone(address: str) -> None:
    """Return when the cluster's head at `address` (HOST:PORT) has refused three connections in a row.

    A head that is only silent is not gone: the network may come back, and Ray itself gives it 60 s. One that refuses
    has ended, and a new one knows nothing of the old one's actors.
    """
    refusals = 0
    while refusals < _REFUSALS:
        await asyncio.sleep(_EVERY_S)
        refusals = refusals + 1 if await _refuses(address) else 0


async def _refuses(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        async with asyncio.timeout(_CONNECT_S):
            _, writer = await asyncio.open_connection(host, int(port))
    except ConnectionRefusedError:
        return True
    except (OSError, TimeoutError):
        return False
    writer.close()
    return False
