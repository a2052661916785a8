/* wanlink: a WAN line between two network namespaces, in user space.
 *
 *   wanlink NETNS_A DEVICE_A NETNS_B DEVICE_B CONTROL_SOCKET
 *
 * Makes one TUN device in each namespace and carries IP packets between them. Each direction (ab, ba) has a
 * serialiser of RATE with a tail-drop queue of QUEUE bytes in front of it, then DELAY with JITTER behind it; the
 * order of packets is kept. A direction is in one of three states: `pass`; `hole` (packets vanish without a word);
 * `cut` (the sender gets ICMP host unreachable). Bytes are counted as IP packets, without any link layer's header.
 *
 * Control: lines on the UNIX socket, one JSON answer per line:
 *   set ab|ba KEY=NUMBER...   keys rate_bps (0: unlimited) delay_us jitter_us loss_ppm queue_bytes state (0 pass, 1 hole, 2 cut)
 *   show                      parameters and counters of both directions
 * Either all keys of a `set` take effect or none does.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define PACKET_BYTES_MAX 65536
#define CLIENTS_MAX 16
#define LINE_BYTES_MAX 512
#define READS_AT_ONCE 64 /* packets taken from one device before the other one and the timers get their turn */
#define FLIGHT_BYTES_MAX (1L << 30)
#define STEP_NS 300000 /* a packet is read and released up to this much late while there are many */

enum state { PASS = 0, HOLE = 1, CUT = 2 };

struct packet {
    struct packet *next;
    int64_t due_ns; /* in the queue: arrival; in flight: delivery */
    int length;
    unsigned char bytes[];
};

struct fifo {
    struct packet *head, **tail;
    long long bytes;
};

struct shape {
    long long rate_bps, delay_us, jitter_us, loss_ppm, queue_bytes, state;
};

struct direction {
    const char *name;
    int from_fd, to_fd;
    struct shape shape;
    struct fifo queue, flight;
    int64_t free_ns, last_due_ns; /* when the serialiser is free; delivery time of the youngest packet in flight */
    unsigned long long in_packets, in_bytes, out_packets, out_bytes, lost_packets, queue_drops, hole_drops, cut_drops;
};

struct client {
    int fd, used;
    char line[LINE_BYTES_MAX];
};

static uint64_t random_state;

static uint32_t random_u32(void) /* xorshift64*: loss and jitter need no better */
{
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    return (uint32_t)((random_state * 2685821657736338717ULL) >> 32);
}

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void push(struct fifo *fifo, struct packet *packet)
{
    packet->next = NULL;
    *fifo->tail = packet;
    fifo->tail = &packet->next;
    fifo->bytes += packet->length;
}

static struct packet *pop(struct fifo *fifo)
{
    struct packet *packet = fifo->head;
    fifo->head = packet->next;
    if (!fifo->head)
        fifo->tail = &fifo->head;
    fifo->bytes -= packet->length;
    return packet;
}

static uint64_t flush(struct fifo *fifo)
{
    uint64_t dropped = 0;
    for (; fifo->head; dropped++)
        free(pop(fifo));
    return dropped;
}

static int open_tun(const char *netns, const char *device)
{
    int namespace = open(netns, O_RDONLY | O_CLOEXEC), tun;
    struct ifreq request = {.ifr_flags = IFF_TUN | IFF_NO_PI};
    if (namespace < 0 || setns(namespace, CLONE_NEWNET) < 0)
        err(1, "%s", netns);
    close(namespace);
    snprintf(request.ifr_name, IFNAMSIZ, "%s", device);
    if ((tun = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC)) < 0 || ioctl(tun, TUNSETIFF, &request) < 0)
        err(1, "%s", device);
    return tun;
}

static uint16_t checksum(const unsigned char *bytes, int length)
{
    uint32_t sum = 0;
    for (int i = 0; i + 1 < length; i += 2)
        sum += (uint32_t)bytes[i] << 8 | bytes[i + 1];
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return htons((uint16_t)~sum);
}

