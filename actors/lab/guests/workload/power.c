/* The ACPI power button: `virsh shutdown` and the agent's graceful stop press it. */
#include "nova.h"

#include <fcntl.h>
#include <linux/input.h>
#include <sys/reboot.h>
#include <unistd.h>

static int inputs[4] = {-1, -1, -1, -1};

void power_open(void) {
    for (int i = 0; i < 4; i++) {
        char path[32];
        snprintf(path, sizeof path, "/dev/input/event%d", i);
        inputs[i] = open(path, O_RDONLY | O_NONBLOCK);
    }
}

void power_slice(void) {
    struct input_event event;
    for (int i = 0; i < 4; i++) {
        while (inputs[i] >= 0 && read(inputs[i], &event, sizeof event) == (ssize_t)sizeof event) {
            if (event.type != EV_KEY || event.code != KEY_POWER || event.value != 1) continue;
            say("nova poweroff");
            sync();
            reboot(RB_POWER_OFF);
        }
    }
}
