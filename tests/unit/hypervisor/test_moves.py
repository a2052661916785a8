"""What libvirt is asked for, by the path of a move."""

import libvirt
import pytest

from actors.hypervisor.messages import Aim, JobPaths, StartMove
from actors.hypervisor.moves import CONNECTIONS, parameters

PATHS = JobPaths(
    directory="/run/j",
    ram="/run/j/ram",
    wire="/run/j/wire",
    libvirt="/run/j/libvirt",
    nbd="/run/j/nbd",
    nbd_wire="/run/j/nbd-wire",
    libvirtd="/l",
)


@pytest.mark.parametrize(("path", "connections"), [("coded", None), ("native", CONNECTIONS)])
def test_only_a_native_move_is_parallel_and_both_stay_within_the_jobs_sockets(path, connections):
    request = StartMove(job="m-1", guest="web", aim=Aim(pause_ms=300), path=path, copy_disks=["vda"])
    found, flags = parameters(request, PATHS)
    assert bool(flags & libvirt.VIR_MIGRATE_PARALLEL) == (connections is not None)
    assert found.get(libvirt.VIR_MIGRATE_PARAM_PARALLEL_CONNECTIONS) == connections
    assert found[libvirt.VIR_MIGRATE_PARAM_URI] == "unix:///run/j/ram"
    assert found[libvirt.VIR_MIGRATE_PARAM_DISKS_URI] == "unix:///run/j/nbd"
