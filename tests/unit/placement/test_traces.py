"""Reading traces and grids, and cutting windows."""

import gzip
import json

import numpy as np
import pytest

from models.placement.sites import equal_sites, read_sites
from models.placement.tables import APART, DOMAINS, EVERYWHERE, make_guests
from models.placement.traces import read_guests, read_nodes
from models.placement.windows import Shape, cluster_for, cluster_like, cut, peak, sample
from tests.unit.placement.kit import some_guests, some_nodes


@pytest.fixture
def put(tmp_path):
    def put(name, text):
        path = tmp_path / name
        with gzip.open(path, "wt") if path.suffix == ".gz" else path.open("w") as file:
            file.write(text)
        return path

    return put


def test_requests_with_lifetimes_tenants_and_sites(put):
    text = "vcpu,mem_gb,arrive_s,life_s,tenant_batch,site\n2,4,9,5,b,1\n32,64,3,1,a,\n"
    guests = read_guests(put("t.csv.gz", text))
    assert guests.arrive.tolist() == [3, 9]
    assert guests.leave.tolist() == [4, 14]
    assert guests.cells.tolist() == [2, 1]
    assert guests.tenant.tolist() == [0, 1]
    assert guests.sites.tolist() == [EVERYWHERE, 2]


def test_requests_without_lifetimes_stay(put):
    assert np.isinf(read_guests(put("t.csv", "vcpu,mem_gb,arrive_s\n1,2,0\n")).leave).all()


def test_gpu_pods(put):
    head = "cpu_milli,memory_mib,num_gpu,gpu_milli,creation_time,deletion_time\n"
    pods = read_guests(put("t.csv", head + "4000,2048,1,460,5,9\n1000,1024,0,0,6,7\n"))
    assert (pods.vcpus.tolist(), pods.memory.tolist()) == ([4, 1], [2, 1])
    assert (pods.gpus.tolist(), pods.share.tolist()) == ([1, 0], [0.46, 0])


def test_groups(put):
    head = "flavor_vcpus,flavor_ram,numa,strategy,group,domain\n"
    guests = read_guests(put("t.csv", head + "8,16,1,fault_domain,0.0,1.0\n2,4,2,,,\n8,16,1,anti-affinity,0.0,\n"))
    assert guests.bond.tolist() == [DOMAINS, 0, APART]
    assert guests.group[1] == -1
    assert guests.group[0] != guests.group[2]
    assert guests.domain.tolist() == [1, 0, 0]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("vcpu,mem_gb\n1,2\n", "needed are arrive_s"),
        ("vcpu,mem_gb,arrive_s\n1,x,3\n", "could not convert"),
        ("vcpu,mem_gb,arrive_s\n1,2,3\n1,,3\n", "mem_gb has something that is no number in row 3"),
        ("vcpu,mem_gb,arrive_s\n1,2,3\n1,2\n", "not equally long"),
        ("flavor_vcpus,flavor_ram,numa,strategy,group,domain\n1,2,1,near,0,\n", "unknown strategy near"),
        ("vcpu,mem_gb,arrive_s,site\n1,2,3,70\n", "too large"),
        ("vcpu,mem_gb,arrive_s,life_s\n1,2,3,-1\n", "below 0"),
    ],
)
def test_says_what_is_wrong_with_a_file(put, text, says):
    with pytest.raises(ValueError, match=says):
        read_guests(put("t.csv", text))


def test_says_that_a_file_is_no_table(tmp_path):
    path = tmp_path / "t.csv.gz"
    path.write_bytes(gzip.compress(b"vcpu,mem_gb,arrive_s\n" * 9)[:-12])
    with pytest.raises(ValueError, match="can't be read as CSV"):
        read_guests(path)
    with pytest.raises(ValueError, match="can't be read as CSV"):
        read_guests(tmp_path / "none.csv")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("cpu,memory_gib\n", "must be nodes"),
        ("cpu,memory_gib\n0,4\n", "cores and memory above 0"),
        ("cpu,memory_gib,cells\n4,4,3\n", "1 or 2 cells"),
        ("cpu,memory_gib,site\n4,4,-1\n", "a site from 0"),
    ],
)
def test_says_what_is_wrong_with_nodes(put, text, says):
    with pytest.raises(ValueError, match=says):
        read_nodes(put("n.csv", text))


