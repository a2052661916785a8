"""Our style as a test. Each rule goes from one parsed file to its faults, and is itself tried on a bad sample."""

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("actors", "models", "api", "benchmarks")
FUNCTION_LINES_MAX = 70
FILE_LINES_MAX = 400
IMPURE = {"ray", "socket", "time", "random", "asyncio", "threading", "subprocess", "libvirt"}
# In two pieces, so that this file keeps its own rule.
UNFINISHED = re.compile(r"\b(" + "TO" + r"DO|FIX" + r"ME|X" + r"XX)\b")


class Source(NamedTuple):
    """One Python file: its path from the repository's root, its text, its syntax tree."""

    path: Path
    text: str
    tree: ast.Module


Fault = tuple[int, str]
Rule = Callable[[Source], Iterator[Fault]]


def no_sleep_in_tests(source: Source) -> Iterator[Fault]:
    """Tests wait for conditions with a deadline, never for time to pass."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Attribute) and node.attr == "sleep" and _is_name(node.value, "time"):
            yield node.lineno, "time.sleep in a test: wait for the condition, with a deadline"
        if isinstance(node, ast.ImportFrom) and node.module == "time" and any(a.name == "sleep" for a in node.names):
            yield node.lineno, "sleep imported in a test: wait for the condition, with a deadline"


def engines_are_pure(source: Source) -> Iterator[Fault]:
    """Engines get time, chance and messages as arguments, so that a test needs a millisecond."""
    for node in ast.walk(source.tree):
        modules: list[str] = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [node.module or ""]
        for module in modules:
            if module.partition(".")[0] in IMPURE:
                yield node.lineno, f"an engine imports {module}"


def functions_are_short(source: Source) -> Iterator[Fault]:
    """A function fits on a screen."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > FUNCTION_LINES_MAX:
                yield node.lineno, f"{node.name} has {lines} lines, at most {FUNCTION_LINES_MAX} are readable"


def files_are_short(source: Source) -> Iterator[Fault]:
    """A file has one purpose."""
    lines = len(source.text.splitlines())
    if lines > FILE_LINES_MAX:
        yield 1, f"{lines} lines, at most {FILE_LINES_MAX}: split it by purpose"


def nothing_is_left_for_later(source: Source) -> Iterator[Fault]:
    """What is not finished is an issue, not a comment."""
    for number, line in enumerate(source.text.splitlines(), 1):
        if UNFINISHED.search(line):
            yield number, "unfinished work belongs into an issue"


def no_bare_except(source: Source) -> Iterator[Fault]:
    """A bare except also swallows cancellation and Ctrl-C."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ExceptHandler) and node.type is None:
            yield node.lineno, "bare except"


def public_things_are_described(source: Source) -> Iterator[Fault]:
    """Modules, public classes and public functions say what they are for."""
    if source.tree.body and ast.get_docstring(source.tree) is None:
        yield 1, "the module has no docstring"
    for node in source.tree.body:
        if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) or node.name.startswith("_"):
            continue
        if ast.get_docstring(node) is None:
            yield node.lineno, f"{node.name} has no docstring"


def _is_name(node: ast.expr, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


PRODUCT_RULES: tuple[Rule, ...] = (
    functions_are_short,
    files_are_short,
    nothing_is_left_for_later,
    no_bare_except,
    public_things_are_described,
)
TEST_RULES: tuple[Rule, ...] = (no_sleep_in_tests, nothing_is_left_for_later, no_bare_except)


def _source(path: Path, text: str) -> Source:
    return Source(path, text, ast.parse(text))


def _files(*folders: str) -> Iterator[Source]:
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield _source(path.relative_to(ROOT), path.read_text(encoding="utf-8"))


def _faults(rule: Rule, sources: Iterator[Source]) -> list[str]:
    return [f"{source.path}:{line}: {fault}" for source in sources for line, fault in rule(source)]


@pytest.mark.parametrize("rule", PRODUCT_RULES, ids=lambda rule: rule.__name__)
def test_the_product(rule: Rule) -> None:
    faults = _faults(rule, _files(*PACKAGES))
    assert not faults, "\n" + "\n".join(faults)


@pytest.mark.parametrize("rule", TEST_RULES, ids=lambda rule: rule.__name__)
def test_the_tests(rule: Rule) -> None:
    faults = _faults(rule, _files("tests"))
    assert not faults, "\n" + "\n".join(faults)


def test_the_engines() -> None:
    engines = [source for source in _files("actors") if source.path.name == "engine.py"]
    assert engines, "this test looks at nothing"
    faults = _faults(engines_are_pure, iter(engines))
    assert not faults, "\n" + "\n".join(faults)


@pytest.mark.parametrize(
    ("rule", "bad", "line"),
    [
        (no_sleep_in_tests, "import time\ntime.sleep(1)\n", 2),
        (no_sleep_in_tests, "from time import monotonic, sleep\n", 1),
        (engines_are_pure, "def f():\n    import ray.util\n", 2),
        (engines_are_pure, "from socket import AF_UNIX\n", 1),
        (functions_are_short, "def f():\n" + "    pass\n" * FUNCTION_LINES_MAX, 1),
        (functions_are_short, "class C:\n    async def f(self):\n" + "        pass\n" * FUNCTION_LINES_MAX, 2),
        (files_are_short, "x = 1\n" * (FILE_LINES_MAX + 1), 1),
        (nothing_is_left_for_later, "x = 1\n# TO" + "DO: more\n", 2),
        (no_bare_except, "try:\n    pass\nexcept:\n    pass\n", 3),
        (public_things_are_described, "x = 1\n", 1),
        (public_things_are_described, '"""Doc."""\n\nclass C:\n    x = 1\n', 3),
        (public_things_are_described, '"""Doc."""\nasync def f():\n    pass\n', 2),
    ],
)
def test_each_rule_finds_its_fault(rule: Rule, bad: str, line: int) -> None:
    assert [at for at, _ in rule(_source(Path("bad.py"), bad))] == [line]


@pytest.mark.parametrize(
    ("rule", "good"),
    [
        (no_sleep_in_tests, "import asyncio\nasyncio.sleep(0)\n"),
        (engines_are_pure, "import timeit_like\nfrom actors.errors import StreamCorrupt\n"),
        (functions_are_short, "def f():\n" + "    pass\n" * (FUNCTION_LINES_MAX - 1)),
        (files_are_short, "x = 1\n" * FILE_LINES_MAX),
        (public_things_are_described, ""),
        (public_things_are_described, '"""Doc."""\ndef _f():\n    def g():\n        pass\n'),
    ],
)
def test_no_rule_finds_fault_with_what_is_right(rule: Rule, good: str) -> None:
    assert list(rule(_source(Path("good.py"), good))) == []
