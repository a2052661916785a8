/* Files of the root disk: read into the page cache at boot, then read again piece by piece and compared. */
#define _GNU_SOURCE
#include "nova.h"

#include <fcntl.h>
#include <ftw.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PIECE_BYTES 65536
#define SLICE_BYTES 32768

struct piece { uint32_t file; uint32_t index; uint64_t sum; };

static char **paths;
static struct piece *sums;
static size_t files, files_room, pieces, pieces_room, next;
static uint64_t budget, cached;
static uint64_t buffer[PIECE_BYTES / sizeof(uint64_t)];
static int open_file = -1;
static uint32_t open_index;

static uint64_t sum_buffer(size_t bytes) {
    memset((char *)buffer + bytes, 0, (8 - bytes % 8) % 8);
    return sum_words(buffer, (bytes + 7) / 8);
}

static void *grow(void *array, size_t *room, size_t used, size_t each) {
    if (used < *room) return array;
    *room = *room ? *room * 2 : 4096;
    array = realloc(array, *room * each);
    if (!array) fatal("not enough memory for the list of files");
    return array;
}

static int take_file(const char *path, const struct stat *facts, int kind, struct FTW *walk) {
    (void)walk;
    if (kind != FTW_F || !S_ISREG(facts->st_mode) || facts->st_size == 0) return 0;
    if (cached + (uint64_t)facts->st_size > budget) return 0;
    int fd = open(path, O_RDONLY);
    if (fd < 0) return 0;
    paths = grow(paths, &files_room, files, sizeof *paths);
    paths[files] = strdup(path);
    ssize_t got;
    for (uint32_t i = 0; (got = pread(fd, buffer, PIECE_BYTES, (off_t)i * PIECE_BYTES)) > 0; i++) {
        sums = grow(sums, &pieces_room, pieces, sizeof *sums);
        sums[pieces++] = (struct piece){(uint32_t)files, i, sum_buffer((size_t)got)};
        cached += (uint64_t)got;
    }
    files++;
    close(fd);
    return 0;
}

/* Returns how many MiB were read. */
long files_open(const char *root, long budget_mib) {
    budget = (uint64_t)budget_mib << 20;
    if (budget) nftw(root, take_file, 32, FTW_PHYS | FTW_MOUNT);
    return (long)(cached >> 20);
}

uint64_t files_pieces(void) { return pieces; }

uint64_t files_slices(void) { return (cached + SLICE_BYTES - 1) / SLICE_BYTES; }

static uint64_t check_next(void) {
    const struct piece *piece = &sums[next];
    if (open_file < 0 || open_index != piece->file) {
        if (open_file >= 0) close(open_file);
        open_file = open(paths[piece->file], O_RDONLY);
        open_index = piece->file;
    }
    ssize_t got = pread(open_file, buffer, PIECE_BYTES, (off_t)piece->index * PIECE_BYTES);
    if (got <= 0 || sum_buffer((size_t)got) != piece->sum) corrupt("file piece", next);
    counters.verified++;
    next = (next + 1) % pieces;
    return got > 0 ? (uint64_t)got : PIECE_BYTES;
}

/* Small files come several to a slice, a whole piece takes two: 3 MiB a second. */
void files_slice(void) {
    static int64_t due;
    if (pieces == 0) return;
    for (due += SLICE_BYTES; due > 0;) due -= (int64_t)check_next();
}
