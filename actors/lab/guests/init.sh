#!/bin/busybox sh
# Init of the lab guest: load the few drivers, mount the root disk read-only at /image, become the workload.
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox mount -t devtmpfs dev /dev
exec </dev/console >/dev/console 2>&1
while read -r module; do /bin/busybox insmod "/modules/$module"; done </modules/order
tries=0
while [ ! -b /dev/vda ] && [ $tries -lt 200 ]; do /bin/busybox usleep 20000; tries=$((tries + 1)); done
[ -b /dev/vda ] && /bin/busybox mount -t ext4 -o ro,noatime /dev/vda /image
exec /workload
