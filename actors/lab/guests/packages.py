"""Debian packages for the guests: which ones, at which version, and getting them. Nothing is installed on the host."""

import hashlib
import platform
import re
import subprocess
import urllib.parse
from pathlib import Path

import msgspec

from actors.errors import SetupMissing

KERNEL_META = "linux-image-cloud-amd64"
# What a real server has under /usr, so that page cache holds what page cache holds: machine code, bytecode,
# text, tables, many small files and a few big ones. About 500 MB unpacked, 130 MB to download. And redis-server and
# Python with the libraries that they load.
_EVERYWHERE = (
    "bash", "binutils-x86-64-linux-gnu", "coreutils", "git", "libatomic1", "libc-bin", "libc6", "libcap2",
    "libexpat1", "libgcc-s1", "libgcrypt20", "libgpg-error0", "libjemalloc2", "liblz4-1", "liblzf1", "liblzma5",
    "libstdc++6", "libsystemd0", "libzstd1", "locales", "mariadb-server-core", "openssl", "perl-base", "redis-server",
    "redis-tools", "systemd", "tzdata", "util-linux", "vim-runtime", "zlib1g",
)  # fmt: skip
_OF_RELEASE = {
    "bookworm": (
        "cpp-12", "gcc-12", "libicu72", "libnode108", "libperl5.36", "libpython3.11", "libpython3.11-minimal",
        "libpython3.11-stdlib", "libssl3", "perl-modules-5.36", "postgresql-15", "python3.11-minimal",
    ),
    "trixie": (
        "cpp-14", "gcc-14", "libicu76", "libnode115", "libperl5.40", "libpython3.13", "libpython3.13-minimal",
        "libpython3.13-stdlib", "libssl3t64", "perl-modules-5.40", "postgresql-17", "python3.13-minimal",
    ),
}  # fmt: skip

_URI_LINE = re.compile(r"^'(?P<uri>[^']+)' (?P<file>\S+) (?P<size>\d+) SHA256:(?P<digest>[0-9a-f]{64})$")
_APT = ("apt-get", "-o", "APT::Sandbox::User=root")
_DOWNLOAD_S = 1800.0


class Package(msgspec.Struct, frozen=True, order=True):
    """One version of one package: its file name, and the size and SHA-256 that the signed index states."""

    file: str
    size_bytes: int
    sha256: str


def parse_uris(text: str) -> list[Package]:
    """The packages in the output of ``apt-get download --print-uris``, sorted; other lines are ignored."""
    matches = (_URI_LINE.match(line) for line in text.splitlines())
    return sorted(Package(m["file"], int(m["size"]), m["digest"]) for m in matches if m)


def recipe(packages: list[Package], *more: bytes) -> str:
    """Sixteen hex digits that change whenever a package's content or one of `more` changes."""
    digest = hashlib.sha256()
    for part in (*(p.sha256.encode() for p in packages), *more):
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()[:16]


def kernel_package() -> str:
    """The image package that Debian's cloud kernel stands for at present."""
    shown = _run(["apt-cache", "depends", "--no-recommends", "--no-suggests", KERNEL_META], 60.0)
    found = re.search(r"Depends: (linux-image-\S+-cloud-amd64)", shown)
    if found is None:
        raise SetupMissing(what=f"the Debian package {KERNEL_META} (run apt-get update)")
    return found[1]


def root_packages(release: str = "") -> tuple[str, ...]:
    """Names of what the root disk is made of, on Debian `release` (this machine's own by default).

    Raises:
        SetupMissing: another distribution, or a release whose package names are not known here.
    """
    release = release or platform.freedesktop_os_release().get("VERSION_CODENAME", "")
    if release not in _OF_RELEASE:
        raise SetupMissing(
            what=f"Debian {' or '.join(_OF_RELEASE)} for its guests; this machine is {release or 'neither'}"
        )
    return tuple(sorted(_EVERYWHERE + _OF_RELEASE[release]))


def resolve(names: tuple[str, ...]) -> list[Package]:
    """What apt would download for `names` now, by its own index; needs no network.

    Raises:
        SetupMissing: apt doesn't know one of them.
    """
    packages = parse_uris(_run([*_APT, "download", "--print-uris", *names], 120.0))
    if len(packages) != len(set(names)):
        raise SetupMissing(what=f"all of these Debian packages in apt's index: {', '.join(names)} (run apt-get update)")
    return packages


def fetch(names: tuple[str, ...], packages: list[Package], folder: Path) -> list[Path]:
    """Download what is not in `folder` yet; every file is checked against the index. Returns the files in order."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / package.file for package in packages]
    if not all(_intact(file, package) for file, package in zip(files, packages, strict=True)):
        _run([*_APT, "download", *names], _DOWNLOAD_S, folder)
    for file, package in zip(files, packages, strict=True):
        if not _intact(file, package):
            raise SetupMissing(what=f"an undamaged {urllib.parse.unquote(file.name)} (run apt-get update, then repeat)")
    return files


def _intact(file: Path, package: Package) -> bool:
    if not file.is_file() or file.stat().st_size != package.size_bytes:
        return False
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest() == package.sha256


def _run(command: list[str], deadline_s: float, folder: Path | None = None) -> str:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=deadline_s, check=True)
    except FileNotFoundError as error:
        raise SetupMissing(what=f"{command[0]} (the guests are built from Debian packages)") from error
    except subprocess.TimeoutExpired as error:
        raise SetupMissing(
            what=f"a package mirror that answers: {' '.join(command[:4])} took over {deadline_s} s"
        ) from error
    except subprocess.CalledProcessError as error:
        last = (error.stderr.strip().splitlines() or ["no message"])[-1]
        raise SetupMissing(what=f"working Debian package sources: {last}") from error
    return done.stdout
