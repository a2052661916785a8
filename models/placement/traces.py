"""Reads recorded requests and clusters, as CSV or CSV.gz; the columns tell which format it is."""

import csv
import gzip
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from models.placement.tables import (
    ANY,
    APART,
    DOMAINS,
    EVERYWHERE,
    TOGETHER,
    Guests,
    Nodes,
    make_guests,
    make_nodes,
    take_nodes,
)

Columns = dict[str, list[str]]
_Table = TypeVar("_Table", Guests, Nodes)
SITES_MAX = 62
"""Sites that a guest's mask can tell apart."""
SPREAD_VCPUS = 16
"""Guests with more cores are spread over both NUMA cells where a trace doesn't say."""
_BONDS = {"": ANY, "affinity": TOGETHER, "anti-affinity": APART, "fault_domain": DOMAINS}
_MILLI = 1000.0
_MIB = 1024.0


def read_guests(path: Path) -> Guests:
    """The requests of a trace, in the order of their arrival.

    Columns, whichever set is there:
    ``vcpu, mem_gb, arrive_s[, life_s][, tenant | tenant_batch][, site]`` (Huawei, Azure; without ``life_s`` they stay),
    ``cpu_milli, memory_mib, num_gpu, gpu_milli, creation_time, deletion_time`` (Alibaba openb),
    ``flavor_vcpus, flavor_ram, numa, strategy, group, domain`` (Huawei with groups: a sequence, nobody leaves).

    Raises:
        ValueError: it has none of these sets, a value is not a number, or nobody could ask for so much.
    """
    columns = _columns(path)
    readers: list[tuple[set[str], Callable[[Columns], Guests]]] = [
        ({"vcpu", "mem_gb", "arrive_s"}, _plain),
        ({"cpu_milli", "memory_mib", "num_gpu", "gpu_milli", "creation_time", "deletion_time"}, _openb),
        ({"flavor_vcpus", "flavor_ram", "numa", "strategy", "group", "domain"}, _groups),
    ]
    guests = _read(path, columns, readers)
    if (guests.vcpus < 0).any() or (guests.memory < 0).any() or (guests.leave < guests.arrive).any():
        raise ValueError(f"{path}: cores, memory and lifetimes can't be below 0")
    return guests


def read_nodes(path: Path) -> Nodes:
    """The nodes of a cluster.

    Columns, whichever set is there:
    ``cpu, memory_gib[, cells][, site][, gpus][, rack][, price][, count]`` (a cell's cores and GiB),
    ``cpu_milli, memory_mib, gpu`` (Alibaba openb), ``CPU1, RAM1, CPU2, RAM2`` (Huawei: what is free in two cells).
    Or what ``novacron nodes --json`` printed, in a file that ends in ``.json``: the nodes that are up, empty.

    Raises:
        ValueError: it has none of these sets, a value is not a number, or it has no node or one without room.
    """
    columns = _told_nodes(path) if path.suffix == ".json" else _columns(path)
    readers: list[tuple[set[str], Callable[[Columns], Nodes]]] = [
        ({"cpu", "memory_gib"}, _plain_nodes),
        ({"cpu_milli", "memory_mib", "gpu"}, _openb_nodes),
        ({"CPU1", "RAM1", "CPU2", "RAM2"}, _residual_nodes),
    ]
    nodes = _read(path, columns, readers)
    if len(nodes.cpu) == 0 or (nodes.cpu <= 0).any() or (nodes.memory <= 0).any():
        raise ValueError(f"{path}: there must be nodes, each with cores and memory above 0")
    if not np.isin(nodes.cells, (1, 2)).all() or not ((nodes.site >= 0) & (nodes.site < SITES_MAX)).all():
        raise ValueError(f"{path}: a node has 1 or 2 cells and a site from 0 to {SITES_MAX - 1}")
    return nodes


def _read(path: Path, columns: Columns, readers: list[tuple[set[str], Callable[[Columns], _Table]]]) -> _Table:
    for needed, read in readers:
        if needed <= set(columns):
            try:
                return read(columns)
            except (ValueError, KeyError, OverflowError) as error:
                raise ValueError(f"{path}: {error}") from error
    wanted = "; or ".join(", ".join(sorted(needed)) for needed, _ in readers)
    raise ValueError(f"{path} has the columns {', '.join(columns) or 'none'}, needed are {wanted}")


def _columns(path: Path) -> Columns:
    try:
        with gzip.open(path, "rt", newline="") if path.suffix == ".gz" else path.open(newline="") as file:
            rows = csv.reader(file)
            names = next(rows, [])
            lines = list(rows)
    except (OSError, EOFError, UnicodeDecodeError, zlib.error, csv.Error) as error:
        raise ValueError(f"{path} can't be read as CSV: {error}") from error
    try:
        values = list(zip(*lines, strict=True))
        return {name: list(column) for name, column in zip(names, values or [()] * len(names), strict=True)}
    except ValueError as error:
        raise ValueError(f"{path}: the rows are not equally long") from error


