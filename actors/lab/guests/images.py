"""Builds the guests' kernel, initramfs and root disk; what is there for the same packages and sources is kept."""

import fcntl
import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path

import msgspec

from actors.errors import SetupMissing
from actors.lab.guests import initramfs, packages

MIB = 1 << 20
# ext4's own tables plus rounding of many small files to blocks.
_SLACK = 1.12
_CONTENT_MIN_BYTES = 350 * MIB
_LAYOUT = b"1"  # raise it when the way files are put together changes
_TOOL_S = 900.0
_DIRECTORY, _PROGRAM, _FILE = stat.S_IFDIR | 0o755, stat.S_IFREG | 0o755, stat.S_IFREG | 0o644


class GuestImages(msgspec.Struct, frozen=True, kw_only=True):
    """Files of a lab guest on its node; `root` is a raw ext4 image that guests attach read-only."""

    kernel: str
    initrd: str
    root: str
    root_content_mib: int

    def moved_to(self, folder: Path) -> "GuestImages":
        """The same files as they lie in another `folder` (a node's own images directory)."""
        return msgspec.structs.replace(
            self,
            kernel=str(folder / Path(self.kernel).name),
            initrd=str(folder / Path(self.initrd).name),
            root=str(folder / Path(self.root).name),
        )


def build(images_dir: Path) -> GuestImages:
    """Build what is missing in `images_dir` (first time: minutes and about 130 MB to download) and name the files.

    Safe to call from several processes at once: they take turns. File names carry a hash of packages and sources.

    Raises:
        SetupMissing: a tool, apt's index or a package mirror is missing.
    """
    images_dir.mkdir(parents=True, exist_ok=True)
    with _turn(images_dir / ".build.lock"):
        kernel_name = (packages.kernel_package(),)
        kernel_packages = packages.resolve(kernel_name)
        root_names = packages.root_packages()
        root_packages = packages.resolve(root_names)
        boot_key = packages.recipe(kernel_packages, _LAYOUT, *_sources())
        root_key = packages.recipe(root_packages, _LAYOUT)
        kernel, initrd = images_dir / f"kernel-{boot_key}", images_dir / f"initrd-{boot_key}"
        root = images_dir / f"root-{root_key}.raw"
        facts = images_dir / f"root-{root_key}.json"
        if not (kernel.exists() and initrd.exists()):
            files = packages.fetch(kernel_name, kernel_packages, images_dir / "packages")
            _build_boot(files[0], kernel, initrd)
        if not (root.exists() and facts.exists()):
            files = packages.fetch(root_names, root_packages, images_dir / "packages")
            content_bytes = _build_root(files, root)
            facts.write_bytes(msgspec.json.encode({"content_mib": content_bytes // MIB}))
        content_mib = msgspec.json.decode(facts.read_bytes(), type=dict[str, int])["content_mib"]
    return GuestImages(kernel=str(kernel), initrd=str(initrd), root=str(root), root_content_mib=content_mib)


@contextmanager
def _turn(path: Path) -> Iterator[None]:
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _source_dir() -> Path:
    return Path(str(resources.files("actors.lab.guests")))


def _sources() -> list[bytes]:
    folder = _source_dir()
    sources = sorted(path for path in (folder / "workload").iterdir() if path.is_file())
    return [path.read_bytes() for path in (folder / "init.sh", *sources)]


def _build_boot(kernel_deb: Path, kernel: Path, initrd: Path) -> None:
    with tempfile.TemporaryDirectory(dir=kernel.parent) as scratch:
        tree = Path(scratch)
        _tool("dpkg", "-x", str(kernel_deb), str(tree / "kernel"))
        workload = tree / "workload"
        sources = sorted(str(path) for path in (_source_dir() / "workload").glob("*.c"))
        _tool("gcc", "-O2", "-static", "-pthread", "-Wall", "-Wextra", "-Werror", "-o", str(workload), *sources)
        content = _initramfs_files(tree / "kernel", workload)
        part = tree / "initrd"
        part.write_bytes(initramfs.archive(content))
        vmlinuz = next((tree / "kernel" / "boot").glob("vmlinuz-*"))
        vmlinuz.chmod(0o644)
        part.chmod(0o644)
        vmlinuz.rename(kernel)
        part.rename(initrd)


def _initramfs_files(kernel_tree: Path, workload: Path) -> dict[str, tuple[int, bytes]]:
    busybox = shutil.which("busybox")
    if busybox is None:
        raise SetupMissing(what="busybox-static")
    modules = initramfs.find_modules(kernel_tree / "lib" / "modules")
    depends = {name: initramfs.depends_of(path.read_bytes()) for name, path in modules.items()}
    order = initramfs.load_order(initramfs.WANTED, depends)
    content = dict.fromkeys(("bin", "dev", "image", "modules", "proc", "sys", "tmp"), (_DIRECTORY, b""))
    content["init"] = (_PROGRAM, (_source_dir() / "init.sh").read_bytes())
    content["workload"] = (_PROGRAM, workload.read_bytes())
    content["job.py"] = (_FILE, (_source_dir() / "workload" / "job.py").read_bytes())
    content["bin/busybox"] = (_PROGRAM, Path(busybox).read_bytes())
    content["modules/order"] = (_FILE, "".join(f"{name}.ko\n" for name in order).encode())
    for name in order:
        content[f"modules/{name}.ko"] = (_FILE, modules[name].read_bytes())
    return content


def _build_root(debs: list[Path], root: Path) -> int:
    """Make the ext4 image from the packages' files, without mounting it. Returns bytes of file content in it."""
    with tempfile.TemporaryDirectory(dir=root.parent) as scratch:
        tree, part = Path(scratch) / "tree", Path(scratch) / "root.raw"
        for deb in debs:
            _tool("dpkg", "-x", str(deb), str(tree))
        for name in ("dev", "proc", "tmp"):
            (tree / name).mkdir(exist_ok=True)
        content_bytes = sum(f.lstat().st_size for f in tree.rglob("*") if f.is_file() and not f.is_symlink())
        if content_bytes < _CONTENT_MIN_BYTES:
            raise SetupMissing(
                what=f"packages with {_CONTENT_MIN_BYTES // MIB} MiB of files, got {content_bytes // MIB}"
            )
        size_mib = int(content_bytes * _SLACK) // MIB + 64
        _tool(
            "mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-m", "0", "-L", "novacron-root",
            "-U", "6e6f7661-6372-6f6e-0000-000000000001",
            "-E", "hash_seed=6e6f7661-6372-6f6e-0000-000000000002,root_owner=0:0",
            "-d", str(tree), str(part), f"{size_mib}M", environment={"E2FSPROGS_FAKE_TIME": "1700000000"},
        )  # fmt: skip
        part.chmod(0o644)
        part.rename(root)
    return content_bytes


def _tool(*command: str, environment: dict[str, str] | None = None) -> None:
    try:
        subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=True,
            timeout=_TOOL_S,
            env={**os.environ, **(environment or {})},
        )
    except FileNotFoundError as error:
        raise SetupMissing(what=command[0]) from error
    except subprocess.TimeoutExpired as error:
        raise SetupMissing(what=f"a faster machine: {command[0]} took over {_TOOL_S} s") from error
    except subprocess.CalledProcessError as error:
        raise SetupMissing(what=f"a working {command[0]}: {error.stderr.strip()[-400:]}") from error
