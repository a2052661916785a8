"""Which guests are placed in a lab of three sites, and how each is asked for. Pure."""

import msgspec

from actors.hypervisor.messages import Attributes

SITES = 3
DRAINED = "london-1"
MOST = 3
"""Moves of the rebalancing at most: more than the pairs that are apart."""


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A guest that the API of `site` is asked for; `node` is named by hand, '' where placement chooses."""

    name: str
    site: str
    node: str = ""
    attributes: Attributes = Attributes()


def twelve() -> list[Asked]:
    """Pairs that talk, put in two sites by hand, one of a tenant; affinity, anti-affinity and sovereignty."""
    everywhere, chat, db = ("london", "paris", "rome"), ("chat",), ("db",)
    lone, talk = ("quorum",), ("till-shop",)
    return [
        Asked(name="left", site="london", node=DRAINED, attributes=Attributes(near=chat)),
        Asked(name="right", site="rome", node="rome-1", attributes=Attributes(near=chat)),
        Asked(name="db", site="london", node=DRAINED, attributes=Attributes(together=db)),
        Asked(name="db-cache", site="paris", attributes=Attributes(together=db, sites=everywhere)),
        Asked(name="mirror", site="london", attributes=Attributes(sites=("paris", "rome"))),
        Asked(name="till", site="rome", node="rome-1", attributes=Attributes(near=talk, tenant="shop")),
        Asked(name="shop", site="paris", attributes=Attributes(near=talk, tenant="shop")),
        Asked(name="ledger", site="london", node=DRAINED, attributes=Attributes(sites=("london", "rome"))),
        Asked(name="audit", site="paris", attributes=Attributes(sites=("london", "rome"))),
        Asked(name="quorum-1", site="london", attributes=Attributes(apart=lone)),
        Asked(name="quorum-2", site="rome", attributes=Attributes(apart=lone, sites=everywhere)),
        Asked(name="free", site="london"),
    ]
