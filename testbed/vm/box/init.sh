#!/bin/busybox sh
# The first process of a box's VM: load what the disk needs, and hand over to the system on it.
B=/bin/busybox
$B mount -t devtmpfs dev /dev
$B mount -t proc proc /proc
$B mount -t sysfs sys /sys
while read -r module; do $B insmod "/modules/$module"; done < /modules/order
while [ ! -e /dev/vda ]; do $B sleep 0.05; done
$B mount -t ext4 -o noatime /dev/vda /new
for d in dev proc sys; do $B mount --move /$d /new/$d; done
exec $B switch_root /new /sbin/init
