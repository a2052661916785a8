"""A founder with an empty disk: who is believed that it was a member before."""

import pytest

from actors.control.beginning import never_was
from actors.control.members import Founder
from actors.control.messages import Enrolled
from actors.errors import Conflict, Unreachable

FOUNDERS = tuple(Founder(number=number, node=f"{site}-1", site=site) for number, site in enumerate("abcd", 1))


def others(*, knowing: set[str], silent: set[str] = frozenset()):
    async def ask(node, method, request, answer, deadline_s):
        assert (method, answer) == ("enrolled", Enrolled)
        assert node != FOUNDERS[0].node, "it asks itself"
        if node in silent:
            raise Unreachable(what=node, reason="down")
        return Enrolled(numbers=[1, 2, 3, 4] if node in knowing else [2])

    return ask


async def test_one_that_nobody_knows_begins():
    await never_was(FOUNDERS[0], FOUNDERS, 1, others(knowing=set(), silent={"d-1"}))


async def test_where_nobody_lies_one_word_keeps_it_away():
    with pytest.raises(Conflict, match="has lost its disk"):
        await never_was(FOUNDERS[0], FOUNDERS, 1, others(knowing={"c-1"}, silent={"b-1", "d-1"}))


async def test_where_one_may_lie_its_word_alone_keeps_nobody_away():
    await never_was(FOUNDERS[0], FOUNDERS, 2, others(knowing={"c-1"}))


async def test_where_one_may_lie_two_words_keep_it_away():
    with pytest.raises(Conflict, match="member remove --lost a-1"):
        await never_was(FOUNDERS[0], FOUNDERS, 2, others(knowing={"b-1", "d-1"}, silent={"c-1"}))
