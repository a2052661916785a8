"""Reads a node's configuration: one YAML file, then ``NOVACRON_<SECTION>__<KEY>`` from the environment over it.

Values from the file are not coerced (``"8080"`` is no port); values from the environment are strings and are read as
the key's kind. Every problem names file, line, field; one that an environment variable caused names the variable.
"""

import difflib
import json
import re
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from actors.config.document import Document, Value, Where
from actors.config.schema import Config
from actors.errors import ConfigInvalid

PREFIX = "NOVACRON_"
_BETWEEN = "__"


def load(path: Path, environ: Mapping[str, str]) -> Config:
    """The configuration of the YAML file at `path` under the overrides in `environ`.

    Raises:
        ConfigInvalid: the first problem of the file; `problems` gives all of them.
    """
    config, found = _read(path, environ)
    if found:
        raise found[0]
    assert config is not None, "without problems there is a configuration"
    return config


def problems(path: Path, environ: Mapping[str, str]) -> list[ConfigInvalid]:
    """Every problem of the file and its overrides, in order of lines; empty when it is valid.

    Fields of a problem: ``file``, ``line`` (from 1; 0 is the file as a whole), ``field`` (dotted path), ``problem``.
    For a value from the environment, ``file`` is ``environment`` and ``line`` the variable's name.
    """
    return _read(path, environ)[1]