def test_nodes_of_each_kind(put):
    plain = read_nodes(put("a.csv", "cpu,memory_gib,cells,site,price,count\n32,64,2,1,0.5,3\n8,16,1,0,0.1,1\n"))
    assert plain.cells.tolist() == [2, 2, 2, 1]
    assert plain.price.tolist() == [0.5, 0.5, 0.5, 0.1]
    assert plain.rack.tolist() == [0, 1, 2, 3]
    openb = read_nodes(put("b.csv", "sn,cpu_milli,memory_mib,gpu,model\nn,96000,2048,8,G2\n"))
    assert (openb.cpu[0], openb.memory[0], openb.gpus[0]) == (96, 2, 8)
    rest = read_nodes(put("c.csv", "CPU1,RAM1,CPU2,RAM2\n16,32,30,64\n"))
    assert rest.held_cpu.tolist() == [[14, 0]]
    assert rest.held_memory.tolist() == [[32, 0]]


def test_grids_of_sites(put, tmp_path):
    put("skyplane_throughput_grid.csv.gz", "src,dst,recv_gbps\na,b,4\na,b,6\nb,a,3\n")
    put("skyplane_rtt_grid.csv.gz", "src_region,dst_region,avg_rtt\na,b,20\nb,a,21\n")
    put("skyplane_egress_cost_usd_per_gb.csv.gz", "src,dest,cost\na,b,0.02\nb,a,0.09\n")
    sites = read_sites(tmp_path, ("a", "b"))
    assert (sites.gbps[0, 1], sites.rtt_ms[1, 0], sites.usd_per_gb[1, 0], sites.usd_per_gb[0, 0]) == (5, 21, 0.09, 0)
    with pytest.raises(ValueError, match="no site c"):
        read_sites(tmp_path, ("a", "c"))
    assert equal_sites(2).usd_per_gb[0, 0] == 0


def test_peak_and_the_cluster_for_it():
    guests = make_guests(np.array([0.0, 5, 8]), np.array([6.0, 9, 12]), np.full(3, 10.0), np.full(3, 1.0))
    assert peak(guests, guests.vcpus, (0, 20)) == 20
    assert peak(guests, guests.vcpus, (10, 20)) == 10
    assert len(cluster_for(guests, (0, 20), 0.9, Shape(1, 3.0, 10.0)).cpu) == 6
    like = cluster_like(some_nodes(3, cells=1, cpu=4.0), guests, (0, 20), 0.9)
    assert like.cpu.sum() == 20
    assert np.all(np.diff(like.site) >= 0)


def test_a_sample_has_about_as_much_demand_as_asked_for_and_whole_tenants():
    guests = some_guests(count=2000)
    for factor in (0.5, 2.5):
        part = sample(guests, factor, seed=3)
        assert np.all(np.diff(part.arrive) >= 0)
        assert part.vcpus.sum() == pytest.approx(factor * guests.vcpus.sum(), rel=0.15)
    half = sample(guests, 0.5, seed=3)
    sizes = set(np.bincount(guests.tenant).tolist())
    assert set(np.bincount(half.tenant).tolist()) <= sizes


def test_windows_are_paired_warm_and_of_the_size_asked_for():
    guests = some_guests(count=3000)
    windows = cut(guests, 4, 0.9, seed=1, hosts=12, shape=Shape(2, 16.0, 40.0))
    assert len({window.span for window in windows}) == 4
    for window in windows:
        assert 8 <= len(window.nodes.cpu) <= 16
        assert (window.guests.arrive < window.span[0]).any()
        assert set(window.nodes.site) == {0, 1, 2}
    again = cut(guests, 4, 0.9, seed=1, hosts=12, shape=Shape(2, 16.0, 40.0))
    assert all(np.array_equal(a.guests.arrive, b.guests.arrive) for a, b in zip(windows, again, strict=True))
    with pytest.raises(ValueError, match="life_s"):
        cut(guests._replace(leave=np.full(3000, np.inf)), 1, 0.9)


def test_a_clusters_own_list_of_nodes_can_be_read(tmp_path):
    path = tmp_path / "nodes.json"
    node = {"node": "a1", "site": "rome", "state": "up", "cpus": 8, "memory_mib": 16_384}
    other = node | {"node": "b1", "site": "oslo", "cpus": 4}
    down = node | {"node": "a2", "state": "down", "cpus": 0}
    path.write_text(json.dumps({"sites": [{"nodes": [node, down]}, {"nodes": [other]}]}))
    nodes = read_nodes(path)
    assert (nodes.cpu.tolist(), nodes.memory.tolist(), nodes.site.tolist()) == ([8, 4], [16, 16], [1, 0])
    path.write_text("[]")
    with pytest.raises(ValueError, match="novacron nodes --json"):
        read_nodes(path)