/* Tells the sender of `packet` that its destination can't be reached, as a router with a dead line would. */
static void refuse(int fd, const unsigned char *packet, int length)
{
    unsigned char answer[20 + 8 + 60 + 8] = {0x45};
    int header = (packet[0] & 15) * 4, quoted = header + 8 < length ? header + 8 : length, total = 28 + quoted;
    uint16_t sum;
    if (packet[0] >> 4 != 4 || length < 20 || header < 20 || header > length)
        return;
    if (packet[9] == IPPROTO_ICMP && (length <= header || (packet[header] != 8 && packet[header] != 0)))
        return; /* never an error about an error */
    answer[2] = (unsigned char)(total >> 8);
    answer[3] = (unsigned char)total;
    answer[8] = 64;
    answer[9] = IPPROTO_ICMP;
    memcpy(answer + 12, packet + 16, 4);
    memcpy(answer + 16, packet + 12, 4);
    sum = checksum(answer, 20);
    memcpy(answer + 10, &sum, 2);
    answer[20] = 3; /* destination unreachable: host */
    answer[21] = 1;
    memcpy(answer + 28, packet, (size_t)quoted);
    sum = checksum(answer + 20, 8 + quoted + (quoted & 1));
    memcpy(answer + 22, &sum, 2);
    if (write(fd, answer, (size_t)total) < 0 && errno != EAGAIN)
        warn("refuse");
}

static void take(struct direction *way, const unsigned char *bytes, int length, int64_t now)
{
    struct packet *packet;
    way->in_packets++;
    way->in_bytes += (uint64_t)length;
    if (way->shape.state == HOLE) {
        way->hole_drops++;
    } else if (way->shape.state == CUT) {
        way->cut_drops++;
        refuse(way->from_fd, bytes, length);
    } else if (way->shape.loss_ppm && random_u32() % 1000000 < (uint32_t)way->shape.loss_ppm) {
        way->lost_packets++;
    } else if (way->queue.bytes + length > way->shape.queue_bytes || way->flight.bytes > FLIGHT_BYTES_MAX
               || !(packet = malloc(sizeof *packet + (size_t)length))) {
        way->queue_drops++;
    } else {
        packet->length = length;
        packet->due_ns = now;
        memcpy(packet->bytes, bytes, (size_t)length);
        push(&way->queue, packet);
    }
}

/* Moves what is due along; returns when the next packet will be due, or INT64_MAX. */
static int64_t advance(struct direction *way, int64_t now)
{
    int64_t next = INT64_MAX;
    while (way->queue.head) {
        struct packet *packet = way->queue.head;
        int64_t start = packet->due_ns > way->free_ns ? packet->due_ns : way->free_ns, due;
        if (start > now) {
            next = start;
            break;
        }
        pop(&way->queue);
        way->free_ns = start;
        if (way->shape.rate_bps)
            way->free_ns += (int64_t)packet->length * 8 * 1000000000 / way->shape.rate_bps;
        due = way->free_ns + way->shape.delay_us * 1000;
        if (way->shape.jitter_us)
            due += ((int64_t)random_u32() * 2 * way->shape.jitter_us / UINT32_MAX - way->shape.jitter_us) * 1000;
        if (due < way->last_due_ns)
            due = way->last_due_ns;
        way->last_due_ns = packet->due_ns = due;
        push(&way->flight, packet);
    }
    while (way->flight.head && way->flight.head->due_ns <= now) {
        struct packet *packet = pop(&way->flight);
        if (write(way->to_fd, packet->bytes, (size_t)packet->length) == packet->length) {
            way->out_packets++;
            way->out_bytes += (uint64_t)packet->length;
        } else {
            way->queue_drops++; /* the device is down: the packet is gone, as on a real line */
        }
        free(packet);
    }
    if (way->flight.head && way->flight.head->due_ns < next)
        next = way->flight.head->due_ns;
    return next;
}

