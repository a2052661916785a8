/* Python from the root disk at work: job.py compiles the standard library over and over, as a build does, keeps what
 * came out of the last jobs, and compares each result with the first one. It says '.' or 'X' for every job. */
#include "nova.h"

#include <fcntl.h>
#include <glob.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#define ROOT "/image"
#define JOB "/job.py"
#define JOB_MAX 16384

static int said = -1;

static void start_python(const struct options *options) {
    static char job[JOB_MAX];
    char region_mib[24], per_s[24];
    int ends[2], file = open(JOB, O_RDONLY);
    ssize_t size = file < 0 ? -1 : read(file, job, sizeof job - 1);
    glob_t found;
    if (size <= 0 || size == sizeof job - 1) fatal("can't read the job");
    if (glob(ROOT "/usr/bin/python3.*", 0, NULL, &found) != 0) fatal("no python on the root disk");
    snprintf(region_mib, sizeof region_mib, "%ld", options->region_mib);
    snprintf(per_s, sizeof per_s, "%ld", options->per_s);
    mount("proc", ROOT "/proc", "proc", 0, NULL);
    mount("/dev", ROOT "/dev", NULL, MS_BIND, NULL);
    if (pipe(ends) != 0) fatal("can't make a pipe");
    said = ends[0];
    if (fork() != 0) {
        close(ends[1]);
        return;
    }
    if (dup2(ends[1], STDOUT_FILENO) < 0 || chroot(ROOT) != 0 || chdir("/") != 0) _exit(1);
    execl(found.gl_pathv[0] + strlen(ROOT), "python3", "-I", "-B", "-c", job, region_mib, per_s, (char *)NULL);
    _exit(1);
}

static void take(const char *results, ssize_t count) {
    if (count == 0) fatal("python has ended");
    for (ssize_t i = 0; i < count; i++) {
        if (results[i] != '.') corrupt("python job", counters.writes);
        counters.writes++;
    }
}

void python_open(const struct options *options) {
    char first;
    start_python(options);
    ssize_t count = read(said, &first, 1); /* it has begun when its first job is done */
    take(&first, count < 0 ? 0 : count);
    if (fcntl(said, F_SETFL, O_NONBLOCK) != 0) fatal("can't read from python");
}

void python_slice(void) {
    char results[64];
    ssize_t count = read(said, results, sizeof results);
    if (count >= 0) take(results, count);
}
