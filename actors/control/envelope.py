"""What stands around a command in the log."""

from typing import Annotated

import msgspec
from msgspec import Meta

from actors.control.model import Count, Label

COMMAND_BYTES_MAX = 131_072


class Envelope(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A command as the log has it.

    `version`: of the rules that it needs. `session`, `number`: its place among the client's commands, which makes it
    idempotent; 0, 0 for `OpenSession` and for what members propose on their own. `by`: who asks, as the member that
    took the request knows it (`node:NAME`, `operator:NAME`, `member:NAME`). `body`: the command.
    """

    version: Count
    session: Count = 0
    number: Count = 0
    by: Label
    at_ms: Count = 0
    body: Annotated[bytes, Meta(max_length=COMMAND_BYTES_MAX)]
