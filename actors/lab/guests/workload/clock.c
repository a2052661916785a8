/* The host's time as the guest can see it: the emulated CMOS clock follows the host also while the guest is stopped,
 * whereas every other guest clock stands still. The instant of its second's edge on CLOCK_MONOTONIC jumps by a pause. */
#include "nova.h"

#include <sys/io.h>
#include <time.h>

#define SECOND_NS 1000000000ULL
#define CLOSE_NS 10000000ULL

uint64_t host_edge_s, host_edge_ns;
static int last_second = -1;

static int cmos(int index) {
    outb((unsigned char)index, 0x70);
    return inb(0x71);
}

static int decimal(int bcd) { return (bcd >> 4) * 10 + (bcd & 15); }

void host_clock_open(void) {
    if (ioperm(0x70, 2, 1) != 0) fatal("no access to the CMOS clock");
}

static int edge_seen(void) {
    if (cmos(0x0a) & 0x80) return 0; /* an update is under way: the registers may be torn */
    int second = cmos(0);
    if (second == last_second) return 0;
    uint64_t at = now_ns(CLOCK_MONOTONIC);
    struct tm when = {
        .tm_sec = decimal(second), .tm_min = decimal(cmos(2)), .tm_hour = decimal(cmos(4)),
        .tm_mday = decimal(cmos(7)), .tm_mon = decimal(cmos(8)) - 1, .tm_year = decimal(cmos(9)) + 100,
    };
    int first = last_second < 0;
    last_second = second;
    if (first) return 0; /* somewhere inside a second: no edge */
    host_edge_s = (uint64_t)timegm(&when);
    host_edge_ns = at;
    return 1;
}

/* Poll once a slice, and closely when the next edge is due. */
void host_clock_slice(void) {
    if (edge_seen() || host_edge_ns == 0) return;
    uint64_t now = now_ns(CLOCK_MONOTONIC), due = host_edge_ns + SECOND_NS;
    if (now + CLOSE_NS < due || now > due + CLOSE_NS) return;
    while (!edge_seen() && now_ns(CLOCK_MONOTONIC) < now + 2 * CLOSE_NS) {}
}

/* When to poll next: at `slice`, or before it if an edge is due by then. */
uint64_t host_clock_next(uint64_t slice) {
    uint64_t eve = host_edge_ns + SECOND_NS - CLOSE_NS;
    return host_edge_ns != 0 && eve > now_ns(CLOCK_MONOTONIC) && eve < slice ? eve : slice;
}
