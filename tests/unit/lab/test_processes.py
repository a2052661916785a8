"""That no process of a lab is overlooked, whatever it is doing at the moment of the search."""

import os
import subprocess
import uuid
from pathlib import Path

import pytest

from actors.lab.processes import LAB_VARIABLE, end_all, processes_of

_SEARCHES = 200
_DEADLINE_S = 30.0


@pytest.mark.parametrize(
    "program", ['exec sh "$0"\n', 'setsid --fork sh "$0"\n'], ids=["becomes another program", "begins another and ends"]
)
def test_processes_are_found_whatever_they_do(tmp_path: Path, program: str) -> None:
    lab = uuid.uuid4().hex
    script = tmp_path / "again.sh"
    script.write_text(program)
    first = subprocess.Popen(
        ["sh", str(script)], env={**os.environ, LAB_VARIABLE: lab}, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        assert all(next(processes_of(lab), None) for _ in range(_SEARCHES))
    finally:
        assert end_all(lab, _DEADLINE_S) >= 1
        first.wait(_DEADLINE_S)
    assert list(processes_of(lab)) == []


def test_a_process_without_an_environment_is_no_reason_to_wait() -> None:
    bare = subprocess.Popen(["sleep", "infinity"], env={})
    try:
        assert list(processes_of(uuid.uuid4().hex)) == []
    finally:
        bare.kill()
        bare.wait()