static int set_key(struct shape *shape, const char *key, const char *text)
{
    const struct {
        const char *name;
        long long *value, max;
    } keys[] = {
        {"rate_bps", &shape->rate_bps, 1000000000000}, {"delay_us", &shape->delay_us, 60000000},
        {"jitter_us", &shape->jitter_us, 60000000},    {"loss_ppm", &shape->loss_ppm, 1000000},
        {"queue_bytes", &shape->queue_bytes, FLIGHT_BYTES_MAX}, {"state", &shape->state, CUT},
    };
    char *end;
    long long value = strtoll(text, &end, 10);
    if (!*text || *end || value < 0)
        return 0;
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (!strcmp(key, keys[i].name) && value <= keys[i].max) {
            *keys[i].value = value;
            return 1;
        }
    return 0;
}

static void set_shape(struct direction *way, const struct shape *shape)
{
    if (shape->state != PASS && way->shape.state == PASS) { /* what is on the line when it goes dead is gone too */
        uint64_t gone = flush(&way->queue) + flush(&way->flight);
        *(shape->state == HOLE ? &way->hole_drops : &way->cut_drops) += gone;
    }
    way->shape = *shape;
}

static int describe(const struct direction *way, const char *end, char *out, size_t size)
{
    const struct shape *shape = &way->shape;
    return snprintf(out, size,
        "\"%s\":{\"rate_bps\":%lld,\"delay_us\":%lld,\"jitter_us\":%lld,\"loss_ppm\":%lld,\"queue_bytes\":%lld,\"state\":%lld,"
        "\"queued_bytes\":%lld,\"in_packets\":%llu,\"in_bytes\":%llu,\"out_packets\":%llu,\"out_bytes\":%llu,"
        "\"lost_packets\":%llu,\"queue_drops\":%llu,\"hole_drops\":%llu,\"cut_drops\":%llu}%s",
        way->name, shape->rate_bps, shape->delay_us, shape->jitter_us, shape->loss_ppm, shape->queue_bytes, shape->state,
        way->queue.bytes, way->in_packets, way->in_bytes, way->out_packets, way->out_bytes, way->lost_packets,
        way->queue_drops, way->hole_drops, way->cut_drops, end);
}

static void obey(char *line, struct direction ways[2], char *answer, size_t size)
{
    char *save = NULL, *word = strtok_r(line, " ", &save), *name;
    struct direction *way = NULL;
    struct shape shape;
    if (word && !strcmp(word, "show")) {
        int used = snprintf(answer, size, "{");
        for (int i = 0; i < 2; i++)
            used += describe(&ways[i], i ? "}\n" : ",", answer + used, size - (size_t)used);
        return;
    }
    name = strtok_r(NULL, " ", &save);
    for (int i = 0; i < 2; i++)
        if (word && !strcmp(word, "set") && name && !strcmp(name, ways[i].name))
            way = &ways[i];
    if (!way) {
        snprintf(answer, size, "{\"error\":\"unknown command or direction\"}\n");
        return;
    }
    shape = way->shape;
    while ((word = strtok_r(NULL, " ", &save))) {
        char *equals = strchr(word, '=');
        if (equals)
            *equals = 0;
        if (!equals || !set_key(&shape, word, equals + 1)) {
            snprintf(answer, size, "{\"error\":\"bad key or value\"}\n");
            return;
        }
    }
    set_shape(way, &shape);
    snprintf(answer, size, "{\"ok\":true}\n");
}

/* Reads what a client sent and answers each whole line; returns 0 when the client is to be closed. */
static int serve(struct client *client, struct direction ways[2])
{
    char answer[2048], *end;
    ssize_t got = read(client->fd, client->line + client->used, sizeof client->line - 1 - (size_t)client->used);
    if (got <= 0)
        return 0;
    client->used += (int)got;
    client->line[client->used] = 0;
    while ((end = strchr(client->line, '\n'))) {
        *end++ = 0;
        obey(client->line, ways, answer, sizeof answer);
        if (write(client->fd, answer, strlen(answer)) < 0)
            return 0;
        client->used -= (int)(end - client->line);
        memmove(client->line, end, (size_t)client->used + 1);
    }
    return client->used < LINE_BYTES_MAX - 1;
}

