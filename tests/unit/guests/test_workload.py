"""The workload's own checks, compiled for this machine: it must find one changed bit, and nothing in quiet memory."""

import subprocess
import sys
from pathlib import Path

import pytest
import zstandard

SOURCES = Path(__file__).parents[3] / "actors" / "lab" / "guests" / "workload"
HARNESS = r"""
#include "memory.c"
#include <string.h>
struct counters counters;
static uint64_t found = ~0ULL;
void corrupt(const char *what, uint64_t where) { (void)what; counters.corrupt++; found = where; }
void fatal(const char *what) { (void)what; __builtin_trap(); }
int main(int argc, char **argv) {
    struct options options = {.region_mib = 1, .per_s = 20000, .bytes = argc > 2 ? 4096 : 64,
                              .kind = argc > 2 && !strcmp(argv[2], "random") ? RANDOM : MEMORY};
    memory_open(&options);
    if (argc > 1 && !strcmp(argv[1], "dump")) { fwrite(region, PAGE_BYTES, pages, stdout); return 0; }
    for (int i = 0; i < 100; i++) memory_slice(0.01);
    if (counters.writes < 1000 || counters.verified < 256) return 3;
    if (argc > 1 && !strcmp(argv[1], "flip")) region[200 * PAGE_WORDS + 17] ^= 1ULL << 43;
    if (argc > 1 && !strcmp(argv[1], "swap")) {
        uint64_t page[PAGE_WORDS];
        memcpy(page, region, sizeof page);
        memcpy(region, region + 9 * PAGE_WORDS, sizeof page);
        memcpy(region + 9 * PAGE_WORDS, page, sizeof page);
    }
    for (int i = 0; i < 100; i++) memory_slice(0.01);
    printf("%llu %lld\n", (unsigned long long)counters.corrupt, (long long)found);
    return 0;
}
"""


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("workload")
    (folder / "harness.c").write_text(HARNESS)
    command = ["gcc", "-O1", "-Wall", "-Werror", f"-I{SOURCES}", "-o", "harness", "harness.c", f"{SOURCES}/content.c"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder / "harness"


def say(harness: Path, *arguments: str) -> bytes:
    return subprocess.run([str(harness), *arguments], capture_output=True, check=True, timeout=30).stdout


def test_quiet_memory_is_never_called_corrupt(harness: Path) -> None:
    assert say(harness) == b"0 -1\n"
    assert say(harness, "quiet", "whole pages") == b"0 -1\n"


def test_random_memory_is_checked_like_any_and_does_not_compress(harness: Path) -> None:
    assert say(harness, "quiet", "random") == b"0 -1\n"
    content = say(harness, "dump", "random")
    assert len(zstandard.ZstdCompressor(level=3).compress(content)) > len(content)


def test_python_job_finds_every_result_the_same() -> None:
    command = [sys.executable, "-I", "-B", SOURCES / "job.py", "1024", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as job:
        assert job.stdout is not None
        try:
            said = job.stdout.read(40)
        finally:
            job.kill()
    assert said == b"." * 40


def test_one_bit_is_found_and_its_page_named(harness: Path) -> None:
    count, page = say(harness, "flip").split()
    assert int(count) > 0
    assert int(page) == 200


def test_exchanged_pages_are_found(harness: Path) -> None:
    count, page = say(harness, "swap").split()
    assert int(count) > 0
    assert int(page) in {0, 9}


def test_content_is_distinct_and_compresses_about_three_to_one(harness: Path) -> None:
    content = say(harness, "dump")
    pages = {content[at : at + 4096] for at in range(0, len(content), 4096)}
    assert len(pages) == 256
    assert 2.5 < len(content) / len(zstandard.ZstdCompressor(level=3).compress(content)) < 4.0
