"""YAML text as plain values, with the line of every key: what error messages need and plain loaders throw away."""

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

Value = dict[str, "Value"] | list["Value"] | str | int | float | bool | None
Where = tuple[str | int, ...]

_DEPTH_MAX = 16
_PLAIN = {f"tag:yaml.org,2002:{kind}" for kind in ("null", "bool", "int", "float")}
# A date is no kind of ours: it stays the text that was written, as YAML's JSON subset would have it.
_TEXT = {f"tag:yaml.org,2002:{kind}" for kind in ("str", "timestamp")}
_CONTAINER = {f"tag:yaml.org,2002:{kind}" for kind in ("map", "seq")}


class Document:
    """One YAML document.

    Attributes:
        value: its content as dicts, lists and scalars; an empty text is an empty dict.
        lines: line (from 1) of every key and list item by its path, ``()`` being the document itself.
        faults: ``(path, line, problem)`` of everything that is not valid YAML or is written twice.
        parsed: False if the text is not YAML at all, so that `value` says nothing about it.
    """

    def __init__(self, text: str) -> None:
        self.value: Value = {}
        self.lines: dict[Where, int] = {(): 1}
        self.faults: list[tuple[Where, int, str]] = []
        self.parsed = False
        self._yaml = YAML(typ="safe", pure=True)
        try:
            root = self._yaml.compose(text)
            if root is not None:
                self.value = self._plain(root, ())
            self.parsed = True
        except MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else 1
            context = f" {error.context}" if error.context else ""
            self.faults.append(((), line, f"not valid YAML: {error.problem}{context}"))
        except YAMLError as error:
            self.faults.append(((), _line_of_bad_character(text), f"not valid YAML: {str(error).splitlines()[0]}"))

    def line(self, where: Where) -> int:
        """The line of `where`, or of the nearest thing around it that is written in the document."""
        while where not in self.lines:
            where = where[:-1]
        return self.lines[where]

    def _plain(self, node: Node, where: Where) -> Value:
        if len(where) > _DEPTH_MAX:
            self._fault(node, where[:2], f"nested deeper than {_DEPTH_MAX} levels")
            return None
        if node.tag not in _PLAIN | _TEXT | _CONTAINER:
            self._fault(node, where, f"the tag {node.tag} is not known here")
            return None
        if isinstance(node, MappingNode):
            return self._mapping(node, where)
        if isinstance(node, SequenceNode):
            for index, item in enumerate(node.value):
                self.lines[*where, index] = item.start_mark.line + 1
            return [self._plain(item, (*where, index)) for index, item in enumerate(node.value)]
        assert isinstance(node, ScalarNode), "YAML has three kinds of nodes"
        if node.tag in _TEXT:
            return str(node.value)
        try:
            scalar: Value = self._yaml.constructor.construct_object(node)
        except ValueError:  # looks like a number and is none: 0b_, or thousands of digits
            self._fault(node, where, f"can't be read as a number: {node.value[:40]}")
            return None
        return scalar

    def _mapping(self, node: MappingNode, where: Where) -> Value:
        found: dict[str, Value] = {}
        for key, child in node.value:
            if not isinstance(key, ScalarNode):
                self._fault(key, where, "a key must be a plain word")
                continue
            name = str(key.value)
            if name in found:
                self._fault(key, (*where, name), f"written twice; first on line {self.lines[*where, name]}")
                continue
            self.lines[*where, name] = key.start_mark.line + 1
            found[name] = self._plain(child, (*where, name))
        return found

    def _fault(self, node: Node, where: Where, problem: str) -> None:
        self.faults.append((where, node.start_mark.line + 1, problem))


def _line_of_bad_character(text: str) -> int:
    bad = next((at for at, char in enumerate(text) if not char.isprintable() and char not in "\t\r\n"), 0)
    return text.count("\n", 0, bad) + 1