def _told_nodes(path: Path) -> Columns:
    """The columns of a cluster's own list of nodes, sites numbered in the order of their names."""
    try:
        whole = json.loads(path.read_bytes())["sites"]
        told = [node for site in whole for node in site["nodes"] if node["state"] == "up"]
        sites = sorted({node["site"] for node in told})
        return {
            "cpu": [str(node["cpus"]) for node in told],
            "memory_gib": [str(node["memory_mib"] / _MIB) for node in told],
            "site": [str(sites.index(node["site"])) for node in told],
        }
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ValueError(f"{path} is not what `novacron nodes --json` prints: {error!r}") from error


def _numbers(columns: Columns, name: str, empty: float = np.nan) -> npt.NDArray[np.float64]:
    values = np.array([empty if value == "" else float(value) for value in columns[name]], np.float64)
    if not np.all(np.isfinite(values)):
        raise ValueError(
            f"column {name} has something that is no number in row {int(np.argmin(np.isfinite(values))) + 2}"
        )
    return values


def _numbered(names: list[str]) -> npt.NDArray[np.int64]:
    return np.unique(np.array(names), return_inverse=True)[1].astype(np.int64)


def _plain(columns: Columns) -> Guests:
    arrive, vcpus = _numbers(columns, "arrive_s"), _numbers(columns, "vcpu")
    leave = arrive + _numbers(columns, "life_s") if "life_s" in columns else np.full(len(arrive), np.inf)
    extra = {"cells": np.where(vcpus > SPREAD_VCPUS, 2, 1)}
    for name in ("tenant", "tenant_batch"):
        if name in columns:
            extra["tenant"] = _numbered(columns[name])
            break
    if "site" in columns:
        sites = columns["site"]
        extra["sites"] = np.array([EVERYWHERE if site == "" else 1 << int(site) for site in sites], np.int64)
    return make_guests(arrive, leave, vcpus, _numbers(columns, "mem_gb"), **extra)


def _openb(columns: Columns) -> Guests:
    gpus = _numbers(columns, "num_gpu").astype(np.int64)
    return make_guests(
        _numbers(columns, "creation_time"),
        _numbers(columns, "deletion_time"),
        _numbers(columns, "cpu_milli") / _MILLI,
        _numbers(columns, "memory_mib") / _MIB,
        gpus=gpus,
        share=np.where(gpus > 0, _numbers(columns, "gpu_milli") / _MILLI, 0.0),
    )


def _groups(columns: Columns) -> Guests:
    count = len(columns["group"])
    unknown = set(columns["strategy"]) - set(_BONDS)
    if unknown:
        raise ValueError(f"unknown strategy {', '.join(sorted(unknown))}; known are {', '.join(filter(None, _BONDS))}")
    names = [f"{s}/{g}" if s else "" for s, g in zip(columns["strategy"], columns["group"], strict=True)]
    grouped = np.array([name != "" for name in names])
    return make_guests(
        np.arange(count, dtype=np.float64),
        np.full(count, np.inf),
        _numbers(columns, "flavor_vcpus"),
        _numbers(columns, "flavor_ram"),
        cells=_numbers(columns, "numa").astype(np.int64),
        group=np.where(grouped, _numbered(names), -1),
        bond=np.array([_BONDS[strategy] for strategy in columns["strategy"]], np.int64),
        domain=_numbers(columns, "domain", empty=0).astype(np.int64),
    )


def _plain_nodes(columns: Columns) -> Nodes:
    optional = {name: _numbers(columns, name).astype(np.int64) for name in ("site", "gpus") if name in columns}
    nodes = make_nodes(
        _numbers(columns, "cpu"),
        _numbers(columns, "memory_gib"),
        cells=_numbers(columns, "cells").astype(np.int64) if "cells" in columns else 1,
        **optional,
    )
    if "rack" in columns:
        nodes = nodes._replace(rack=_numbered(columns["rack"]))
    if "price" in columns:
        nodes = nodes._replace(price=_numbers(columns, "price"))
    if "count" in columns:
        rows = np.repeat(np.arange(len(nodes.cpu)), _numbers(columns, "count").astype(np.int64))
        nodes = take_nodes(nodes, rows)
        if "rack" not in columns:
            nodes = nodes._replace(rack=np.arange(len(rows), dtype=np.int64))
    return nodes


def _openb_nodes(columns: Columns) -> Nodes:
    cpu, memory = _numbers(columns, "cpu_milli") / _MILLI, _numbers(columns, "memory_mib") / _MIB
    return make_nodes(cpu, memory, gpus=_numbers(columns, "gpu").astype(np.int64))


def _residual_nodes(columns: Columns) -> Nodes:
    cpu = np.stack([_numbers(columns, "CPU1"), _numbers(columns, "CPU2")], axis=1)
    memory = np.stack([_numbers(columns, "RAM1"), _numbers(columns, "RAM2")], axis=1)
    nodes = make_nodes(np.maximum(cpu.max(axis=1), 1.0), np.maximum(memory.max(axis=1), 1.0), cells=2)
    return nodes._replace(held_cpu=nodes.cpu[:, None] - cpu, held_memory=nodes.memory[:, None] - memory)
