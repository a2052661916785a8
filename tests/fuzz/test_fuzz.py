"""Each target on all that is kept for it, and on inputs made of that. For long: ``python -m tests.fuzz``."""

import itertools

import pytest

from tests.fuzz.mutate import mutations
from tests.fuzz.target import Target
from tests.fuzz.targets import TARGETS, corpus

_INPUTS = {"parser": 150, "roundtrip": 60, "decoder": 400, "damage": 400, "reverse": 400, "disk": 60, "store": 100}
_INPUTS_ELSEWHERE = 2000


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_what_is_kept(target: Target) -> None:
    for data in (b"", *corpus(target)):
        target.run(data)


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_mutations(target: Target) -> None:
    count = _INPUTS.get(target.name, _INPUTS_ELSEWHERE)
    for number, data in enumerate(itertools.islice(mutations(corpus(target), seed=1), count)):
        try:
            target.run(data)
        except BaseException as error:
            error.add_note(f"input {number} of seed 1: {data.hex()}")
            raise


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_seeds_are_taken_whole(target: Target) -> None:
    """A seed that is refused early on would leave most of its target untried."""
    for data in target.seeds():
        target.run(data)
