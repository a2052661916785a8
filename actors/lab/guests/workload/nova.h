/* The lab guest's workload: shared types. One thread drives everything in slices; disk.c alone has its own. */
#ifndef NOVA_H
#define NOVA_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define PAGE_BYTES 4096

enum kind { MEMORY, RANDOM, REDIS, PYTHON };

/* From the kernel command line: nova.kind, nova.load=MIB,PER_S,BYTES, nova.cache, nova.tick, nova.disk. */
struct options {
    enum kind kind;       /* nova.kind */
    long region_mib;      /* memory, random: region; redis: sum of all values; python: its memory, about */
    long per_s;           /* memory, random: pages changed per second; redis: SETs; python: modules compiled, at most */
    long bytes;           /* memory, random: bytes changed per page; redis: bytes of one value */
    long cache_mib;       /* files read into the page cache at boot */
    long tick_ms;         /* one tick line this often */
    long disk_per_s;      /* 4 KiB blocks written to /dev/vdb per second; 0: leave it alone */
};

/* Told on every tick line. */
struct counters {
    uint64_t writes;      /* pages changed, keys set or modules compiled */
    uint64_t verified;    /* pages, keys, file pieces and blocks checked */
    uint64_t corrupt;     /* of those, wrong */
};

extern struct counters counters;

/* What is checked in turn, so many in every slice. */
struct rotation { uint64_t things, per_slice; };

void corrupt(const char *what, uint64_t where);
void fatal(const char *what);
void say(const char *line);
uint64_t now_ns(int clock);
uint64_t next_random(uint64_t *state);

/* Sum that changes by (new - old) * weight when one word changes, so that keeping it costs nothing. */
static inline uint64_t weight_of(size_t word) { return (2 * (uint64_t)word + 1) * 0x9E3779B97F4A7C15ULL; }
uint64_t sum_words(const uint64_t *words, size_t count);
void fill_structured(uint64_t *words, size_t count, uint64_t seed);

void memory_open(const struct options *options);
void memory_slice(double elapsed_s);
struct rotation memory_rotation(void);

long files_open(const char *root, long budget_mib);
void files_slice(void);
uint64_t files_pieces(void);
uint64_t files_slices(void);

void kv_open(const struct options *options);
void kv_slice(double elapsed_s);
struct rotation kv_rotation(void);

void python_open(const struct options *options);
void python_slice(void);

void disk_open(const struct options *options);
void disk_collect(void);

void host_clock_open(void);
void host_clock_slice(void);
uint64_t host_clock_next(uint64_t slice);
extern uint64_t host_edge_s, host_edge_ns;

void power_open(void);
void power_slice(void);

#endif
