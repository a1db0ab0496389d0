#!/bin/busybox sh
# The VM's first process: make the host's files the root (read-only below, writes kept in memory), then hand over
# to the script that the host wrote for this run. With the parameter testbed_probe, only say that it booted.
B=/bin/busybox
$B mount -t devtmpfs dev /dev
$B mount -t proc proc /proc
$B mount -t sysfs sys /sys
if $B grep -q testbed_probe /proc/cmdline; then echo "testbed: this CPU runs" > /dev/console; $B reboot -f; fi
while read -r module; do $B insmod "/modules/$module"; done < /modules/order

# cache=loose: nothing else writes what the guest reads, so it may remember all it has seen.
share=trans=virtio,version=9p2000.L,msize=512000
$B mount -t 9p -o ro,$share,cache=loose host /lower
$B mount -t tmpfs -o mode=755 overlay /overlay
$B mkdir /overlay/upper /overlay/work
$B mount -t overlay -o lowerdir=/lower,upperdir=/overlay/upper,workdir=/overlay/work root /new

# ipset and others open these anew for each entry they read or print: over 9p that is a round trip each.
for file in protocols services nsswitch.conf; do [ -e /new/etc/$file ] && $B touch /new/etc/$file; done

for d in dev proc sys; do $B mkdir -p /new/$d; $B mount --move /$d /new/$d; done
$B mkdir -p /new/run /new/tmp /new/dev/pts /new/dev/shm /new/var/lib/testbed
$B mount -t tmpfs -o mode=755 run /new/run
$B mount -t tmpfs -o mode=1777 tmp /new/tmp
$B mount -t tmpfs -o mode=1777 shm /new/dev/shm
$B mount -t tmpfs -o mode=755 testbed /new/var/lib/testbed
$B mount -t devpts -o mode=620,ptmxmode=666 devpts /new/dev/pts
[ -e /new/dev/fd ] || $B ln -s /proc/self/fd /new/dev/fd

$B mkdir -p /new/run/vm/job /new/run/vm/host
$B cp $B /new/run/vm/busybox
$B mount --move /lower /new/run/vm/host
$B mount -t 9p -o $share,cache=mmap job /new/run/vm/job
exec $B switch_root /new /run/vm/busybox sh /run/vm/job/start