def json_schema() -> dict[str, Any]:
    """JSON schema of the configuration file, for editors and other tools."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Config.model_json_schema()}


def _read(path: Path, environ: Mapping[str, str]) -> tuple[Config | None, list[ConfigInvalid]]:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        return None, [_invalid(path, 0, (), f"can't be read: {error.strerror or error}")]
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        return None, [_invalid(path, line, (), "not UTF-8 text")]
    document = Document(text)
    found = [_invalid(path, line, where, problem) for where, line, problem in document.faults]
    if not document.parsed:
        return None, found
    if not isinstance(document.value, dict):
        return None, [*found, _invalid(path, 1, (), f"must be a mapping of sections, not {_kind(document.value)}")]
    overrides = _Overrides(environ, document.value)
    config, misfits = _validate(path, document, overrides)
    found += misfits
    found += [_invalid_variable(variable, where, text) for variable, where, text in overrides.faults]
    return config, sorted(found, key=_order)


def _order(problem: ConfigInvalid) -> tuple[int, str]:
    line = problem.fields["line"]
    return (line, "") if isinstance(line, int) else (1 << 30, str(line))


class _Overrides:
    """The variables that override the file; merges them into `value` as it finds them.

    Attributes:
        variables: name of the variable by the path that it set.
        faults: ``(variable, path, problem)``; these paths are settled and need no second message.
    """

    def __init__(self, environ: Mapping[str, str], value: dict[str, Value]) -> None:
        self.variables: dict[Where, str] = {}
        self.faults: list[tuple[str, Where, str]] = []
        for variable in sorted(environ):
            # NOVACRON_TOKEN and its like belong to other readers: only names with a section are overrides.
            if variable.startswith(PREFIX) and _BETWEEN in variable:
                self._merge(variable, environ[variable], value)

    def of(self, where: Where) -> str | None:
        """The variable that set `where` or something around it."""
        return next((self.variables[where[:n]] for n in range(len(where), 0, -1) if where[:n] in self.variables), None)

    def within(self, where: Where) -> list[str]:
        """The variables that set something inside `where`."""
        return [name for path, name in self.variables.items() if path[: len(where)] == where]

    def _merge(self, variable: str, text: str, value: dict[str, Value]) -> None:
        section, key = variable.removeprefix(PREFIX).lower().split(_BETWEEN, 1)
        model = _section(section)
        if model is None:
            self.faults.append((variable, (section,), _unknown("section", section, Config)))
            return
        field = model.model_fields.get(key)
        if field is None:
            self.faults.append((variable, (section, key), _unknown("key", key, model)))
            return
        inside = value.setdefault(section, {})
        if not isinstance(inside, dict):  # the file's own fault, reported there
            return
        self.variables[section, key] = variable
        inside[key], fault = _from_text(field, text)
        if fault:
            self.faults.append((variable, (section, key), fault))


def _from_text(field: FieldInfo, text: str) -> tuple[Value, str]:
    """What `text` says as the value of `field`, or `text` itself and the problem with it."""
    if get_origin(field.annotation) is list:
        document = Document(text)
        return document.value, document.faults[0][2] if document.faults else ""
    annotation: Any = Annotated[field.annotation, field]
    adapter: TypeAdapter[Any] = TypeAdapter(annotation)
    try:
        plain: Value = adapter.dump_python(adapter.validate_strings(text), mode="json")
    except ValidationError as error:
        return text, _say(error.errors()[0])
    return plain, ""


def _validate(path: Path, document: Document, overrides: _Overrides) -> tuple[Config | None, list[ConfigInvalid]]:
    # JSON's strict mode is the wanted one: text stays text, 5 is a float, a list of pairs is no mapping.
    try:
        return Config.model_validate_json(json.dumps(document.value), strict=True), []
    except ValidationError as error:
        settled = {where for _, where, _ in overrides.faults} | {where for where, _, _ in document.faults}
        found = [_place(path, document, overrides, detail) for detail in error.errors() if detail["loc"] not in settled]
        return None, found


def _place(path: Path, document: Document, overrides: _Overrides, detail: Any) -> ConfigInvalid:
    where: Where = tuple(detail["loc"])
    problem = _say(detail)
    if detail["type"] == "extra_forbidden":
        model = _model_at(where[:-1])
        problem = _unknown("key" if len(where) > 1 else "section", str(where[-1]), model)
    blamed: Exception | None = detail.get("ctx", {}).get("error")
    at: tuple[str, ...] = getattr(blamed, "field", ())
    variable = overrides.of((*where, *at))
    if variable:
        return _invalid_variable(variable, (*where, *at), problem)
    if blamed is not None and (names := overrides.within(where)):
        problem += f" (with {', '.join(names)} from the environment)"
    return _invalid(path, document.line((*where, *at)), (*where, *at), problem)


def _say(detail: Any) -> str:
    if detail["type"] == "missing":
        return "is missing"
    if detail["type"] == "value_error":
        return str(detail["ctx"]["error"])
    said = re.sub(r"^\w+ should", "must", str(detail["msg"])).replace("an object", "a mapping of keys")
    given = detail["input"]
    return said if isinstance(given, dict | list) else f"{said}, not {given!r}"


def _unknown(what: str, name: str, model: type[BaseModel] | None) -> str:
    known = list(model.model_fields) if model else []
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(known)}"
    return f"there is no such {what}; {hint}"


def _section(name: str) -> type[BaseModel] | None:
    field = Config.model_fields.get(name)
    return next(_models(field.annotation), None) if field else None


def _model_at(where: Where) -> type[BaseModel] | None:
    model: type[BaseModel] | None = Config
    for step in where:
        if isinstance(step, str) and model is not None:
            field = model.model_fields.get(step)
            model = next(_models(field.annotation), None) if field else None
    return model


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        if issubclass(annotation, BaseModel):
            yield annotation
    elif get_origin(annotation) in (list, Union, types.UnionType):
        for inner in get_args(annotation):
            yield from _models(inner)


def _kind(value: Value) -> str:
    return "a list" if isinstance(value, list) else f"{value!r}"


def _dotted(where: Where) -> str:
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in where)
    return text.removeprefix(".") or "(file)"


def _invalid(path: Path, line: int, where: Where, problem: str) -> ConfigInvalid:
    return ConfigInvalid(file=str(path), line=line, field=_dotted(where), problem=problem)


def _invalid_variable(variable: str, where: Where, problem: str) -> ConfigInvalid:
    return ConfigInvalid(file="environment", line=variable, field=_dotted(where), problem=problem)
