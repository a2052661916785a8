/* Reads nova.* from the kernel command line, loads the guest as asked, and prints one tick line every nova.tick ms:
 *   nova t SEQ MONOTONIC_NS REALTIME_NS HOST_EDGE_S HOST_EDGE_MONOTONIC_NS WRITES VERIFIED OK|CORRUPT *XOR
 * The XOR of all bytes before '*' tells torn lines from whole ones. */
#include "nova.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct counters counters;

void say(const char *line) {
    char out[256];
    unsigned char check = 0;
    for (const char *c = line; *c; c++) check ^= (unsigned char)*c;
    int length = snprintf(out, sizeof out, "%s *%02x\n", line, check);
    if (write(STDOUT_FILENO, out, (size_t)length) != length) _exit(1);
}

void fatal(const char *what) {
    char line[160];
    snprintf(line, sizeof line, "nova fatal %s", what);
    say(line);
    sleep(1); /* the console drains before the kernel panics */
    _exit(1);
}

void corrupt(const char *what, uint64_t where) {
    char line[160];
    if (counters.corrupt++ >= 20) return;
    snprintf(line, sizeof line, "nova corrupt %s %llu", what, (unsigned long long)where);
    say(line);
}

uint64_t now_ns(int clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000ULL + (uint64_t)now.tv_nsec;
}

static long number(const char *cmdline, const char *key, long otherwise) {
    const char *found = strstr(cmdline, key);
    return found ? strtol(found + strlen(key), NULL, 10) : otherwise;
}

static const char *const kinds[] = {[MEMORY] = "memory", [RANDOM] = "random", [REDIS] = "redis", [PYTHON] = "python"};

static enum kind kind(const char *cmdline) {
    const char *found = strstr(cmdline, "nova.kind=");
    for (enum kind k = MEMORY; found && k <= PYTHON; k++)
        if (strncmp(found + strlen("nova.kind="), kinds[k], strlen(kinds[k])) == 0) return k;
    fatal("nova.kind is none of memory, random, redis, python");
    return MEMORY;
}

static struct options read_options(void) {
    static char cmdline[4096];
    struct options options = {.region_mib = 64, .per_s = 2000, .bytes = 64};
    FILE *file = fopen("/proc/cmdline", "r");
    if (!file || !fgets(cmdline, sizeof cmdline, file)) fatal("can't read /proc/cmdline");
    fclose(file);
    const char *load = strstr(cmdline, "nova.load=");
    if (load && sscanf(load, "nova.load=%ld,%ld,%ld", &options.region_mib, &options.per_s, &options.bytes) != 3)
        fatal("nova.load wants MIB,PER_S,BYTES");
    options.kind = kind(cmdline);
    options.cache_mib = number(cmdline, "nova.cache=", 0);
    options.tick_ms = number(cmdline, "nova.tick=", 50);
    options.disk_per_s = number(cmdline, "nova.disk=", 0);
    if (options.region_mib < 0 || options.per_s < 0 || options.bytes < 0 || options.tick_ms < 10)
        fatal("a nova.* option is out of range");
    return options;
}

static void tick(uint64_t seq) {
    char line[224];
    snprintf(line, sizeof line, "nova t %llu %llu %llu %llu %llu %llu %llu %s", (unsigned long long)seq,
             (unsigned long long)now_ns(CLOCK_MONOTONIC), (unsigned long long)now_ns(CLOCK_REALTIME),
             (unsigned long long)host_edge_s, (unsigned long long)host_edge_ns,
             (unsigned long long)counters.writes, (unsigned long long)counters.verified,
             counters.corrupt ? "CORRUPT" : "OK");
    say(line);
}

/* By how much `verified` grows while memory and files are checked once, whichever takes longer. */
static uint64_t checks_for_all(struct rotation memory) {
    uint64_t slices = memory.per_slice ? (memory.things + memory.per_slice - 1) / memory.per_slice : 0;
    uint64_t rounds = 1; /* of the files, while the memory is checked once */
    if (slices < files_slices()) slices = files_slices();
    else if (files_slices()) rounds = slices / files_slices() + 1;
    return slices * memory.per_slice + rounds * files_pieces();
}

static void open_kind(const struct options *options) {
    if (options->kind == REDIS) kv_open(options);
    else if (options->kind == PYTHON) python_open(options);
    else memory_open(options);
}

static void slice_of(enum kind kind, double elapsed_s) {
    if (kind == REDIS) kv_slice(elapsed_s);
    else if (kind == PYTHON) python_slice();
    else memory_slice(elapsed_s);
}

static void run(const struct options *options) {
    /* A fifth of a tick, 10 to 100 ms: a guest that seldom tells costs its host little. */
    long slice_ms = options->tick_ms < 50 ? 10 : options->tick_ms > 500 ? 100 : options->tick_ms / 5;
    uint64_t last = now_ns(CLOCK_MONOTONIC), slice = last, next_tick = last, seq = 0;
    for (;;) {
        uint64_t now = now_ns(CLOCK_MONOTONIC);
        double elapsed_s = (double)(now - last) / 1e9;
        last = now;
        host_clock_slice();
        slice_of(options->kind, elapsed_s);
        files_slice();
        disk_collect();
        power_slice();
        if (now >= next_tick) {
            tick(seq++);
            next_tick += (uint64_t)options->tick_ms * 1000000ULL;
            if (next_tick < now) next_tick = now; /* behind: go on from here, no burst */
        }
        if (now >= slice) slice += (uint64_t)slice_ms * 1000000ULL;
        if (slice < now) slice = now;
        uint64_t next = host_clock_next(slice);
        struct timespec until = {.tv_sec = (time_t)(next / 1000000000ULL), .tv_nsec = (long)(next % 1000000000ULL)};
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
    }
}

int main(void) {
    struct options options = read_options();
    char line[160];
    snprintf(line, sizeof line, "nova boot kind=%s load=%ld,%ld,%ld", kinds[options.kind], options.region_mib,
             options.per_s, options.bytes);
    say(line);
    host_clock_open();
    power_open();
    long cached_mib = files_open("/image", options.cache_mib);
    open_kind(&options);
    disk_open(&options);
    snprintf(line, sizeof line, "nova ready cached_mib=%ld checks=%llu", cached_mib,
             (unsigned long long)checks_for_all(options.kind == REDIS ? kv_rotation() : memory_rotation()));
    say(line);
    run(&options);
}