static int listen_on(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (strlen(path) >= sizeof address.sun_path)
        errx(1, "%s: too long for a socket's path", path);
    strcpy(address.sun_path, path);
    unlink(path);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, CLIENTS_MAX) < 0)
        err(1, "%s", path);
    return fd;
}

int main(int argc, char **argv)
{
    static unsigned char bytes[PACKET_BYTES_MAX];
    struct direction ways[2] = {{.name = "ab"}, {.name = "ba"}};
    struct client clients[CLIENTS_MAX];
    struct sched_param priority = {.sched_priority = 1};
    int listener, taken = 0;

    if (argc != 6)
        errx(2, "usage: wanlink NETNS_A DEVICE_A NETNS_B DEVICE_B CONTROL_SOCKET");
    listener = listen_on(argv[5]);
    ways[0].from_fd = ways[1].to_fd = open_tun(argv[1], argv[2]);
    ways[1].from_fd = ways[0].to_fd = open_tun(argv[3], argv[4]);
    random_state = (uint64_t)now_ns() | 1;
    for (int i = 0; i < 2; i++) {
        ways[i].shape.queue_bytes = 1 << 20;
        ways[i].queue.tail = &ways[i].queue.head;
        ways[i].flight.tail = &ways[i].flight.head;
    }
    for (int i = 0; i < CLIENTS_MAX; i++)
        clients[i].fd = -1;
    /* The line's timing must not hang on how busy the guests keep the CPUs; without the right to it, do without. */
    sched_setscheduler(0, SCHED_RR, &priority);
    prctl(PR_SET_TIMERSLACK, 1UL);

    for (;;) {
        struct pollfd polls[3 + CLIENTS_MAX];
        int64_t now = now_ns(), next = advance(&ways[0], now), other = advance(&ways[1], now), wait;
        struct timespec timeout;
        if (other < next)
            next = other;
        /* A line that carries much is looked at in steps: waking for each packet costs more than carrying it. */
        int busy = taken || next - now < STEP_NS;
        wait = busy ? STEP_NS : next == INT64_MAX ? 1000000000 : next - now;
        timeout = (struct timespec){.tv_sec = wait / 1000000000, .tv_nsec = wait % 1000000000};
        polls[0] = (struct pollfd){.fd = ways[0].from_fd, .events = busy ? 0 : POLLIN};
        polls[1] = (struct pollfd){.fd = ways[1].from_fd, .events = busy ? 0 : POLLIN};
        polls[2] = (struct pollfd){.fd = -1, .events = POLLIN}; /* only while there is room for one more client */
        for (int i = 0; i < CLIENTS_MAX; i++) {
            polls[3 + i] = (struct pollfd){.fd = clients[i].fd, .events = POLLIN};
            if (clients[i].fd < 0)
                polls[2].fd = listener;
        }
        if (ppoll(polls, 3 + CLIENTS_MAX, &timeout, NULL) < 0)
            err(1, "poll");
        if ((polls[0].revents | polls[1].revents) & (POLLERR | POLLHUP | POLLNVAL))
            return 0; /* a namespace was taken down */
        now = now_ns();
        taken = 0;
        for (int i = 0; i < 2; i++)
            for (int n = 0; (busy || polls[i].revents & POLLIN) && n < READS_AT_ONCE; n++) {
                ssize_t got = read(ways[i].from_fd, bytes, sizeof bytes);
                if (got <= 0)
                    break;
                take(&ways[i], bytes, (int)got, now);
                taken = 1;
            }
        for (int i = 0; i < CLIENTS_MAX; i++)
            if (clients[i].fd >= 0 && polls[3 + i].revents && !serve(&clients[i], ways)) {
                close(clients[i].fd);
                clients[i].fd = -1;
            }
        for (int i = 0; (polls[2].revents & POLLIN) && i < CLIENTS_MAX; i++)
            if (clients[i].fd < 0) {
                clients[i] = (struct client){.fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC)};
                break;
            }
    }
}
