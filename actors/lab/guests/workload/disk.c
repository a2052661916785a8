/* Writes to the second disk past every cache, and reads back what was written. Own thread: a slow disk must not stop
 * the ticks. Each block carries its version's content; the versions are kept in memory, so a lost write shows. */
#define _GNU_SOURCE
#include "nova.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define DISK_PATH "/dev/vdb"
#define BLOCKS_MAX 16384

static int disk = -1;
static size_t blocks;
static uint32_t versions[BLOCKS_MAX];
static long per_s;
static atomic_ulong checked, wrong, last_wrong;

static void content(uint64_t *words, size_t block) {
    fill_structured(words, PAGE_BYTES / 8, ((uint64_t)versions[block] << 20 | block) + 1);
}

static void check_block(uint64_t *expected, uint64_t *read_back, size_t block) {
    if (versions[block] == 0) return;
    content(expected, block);
    ssize_t got = pread(disk, read_back, PAGE_BYTES, (off_t)block * PAGE_BYTES);
    if (got != PAGE_BYTES || memcmp(expected, read_back, PAGE_BYTES) != 0) {
        atomic_store(&last_wrong, block);
        atomic_fetch_add(&wrong, 1);
    }
    atomic_fetch_add(&checked, 1);
}

static void *work(void *nothing) {
    (void)nothing;
    uint64_t *expected = aligned_alloc(PAGE_BYTES, PAGE_BYTES), *read_back = aligned_alloc(PAGE_BYTES, PAGE_BYTES);
    uint64_t choice = 7;
    size_t sweep = 0;
    struct timespec pace = {.tv_sec = per_s == 1, .tv_nsec = per_s == 1 ? 0 : 1000000000L / per_s};
    if (!expected || !read_back) fatal("not enough memory for nova.disk");
    for (;;) {
        size_t block = (size_t)(next_random(&choice) % blocks);
        versions[block]++;
        content(expected, block);
        if (pwrite(disk, expected, PAGE_BYTES, (off_t)block * PAGE_BYTES) != PAGE_BYTES) {
            atomic_store(&last_wrong, block);
            atomic_fetch_add(&wrong, 1);
        }
        check_block(expected, read_back, sweep);
        sweep = (sweep + 1) % blocks;
        nanosleep(&pace, NULL);
    }
    return NULL;
}

void disk_open(const struct options *options) {
    uint64_t bytes = 0;
    pthread_t thread;
    per_s = options->disk_per_s;
    if (per_s <= 0) return;
    disk = open(DISK_PATH, O_RDWR | O_DIRECT | O_DSYNC);
    if (disk < 0 || ioctl(disk, BLKGETSIZE64, &bytes) != 0) fatal("nova.disk needs a second disk, " DISK_PATH);
    blocks = (size_t)(bytes / PAGE_BYTES);
    if (blocks > BLOCKS_MAX) blocks = BLOCKS_MAX;
    if (blocks == 0 || pthread_create(&thread, NULL, work, NULL) != 0) fatal("can't start the disk's thread");
}

/* Bring the thread's counts into the common ones. */
void disk_collect(void) {
    counters.verified += atomic_exchange(&checked, 0);
    unsigned long bad = atomic_exchange(&wrong, 0);
    for (; bad > 0; bad--) corrupt("block", atomic_load(&last_wrong));
}
