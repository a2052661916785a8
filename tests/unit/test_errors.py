"""The error tree: drawn as it is, each code once, each message complete."""

import pickle
import re
import string

import pytest

from actors import errors
from actors.errors import BY_CODE, NovaCronError, error_from

_DRAWN = re.compile(r"^(?P<lead>[ │├└─]*)(?P<name>[A-Z]\w+) \[(?P<code>[a-z-]+)\]$")


def _classes(root: type[NovaCronError]) -> list[type[NovaCronError]]:
    return [root, *(found for child in root.__subclasses__() for found in _classes(child))]


ALL = [kind for kind in _classes(NovaCronError) if kind.__module__ == errors.__name__]


def _fields(kind: type[NovaCronError]) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(kind.__doc__ or "") if name}


def _drawn_tree() -> dict[str, tuple[str, str]]:
    """Parent and code by class name, as the module's docstring draws them."""
    path: list[str] = []
    tree: dict[str, tuple[str, str]] = {}
    for line in (errors.__doc__ or "").splitlines():
        if found := _DRAWN.match(line):
            depth = len(found["lead"]) // 4 - 1
            path[depth:] = [found["name"]]
            tree[found["name"]] = (path[depth - 1] if depth else "Exception", found["code"])
    return tree


def test_the_tree_is_drawn_as_it_is() -> None:
    assert _drawn_tree() == {kind.__name__: (kind.__bases__[0].__name__, kind.code) for kind in ALL}


def test_every_code_is_unique_and_found() -> None:
    codes = [kind.code for kind in ALL]
    assert len(codes) == len(set(codes))
    assert {kind.code: kind for kind in ALL} == BY_CODE


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_an_error_is_the_same_at_both_ends(kind: type[NovaCronError]) -> None:
    error = kind(**{name: f"<{name}>" for name in _fields(kind)})
    assert "{" not in str(error)
    assert all(f"<{name}>" in str(error) for name in _fields(kind))
    for arrived in (error_from(error.code, error.fields), pickle.loads(pickle.dumps(error))):
        assert type(arrived) is kind
        assert (str(arrived), arrived.fields) == (str(error), error.fields)


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_an_error_says_what_to_do_and_how_it_ends(kind: type[NovaCronError]) -> None:
    assert kind.next_step.endswith(".")
    assert 400 <= kind.status <= 599
    assert 1 <= kind.exit_code <= 7
    assert "next_step" in vars(kind), "it would tell its parent's next step"


def test_an_error_of_another_version_is_still_an_error() -> None:
    assert "unknown error new-thing" in str(error_from("new-thing", {"x": 1}))
    assert "came without its field" in str(error_from("guest-unknown", {}))
