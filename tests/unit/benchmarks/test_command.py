"""The command line of the benchmark, as far as it goes without a lab."""

import pytest
from typer.testing import CliRunner

from actors.lab.topology import parse_shape
from api.cli.main import app
from benchmarks.moving.run import line_change

runner = CliRunner()


def test_bench_lists_it() -> None:
    found = runner.invoke(app, ["bench", "--help"])
    assert found.exit_code == 0
    assert "migration" in found.output


def test_help_names_every_option() -> None:
    found = runner.invoke(app, ["bench", "migration", "--help"], env={"COLUMNS": "200", "NO_COLOR": "1"})
    assert found.exit_code == 0
    for option in (
        "--link", "--guest-memory", "--load", "--cache", "--only", "--repeat", "--json", "--keep-lab", "--loads",
        "--stores", "--pauses", "--aim", "--budget-s", "--resume",
    ):  # fmt: skip
        assert option in found.output


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--only", "qemu-rdma"], "qemu-rdma"),
        (["--link", "fast"], "RATE,RTT"),
        (["--load", "64,2000"], "REGION_MIB,PER_S,BYTES"),
        (["--loads", "medium"], "medium"),
        (["--stores", "full"], "full"),
        (["--loads", ","], "names none"),
    ],
)
def test_bad_options_are_told_before_anything_is_built(
    arguments: list[str], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        raise AssertionError("a lab was asked for")

    monkeypatch.setattr("benchmarks.migration._lab", never)
    found = runner.invoke(app, ["bench", "migration", *arguments])
    assert found.exit_code not in (0, 1)
    assert told in found.output


def test_the_line_gets_the_whole_shape() -> None:
    change = line_change(parse_shape("10mbit,80ms,0.5%,2ms"))
    assert (change.rate_bps, change.delay_us, change.jitter_us, change.loss_ppm) == (10_000_000, 40_000, 2000, 5000)
    assert (change.queue_bytes, change.state, change.direction) == (128 << 10, "pass", "both")
