"""What a lab may have left on this machine."""

import subprocess
from pathlib import Path

from actors.lab.plan import LabPlan
from actors.lab.processes import processes_of


def traces_of(plan: LabPlan) -> list[str]:
    """Everything of the lab that is still here: processes, interfaces, routes, mounts, directories."""
    found = [f"process {process.pid} {process.comm}" for process in processes_of(plan.id)]
    network = _ip("-oneline", "link", "show") + _ip("route", "show", "table", "all")
    found += [line for line in network if any(router.host_interface in line for router in plan.routers)]
    found += [line for line in _ip("netns", "list") if plan.name in line]
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    found += [line for line in mounts if str(plan.state_dir) in line or str(plan.run_dir) in line]
    return found + [str(directory) for directory in (plan.state_dir, plan.run_dir) if directory.exists()]


def _ip(*words: str) -> list[str]:
    return subprocess.run(["ip", *words], capture_output=True, text=True, check=True).stdout.splitlines()
