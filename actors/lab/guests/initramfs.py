"""The guests' initramfs: busybox, a few kernel modules in load order, the init script and the workload."""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

# Drivers of a lab guest; what they need is found out. evdev and button: the ACPI power button.
WANTED = ("virtio_pci", "virtio_blk", "virtio_net", "ext4", "crc32c_generic", "button", "evdev")
_DEPENDS = re.compile(rb"\x00depends=([^\x00]*)\x00")
_NEWC_MAGIC = "070701"


def depends_of(module: bytes) -> list[str]:
    """The modules that a kernel module's .modinfo names as needed."""
    found = _DEPENDS.search(module)
    names = found[1].decode("ascii") if found else ""
    return [_name(part) for part in names.split(",") if part]


def load_order(wanted: Iterable[str], depends: Mapping[str, list[str]]) -> list[str]:
    """Every wanted module after the ones it needs; a name that `depends` lacks is built into the kernel.

    Raises:
        ValueError: modules need each other in a circle.
    """
    order: list[str] = []
    under_way: set[str] = set()

    def take(name: str) -> None:
        if name in order or name not in depends:
            return
        if name in under_way:
            raise ValueError(f"modules need each other: {name}")
        under_way.add(name)
        for need in depends[name]:
            take(need)
        order.append(name)

    for name in wanted:
        take(_name(name))
    return order


def find_modules(tree: Path) -> dict[str, Path]:
    """Every kernel module below `tree`, by the name that `depends` lines use."""
    return {_name(path.stem): path for path in sorted(tree.rglob("*.ko"))}


def _name(stem: str) -> str:
    return stem.replace("-", "_")


def archive(files: Mapping[str, tuple[int, bytes]]) -> bytes:
    """A newc cpio archive of {path: (mode, content)}; equal input gives equal bytes. Directories come first."""
    parts = list(_entries(files))
    parts.append(_entry(len(files) + 1000, "TRAILER!!!", 0, b""))
    return b"".join(parts)


def _entries(files: Mapping[str, tuple[int, bytes]]) -> Iterator[bytes]:
    for inode, (path, (mode, content)) in enumerate(sorted(files.items()), start=1):
        yield _entry(inode, path, mode, content)


def _entry(inode: int, path: str, mode: int, content: bytes) -> bytes:
    name = path.encode() + b"\0"
    numbers = (inode, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name), 0)
    head = _NEWC_MAGIC.encode() + b"".join(b"%08X" % number for number in numbers)
    return _padded(head + name) + _padded(content)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
