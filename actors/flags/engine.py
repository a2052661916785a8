"""Is a component on, at this node, for this subject? A pure answer from the flags of the control state.

In this order: a killed component is off everywhere; a node that is named has its way; else the subject's bucket
decides. A subject (a guest, a link: whatever the component decides about) keeps its bucket for ever, another one for
each component, so raising the percentage only ever adds subjects. A component without a flag is on.
"""

from collections.abc import Mapping
from hashlib import blake2b

from actors.control.model import Component, Flag

BUCKETS = 10_000


def bucket(component: Component, subject: str) -> int:
    """The subject's place for this component, 0 to `BUCKETS` - 1, spread evenly."""
    digest = blake2b(subject.encode("utf-8", "surrogatepass"), digest_size=8, person=component.encode()).digest()
    return int.from_bytes(digest, "big") % BUCKETS


def enabled(flags: Mapping[str, Flag], component: Component, node: str, subject: str) -> bool:
    """True when `node` uses `component` for `subject`."""
    flag = flags.get(component)
    if flag is None:
        return True
    if flag.killed or node in flag.nodes_off:
        return False
    return node in flag.nodes_on or bucket(component, subject) * 100 < flag.percent * BUCKETS
