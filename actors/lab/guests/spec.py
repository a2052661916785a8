"""What the agent needs to run one of the lab's guests."""

from typing import Literal, Self, get_args

import msgspec

from actors.errors import BodyInvalid
from actors.hypervisor.messages import DiskSpec, GuestSpec
from actors.lab.guests.images import GuestImages

Kind = Literal["memory", "random", "redis", "python"]
KINDS: tuple[Kind, ...] = get_args(Kind)
# What the kernel, initramfs and workload need beside the region and the page cache.
_OWN_MIB = 72
_MEMORY_MIN_MIB = 128


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """How fast a guest changes its memory.

    kind 'memory': `bytes_each` bytes in each of `per_s` random pages of a region of `region_mib`, every second.
    kind 'random': the same with bytes from the kernel's generator, in the region as in the changes.
    kind 'redis': `per_s` SETs a second of `bytes_each` bytes, over `region_mib` of values.
    kind 'python': a Python of about `region_mib` compiles `per_s` modules of its library a second at most; 0: no limit.
    """

    region_mib: int = 64
    per_s: int = 2000
    bytes_each: int = 64

    @classmethod
    def parse(cls, text: str) -> Self:
        """`64,2000,64`: region MiB, changes per second, bytes each.

        Raises:
            BodyInvalid: not three non-negative whole numbers.
        """
        parts = text.split(",")
        if len(parts) != 3 or not all(part.strip().isascii() and part.strip().isdigit() for part in parts):
            raise BodyInvalid(detail=f"load {text!r} is not REGION_MIB,PER_S,BYTES")
        region, per_s, each = (int(part) for part in parts)
        return cls(region_mib=region, per_s=per_s, bytes_each=each)

    def __str__(self) -> str:
        return f"{self.region_mib},{self.per_s},{self.bytes_each}"


def guest_spec(
    name: str,
    kind: Kind,
    memory_mib: int,
    load: Load,
    cache_mib: int,
    images: GuestImages,
    *,
    tick_ms: int = 50,
    data_disk: DiskSpec | None = None,
    disk_writes_per_s: int = 20,
) -> GuestSpec:
    """A guest of `kind` whose page cache holds `cache_mib` MiB of the root disk's files.

    `images` are paths on the node that will run it. `data_disk`, if given, becomes /dev/vdb and is written and checked.

    Raises:
        BodyInvalid: the load and the cache don't fit into the memory, or the files are fewer than `cache_mib`.
    """
    # redis keeps each value, its key and the allocator's slack; the page sums of kind 'memory' are 1/512.
    load_mib = load.region_mib * 2 if kind == "redis" else load.region_mib + load.region_mib // 256
    needed = max(_MEMORY_MIN_MIB, _OWN_MIB + load_mib + cache_mib)
    if memory_mib < needed:
        raise BodyInvalid(detail=f"{name} needs {needed} MiB for this load and cache, it has {memory_mib}")
    if cache_mib > images.root_content_mib:
        raise BodyInvalid(
            detail=f"cache_mib {cache_mib} is more than the root disk's {images.root_content_mib} MiB of files"
        )
    words = [
        "console=ttyS0", "quiet", "loglevel=1", "panic=-1", "mitigations=off",
        f"nova.kind={kind}", f"nova.load={load}", f"nova.cache={cache_mib}", f"nova.tick={tick_ms}",
    ]  # fmt: skip
    disks = [DiskSpec(target="vda", path=images.root, format="raw", read_only=True)]
    if data_disk is not None:
        disks.append(msgspec.structs.replace(data_disk, target="vdb"))
        words.append(f"nova.disk={disk_writes_per_s}")
    return GuestSpec(
        name=name,
        memory_mib=memory_mib,
        kernel=images.kernel,
        initrd=images.initrd,
        cmdline=" ".join(words),
        disks=disks,
    )
