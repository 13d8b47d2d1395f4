#!/bin/busybox sh
# The first program in the machine of `cargo xtask vm`, in its initramfs: loads what the kernel needs, makes the host's
# root the machine's root, and goes on with stage2.sh there. `bips_session` is on the kernel's command line.
B=/bin/busybox
# An error, so that a quiet kernel says it too.
fail() {
    echo "<3>bips-vm: $*" >&9
    $B poweroff -f
}

$B mount -t proc proc /proc
$B mount -t sysfs sysfs /sys
$B mount -t devtmpfs devtmpfs /dev
# Open from here on: /dev moves while modules are being loaded.
exec 9>/dev/kmsg

# A file of "NAME PARAMETERS" in the order in which they need each other.
load() {
    while read -r name parameters; do
        # Unquoted: a word each.
        $B insmod "/modules/$name.ko" $parameters || fail "the module $name could not be loaded"
    done <"$1"
}
load /modules/boot
# Groups share nothing, so they may load side by side, while the root is mounted.
for group in /modules/group.*; do
    [ -f "$group" ] && load "$group" &
done

# Read-only twice, here and in QEMU. The host does not change what a test reads, so the cache may be the loose one.
options=trans=virtio,version=9p2000.L,ro,msize=512000,cache=loose
tries=0
until $B mount -t 9p -o $options root /host; do
    # The device may not be there yet.
    tries=$((tries + 1))
    [ $tries -lt 50 ] || fail "the host's root could not be mounted"
    $B usleep 100000
done
# What is written stays in memory and is gone with the machine.
$B mount -t tmpfs -o size=75% tmpfs /written
$B mkdir /written/upper /written/work
$B mount -t overlay -o lowerdir=/host,upperdir=/written/upper,workdir=/written/work overlay /root ||
    fail "there is no overlay over the host's root"
for place in proc sys dev; do
    $B mkdir -p /root/$place
    $B mount --move /$place /root/$place
done
# The host's would be full of other processes' sockets and locks.
$B mkdir -p /root/run /root/dev/shm /root/dev/pts
$B mount -t tmpfs -o mode=755 tmpfs /root/run
$B mount -t tmpfs -o mode=1777 tmpfs /root/dev/shm
$B mount -t devpts -o mode=620,ptmxmode=666 devpts /root/dev/pts
$B ln -s /proc/self/fd /root/dev/fd
$B ln -s /proc/self/fd/0 /root/dev/stdin
$B ln -s /proc/self/fd/1 /root/dev/stdout
$B ln -s /proc/self/fd/2 /root/dev/stderr

$B mkdir /root/run/bips-vm
$B cp /bin/busybox /stage2.sh "/host$bips_session/settings" "/host$bips_session/command" /root/run/bips-vm/ ||
    fail "the session's files could not be read"
# The drivers are to be there before the command is.
wait
exec $B switch_root /root /run/bips-vm/busybox sh /run/bips-vm/stage2.sh 9>&-
