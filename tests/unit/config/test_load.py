"""The loader: what is accepted, and that each mistake is told with its file, line and field."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.config.load import json_schema, load, problems
from actors.config.reference import reference
from actors.config.schema import Config
from actors.errors import ConfigInvalid

GOOD = """\
node: {name: london-1}
topology:
  sites:
    - name: london
      nodes:
        - {name: london-1, address: 10.1.0.1}
    - name: paris
      nodes:
        - name: paris-1
          address: 10.2.0.1
"""


def _write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "node.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def _told(tmp_path: Path, text: str, **environ: str) -> list[tuple[int | str, str, str]]:
    found = problems(_write(tmp_path, text), environ)
    return [(p.fields["line"], str(p.fields["field"]), str(p.fields["problem"])) for p in found]  # type: ignore[misc]


def test_a_small_file_gets_every_default(tmp_path: Path) -> None:
    config = load(_write(tmp_path, GOOD), {})
    assert config.node.name == "london-1"
    assert config.site.name == "london"
    assert config.leads
    assert config.topology.member("paris-1").port == 7443
    assert config.transport.streams == 4


def test_the_example_of_the_documentation_is_valid(tmp_path: Path) -> None:
    example = reference().split("```yaml\n")[1].split("```")[0]
    assert problems(_write(tmp_path, example), {}) == []


def test_whole_numbers_serve_where_fractions_may_stand(tmp_path: Path) -> None:
    assert load(_write(tmp_path, GOOD + "prediction: {half_life_s: 5}\n"), {}).prediction.half_life_s == 5.0


@pytest.mark.parametrize(
    ("extra", "line", "field", "problem"),
    [
        ("trnsport: {streams: 4}\n", 11, "trnsport", "did you mean 'transport'"),
        ("transport:\n  stream: 4\n", 12, "transport.stream", "did you mean 'streams'"),
        ("transport:\n  zzz: 4\n", 12, "transport.zzz", "known here: streams"),
        ('api:\n  host: "::"\n  port: "8443"\n', 13, "api.port", "must be a valid integer, not '8443'"),
        ("api:\n  port: 0\n", 12, "api.port", "greater than or equal to 1"),
        ("encoding: {zero: 1}\n", 11, "encoding.zero", "valid boolean"),
        ("encoding: {zero: yes}\n", 11, "encoding.zero", "valid boolean"),
        ("transport: {streams: true}\n", 11, "transport.streams", "valid integer"),
        ("transport: {streams: 4.0}\n", 11, "transport.streams", "valid integer"),
        ("transport: {heartbeat_s: .nan}\n", 11, "transport.heartbeat_s", "finite number"),
        ("log: {level: loud}\n", 11, "log.level", "'debug', 'info', 'warning' or 'error'"),
        ("log: 3\n", 11, "log", "must be a mapping of keys"),
        ("log: [level]\n", 11, "log", "must be a mapping of keys"),
        ("log:\n", 11, "log", "must be a mapping of keys"),
        ("security: {ca: ca.pem}\n", 11, "security.ca", "absolute path"),
        ("transport:\n  heartbeat_s: 3\n", 11, "transport.dead_after_s", "at least 3 × heartbeat_s"),
        ("transport:\n  dead_after_s: 200\n", 11, "transport.resume_s", "greater than dead_after_s"),
        ("consensus:\n  mode: raft\n  election_ms: 900\n", 13, "consensus.election_ms", "10 × heartbeat_ms"),
        ("consensus:\n  lease_s: 11\n", 12, "consensus.lease_s", "must be at least 11.5"),
        ("log: {level: info}\nlog: {level: debug}\n", 12, "log", "written twice; first on line 11"),
        ("log:\n  level: info\n  level: debug\n", 13, "log.level", "written twice; first on line 12"),
        ("? [a, b]\n: 1\n", 11, "(file)", "a key must be a plain word"),
        ("log: {level: !secret x}\n", 11, "log.level", "the tag !secret is not known"),
        ("log: &l [*l]\n", 11, "log[0]", "nested deeper than"),
        ("api: {port: 0b_}\n", 11, "api.port", "can't be read as a number: 0b_"),
        (f"api: {{port: {'9' * 5000}}}\n", 11, "api.port", "can't be read as a number"),
        ("2024-01-01: 1\n", 11, "2024-01-01", "there is no such section"),
    ],
)
def test_a_mistake_is_named_with_line_and_field(
    tmp_path: Path, extra: str, line: int, field: str, problem: str
) -> None:
    told = _told(tmp_path, GOOD + extra)
    assert any(t[:2] == (line, field) and problem in t[2] for t in told), told


def test_all_problems_are_told_in_order_of_lines(tmp_path: Path) -> None:
    told = _told(
        tmp_path, GOOD + "api: {port: x}\nlog:\n  level: info\n  level: info\n  foo: 1\nplacement: {headroom_mib: -1}\n"
    )
    assert [(line, field) for line, field, _ in told] == [
        (11, "api.port"),
        (14, "log.level"),
        (15, "log.foo"),
        (16, "placement.headroom_mib"),
    ]


def test_what_is_missing_is_told_at_the_thing_that_lacks_it(tmp_path: Path) -> None:
    assert _told(tmp_path, GOOD.replace("          address: 10.2.0.1\n", "")) == [
        (9, "topology.sites[1].nodes[0].address", "is missing")
    ]
    assert [field for _, field, _ in _told(tmp_path, "")] == ["node", "topology"]


@pytest.mark.parametrize(
    ("old", "new", "line", "field"),
    [
        ("{name: london-1}", "{name: rome-1}", 1, "node.name"),
        ("name: paris-1", "name: london-1", 3, "topology.sites"),
        ("name: paris\n", "name: london\n", 3, "topology.sites"),
        ("10.2.0.1", "10.1.0.1", 3, "topology.sites"),
        ("{name: london-1}", "{name: London_1}", 1, "node.name"),
    ],
)
def test_names_must_fit_the_topology(tmp_path: Path, old: str, new: str, line: int, field: str) -> None:
    assert [t[:2] for t in _told(tmp_path, GOOD.replace(old, new, 1))] == [(line, field)]


@pytest.mark.parametrize(
    ("sites", "problem"),
    [
        (
            "{name: a, witness: true, nodes: [{name: a1, address: a}, {name: a2, address: b}]}",
            "a: a witness stands alone",
        ),
        ("{name: a, witness: true, nodes: [{name: a1, address: a}]}", "one at least must have nodes for guests"),
    ],
)
def test_witnesses_stand_alone_beside_sites_with_guests(tmp_path: Path, sites: str, problem: str) -> None:
    ((line, field, told),) = _told(tmp_path, f"node: {{name: a1}}\ntopology:\n  sites: [{sites}]\n")
    assert (line, field) == (3, "topology.sites")
    assert problem in told


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: [1\nb: 2", 2),
        ("a: 1\n---\nb: 2", 2),
        ("a: 1\n\tb: 2", 2),
        ("a:\n  - x: :: y", 2),
        ("ok: 1\na: \x00", 2),
        ("a: *nowhere", 1),
        ("a: '", 1),
    ],
)
def test_malformed_yaml_is_told_once_with_its_line(tmp_path: Path, text: str, line: int) -> None:
    [(at, field, problem)] = _told(tmp_path, text)
    assert (at, field) == (line, "(file)")
    assert problem.startswith("not valid YAML")


def test_a_list_at_the_top_is_refused(tmp_path: Path) -> None:
    assert _told(tmp_path, "- a\n") == [(1, "(file)", "must be a mapping of sections, not a list")]


def test_files_that_can_not_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match=r"nowhere\.yaml:0: \(file\): can't be read: No such file or directory"):
        load(tmp_path / "nowhere.yaml", {})
    with pytest.raises(ConfigInvalid, match="Is a directory"):
        load(tmp_path, {})
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"a: 1\nb: \xff\xfe\n")
    with pytest.raises(ConfigInvalid, match=r":2: .*not UTF-8"):
        load(binary, {})


def test_the_environment_overrides_the_file(tmp_path: Path) -> None:
    path = _write(tmp_path, GOOD + "transport: {streams: 2}\n")
    environ = {
        "NOVACRON_TRANSPORT__STREAMS": "8",
        "NOVACRON_ENCODING__ZERO": "false",
        "NOVACRON_API__TOKEN_FILE": "/run/token",
        "NOVACRON_LOG__LEVEL": "debug",
        "NOVACRON_CONSENSUS__ELECTION_MS": "4000",
        "NOVACRON_PREDICTION__HALF_LIFE_S": "2.5",
        "NOVACRON_TOKEN": "not ours",
        "PATH": "/bin",
    }
    config = load(path, environ)
    assert config.transport.streams == 8
    assert config.encoding.zero is False
    assert config.api.token_file == Path("/run/token")
    assert config.log.level == "debug"
    assert config.consensus.election_ms == 4000
    assert config.prediction.half_life_s == 2.5


def test_the_environment_alone_can_be_enough(tmp_path: Path) -> None:
    sites = '[{"name": "here", "nodes": [{"name": "one", "address": "10.0.0.1"}]}]'
    config = load(_write(tmp_path, ""), {"NOVACRON_NODE__NAME": "one", "NOVACRON_TOPOLOGY__SITES": sites})
    assert config.site.name == "here"


@pytest.mark.parametrize(
    ("variable", "value", "field", "problem"),
    [
        ("NOVACRON_TRANSPORT__STREAMS", "many", "transport.streams", "valid integer"),
        ("NOVACRON_TRANSPORT__STREAMS", "", "transport.streams", "valid integer"),
        ("NOVACRON_TRANSPORT__STREAMS", "9999", "transport.streams", "less than or equal to 256"),
        ("NOVACRON_TRANSPORT__STREAM", "1", "transport.stream", "did you mean 'streams'"),
        ("NOVACRON_TRANSPRT__STREAMS", "1", "transprt", "did you mean 'transport'"),
        ("NOVACRON_TRANSPORT__STREAMS__X", "1", "transport.streams__x", "no such key"),
        ("NOVACRON_SECURITY__CA", "ca.pem", "security.ca", "absolute path"),
        ("NOVACRON_NODE__NAME", "rome-1", "node.name", "does not stand in topology.sites"),
        ("NOVACRON_TRANSPORT__DEAD_AFTER_S", "1", "transport.dead_after_s", "at least 3 ×"),
        ("NOVACRON_TOPOLOGY__SITES", "[{", "topology.sites", "not valid YAML"),
        ("NOVACRON_TOPOLOGY__SITES", "[{name: a}]", "topology.sites[0].nodes", "is missing"),
    ],
)
def test_a_wrong_variable_is_named(tmp_path: Path, variable: str, value: str, field: str, problem: str) -> None:
    [told] = _told(tmp_path, GOOD, **{variable: value})
    assert told[:2] == (variable, field)
    assert problem in told[2]


def test_a_relation_that_a_variable_broke_names_it(tmp_path: Path) -> None:
    [(line, field, problem)] = _told(
        tmp_path, GOOD + "transport:\n  dead_after_s: 5\n", NOVACRON_TRANSPORT__HEARTBEAT_S="4"
    )
    assert (line, field) == (12, "transport.dead_after_s")
    assert "NOVACRON_TRANSPORT__HEARTBEAT_S" in problem


@given(st.text(max_size=200))
def test_no_text_breaks_the_loader(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_text(text, encoding="utf-8", errors="replace")
    found = problems(path, {})
    assert found, "no random text is a configuration"
    lines = text.count("\n") + text.count("\r") + text.count("\x85") + text.count("\u2028") + text.count("\u2029") + 1
    assert all(0 <= int(p.fields["line"]) <= lines + 1 for p in found)


@given(
    st.builds(
        lambda streams, beat, level: {
            "transport": {
                "streams": streams,
                "heartbeat_s": beat,
                "dead_after_s": beat * 3,
                "resume_s": beat * 4,
                "hold_s": beat * 5,
            },
            "log": {"level": level},
        },
        st.integers(1, 256),
        st.floats(0.001, 1e6),
        st.sampled_from(["debug", "info", "warning", "error"]),
    )
)
def test_what_is_written_is_what_is_read(tmp_path_factory: pytest.TempPathFactory, sections: dict[str, object]) -> None:
    path = tmp_path_factory.getbasetemp() / "round.yaml"
    path.write_text(GOOD + "".join(f"{k}: {json.dumps(v)}\n" for k, v in sections.items()), encoding="utf-8")
    read = load(path, {}).model_dump(mode="json")
    assert {key: read[key] | value for key, value in sections.items()} == {key: read[key] for key in sections}


def test_the_schema_names_every_section_and_describes_every_key() -> None:
    schema = json_schema()
    assert set(schema["properties"]) == set(Config.model_fields)
    bare = [
        f"{kind}.{key}"
        for kind, d in schema["$defs"].items()
        for key, f in d["properties"].items()
        if "description" not in f
    ]
    assert bare == []


def test_the_documentation_is_up_to_date() -> None:
    written = Path(__file__).parents[3] / "docs" / "configuration.md"
    assert written.read_text(encoding="utf-8") == reference(), (
        "run: python -m actors.config.reference docs/configuration.md"
    )
