/* redis-server from the root disk under writes: every value can be computed from its key and version, so each GET
 * proves that the store lost nothing. The protocol is RESP over a UNIX socket, pipelined in small batches. */
#include "nova.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define ROOT "/image"
#define SOCKET "/tmp/redis.sock"
#define VALUE_MAX 8192
#define BATCH_MAX 32
#define CHECKS_PER_SLICE 4

static int server = -1;
static uint32_t *versions;
static size_t keys, value_bytes, sweep;
static double rate, due;
static uint64_t choice = 99;
static char input[VALUE_MAX + 64];
static size_t input_from, input_to;
static uint64_t value[VALUE_MAX / 8];

static void start_server(void) {
    mount("tmpfs", ROOT "/tmp", "tmpfs", 0, "size=1m");
    mount("proc", ROOT "/proc", "proc", 0, NULL);
    mount("/dev", ROOT "/dev", NULL, MS_BIND, NULL);
    if (fork() != 0) return;
    if (chroot(ROOT) != 0 || chdir("/") != 0) fatal("can't enter the root disk");
    execl("/usr/bin/redis-server", "redis-server", "--port", "0", "--unixsocket", SOCKET, "--save", "",
          "--appendonly", "no", "--daemonize", "no", "--logfile", "/dev/null", (char *)NULL);
    fatal("can't run redis-server");
}

static void connect_server(void) {
    struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = ROOT SOCKET};
    struct timespec pause = {.tv_nsec = 50000000};
    for (int attempt = 0; attempt < 600; attempt++) {
        server = socket(AF_UNIX, SOCK_STREAM, 0);
        if (connect(server, (struct sockaddr *)&address, sizeof address) == 0) return;
        close(server);
        nanosleep(&pause, NULL);
    }
    fatal("redis-server does not answer");
}

static void send_all(const void *data, size_t bytes) {
    for (const char *from = data; bytes > 0;) {
        ssize_t sent = write(server, from, bytes);
        if (sent <= 0) fatal("redis-server closed the connection");
        from += sent;
        bytes -= (size_t)sent;
    }
}

static char next_byte(void) {
    if (input_from == input_to) {
        ssize_t got = read(server, input, sizeof input);
        if (got <= 0) fatal("redis-server closed the connection");
        input_from = 0;
        input_to = (size_t)got;
    }
    return input[input_from++];
}

static void read_line(char *line, size_t room) {
    size_t used = 0;
    char c;
    while ((c = next_byte()) != '\n') {
        if (c != '\r' && used + 1 < room) line[used++] = c;
    }
    line[used] = 0;
}

static void make_value(size_t key, uint32_t version) {
    fill_structured(value, (value_bytes + 7) / 8, ((uint64_t)version << 24 | key) + 1);
}

static void send_set(size_t key) {
    char head[96];
    make_value(key, versions[key]);
    int length = snprintf(head, sizeof head, "*3\r\n$3\r\nSET\r\n$12\r\nkey:%08zu\r\n$%zu\r\n", key, value_bytes);
    send_all(head, (size_t)length);
    send_all(value, value_bytes);
    send_all("\r\n", 2);
    counters.writes++;
}

static void expect_ok(size_t key) {
    char line[64];
    read_line(line, sizeof line);
    if (strcmp(line, "+OK") != 0) corrupt("answer to SET", key);
}

static void check_get(size_t key) {
    char line[64];
    int length = snprintf(line, sizeof line, "*2\r\n$3\r\nGET\r\n$12\r\nkey:%08zu\r\n", key);
    send_all(line, (size_t)length);
    read_line(line, sizeof line);
    counters.verified++;
    if (line[0] != '$' || strtoul(line + 1, NULL, 10) != value_bytes) {
        corrupt("key", key);
        return;
    }
    make_value(key, versions[key]);
    int same = 1;
    for (size_t i = 0; i < value_bytes; i++) same &= next_byte() == ((const char *)value)[i];
    next_byte();
    next_byte();
    if (!same) corrupt("key", key);
}

static void set_batch(size_t first, size_t count, int random_keys) {
    size_t chosen[BATCH_MAX];
    for (size_t i = 0; i < count; i++) {
        chosen[i] = random_keys ? (size_t)(next_random(&choice) % keys) : first + i;
        versions[chosen[i]]++;
        send_set(chosen[i]);
    }
    for (size_t i = 0; i < count; i++) expect_ok(chosen[i]);
}

void kv_open(const struct options *options) {
    value_bytes = (size_t)options->bytes;
    if (value_bytes < 16) value_bytes = 16;
    if (value_bytes > VALUE_MAX) value_bytes = VALUE_MAX;
    keys = ((size_t)options->region_mib << 20) / value_bytes;
    if (keys < 16) keys = 16;
    rate = (double)options->per_s;
    versions = calloc(keys, sizeof *versions);
    if (!versions) fatal("not enough memory for the keys");
    start_server();
    connect_server();
    for (size_t key = 0; key < keys; key += BATCH_MAX) {
        set_batch(key, keys - key < BATCH_MAX ? keys - key : BATCH_MAX, 0);
    }
}

struct rotation kv_rotation(void) { return (struct rotation){keys, CHECKS_PER_SLICE}; }

void kv_slice(double elapsed_s) {
    due += rate * elapsed_s;
    if (due > rate * 0.05 + 1) due = rate * 0.05 + 1;
    while (due >= 1) {
        size_t count = due > BATCH_MAX ? BATCH_MAX : (size_t)due;
        set_batch(0, count, 1);
        due -= (double)count;
    }
    for (int i = 0; i < CHECKS_PER_SLICE; i++) {
        check_get(sweep);
        sweep = (sweep + 1) % keys;
    }
}
