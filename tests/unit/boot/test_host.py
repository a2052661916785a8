"""Host facts, read from files as kernels write them."""

import os
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from actors.boot.host import cpu_flags, detect_host, kvm_problem, memory_mib


def test_the_facts_of_a_host_are_read_from_its_files(tmp_path: Path) -> None:
    files = {
        "proc/meminfo": "MemTotal:       24684092 kB\nMemAvailable:   2097152 kB\nHugePages_Total:   0\n",
        "proc/cpuinfo": "processor\t: 0\nflags\t\t: fpu vmx sse\n\nprocessor\t: 1\nflags\t\t: fpu sse\n",
        "proc/sys/net/ipv4/tcp_available_congestion_control": "reno bbr cubic\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    host = detect_host(tmp_path)
    assert (host.memory_mib, host.available_mib) == (24105, 2048)
    assert host.cpu_flags == {"fpu", "sse"}, "a flag that one CPU lacks is no flag of the host"
    assert "bbr" in host.congestion
    assert host.accelerator == "tcg"
    assert host.kvm_problem.endswith("dev/kvm: No such file or directory")


def test_a_bare_root_has_nothing(tmp_path: Path) -> None:
    host = detect_host(tmp_path)
    assert (host.memory_mib, host.cpu_flags, host.congestion) == (0, frozenset(), frozenset())


def test_this_machine_has_cpus_and_memory() -> None:
    host = detect_host()
    assert host.cpus == len(os.sched_getaffinity(0))
    assert 0 < host.available_mib <= host.memory_mib
    assert (host.accelerator == "kvm") == (host.kvm_problem == "")


def test_a_file_in_the_place_of_kvm_is_not_kvm(tmp_path: Path) -> None:
    (tmp_path / "kvm").write_text("")
    assert "does not answer: Inappropriate ioctl" in kvm_problem(tmp_path / "kvm")


def test_arm_calls_its_flags_features() -> None:
    assert cpu_flags("processor : 0\nFeatures : fp asimd\n") == {"fp", "asimd"}


@given(st.text())
def test_no_text_breaks_the_parsers(text: str) -> None:
    assert all(mib >= 0 for mib in memory_mib(text).values())
    assert isinstance(cpu_flags(text), frozenset)
