/* A region of memory whose pages change at a set pace and are checked in rotation against sums kept beside it. */
#include "nova.h"

#include <sys/mman.h>
#include <sys/random.h>

#define PAGE_WORDS (PAGE_BYTES / sizeof(uint64_t))

static uint64_t *region, *sums;
static int random_content;
static size_t pages, run_words, sweep, sweep_step;
static double rate, due;
static uint64_t choice = 42;

static void *pages_from_kernel(size_t bytes) {
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (memory == MAP_FAILED) fatal("not enough memory for nova.load");
    return memory;
}

/* From the kernel's generator: nothing compresses it. */
static void fill_random(uint64_t *words, size_t count) {
    for (size_t done = 0; done < count * sizeof *words;) {
        ssize_t got = getrandom((char *)words + done, count * sizeof *words - done, 0);
        if (got <= 0) fatal("no random bytes");
        done += (size_t)got;
    }
}

void memory_open(const struct options *options) {
    pages = (size_t)options->region_mib * 256;
    if (pages == 0) return;
    run_words = (size_t)(options->bytes + 7) / 8;
    if (run_words < 1) run_words = 1;
    if (run_words > PAGE_WORDS) run_words = PAGE_WORDS;
    rate = (double)options->per_s;
    random_content = options->kind == RANDOM;
    region = pages_from_kernel(pages * PAGE_BYTES);
    sums = pages_from_kernel(pages * sizeof *sums);
    for (size_t p = 0; p < pages; p++) {
        if (random_content) fill_random(region + p * PAGE_WORDS, PAGE_WORDS);
        else fill_structured(region + p * PAGE_WORDS, PAGE_WORDS, p + 1);
        sums[p] = sum_words(region + p * PAGE_WORDS, PAGE_WORDS);
    }
    /* The whole region about every 10 s, within what an emulated CPU has to spare. */
    sweep_step = pages / 1000;
    if (sweep_step < 4) sweep_step = 4;
    if (sweep_step > 64) sweep_step = 64;
}

struct rotation memory_rotation(void) { return (struct rotation){pages, sweep_step}; }

/* Counters grow in real programs: each word of a random run goes up a little, so the content stays compressible. In a
 * guest of kind random the run's new words are random, too. */
static void change_page(size_t page) {
    uint64_t pick = next_random(&choice);
    size_t first = (size_t)(pick % (PAGE_WORDS - run_words + 1));
    uint64_t *words = region + page * PAGE_WORDS;
    uint64_t sum = sums[page];
    static uint64_t fresh[PAGE_WORDS];
    if (random_content) fill_random(fresh, run_words);
    for (size_t i = first; i < first + run_words; i++) {
        uint64_t step = random_content ? fresh[i - first] - words[i] : 1 + (pick >> (i % 48) & 0xffff);
        words[i] += step;
        sum += step * weight_of(i);
    }
    sums[page] = sum;
    counters.writes++;
}

void memory_slice(double elapsed_s) {
    if (pages == 0) return;
    due += rate * elapsed_s;
    /* A guest that could not keep up must not pay it back in one burst. */
    if (due > rate * 0.05 + 1) due = rate * 0.05 + 1;
    for (; due >= 1; due -= 1) change_page((size_t)(next_random(&choice) % pages));
    for (size_t i = 0; i < sweep_step; i++) {
        if (sum_words(region + sweep * PAGE_WORDS, PAGE_WORDS) != sums[sweep]) corrupt("page", sweep);
        counters.verified++;
        sweep = (sweep + 1) % pages;
    }
}
