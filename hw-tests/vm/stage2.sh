# The rest of the way to the command, with the host's root as root: mounts, ports to the host, the command itself, its
# status. Process 1 of the machine.
B=/run/bips-vm/busybox
# OUT, MODULES, END
. /run/bips-vm/settings

$B mount -t cgroup2 cgroup2 /sys/fs/cgroup
$B mount -t debugfs debugfs /sys/kernel/debug
$B mount -t tracefs tracefs /sys/kernel/tracing
$B ip link set lo up
$B hostname bips-vm
# For modprobe: the host's own are of another kernel.
if [ -d "$MODULES" ]; then
    release=$($B uname -r)
    $B mkdir -p "/lib/modules/$release"
    $B mount --bind "$MODULES" "/lib/modules/$release"
fi
for port in /sys/class/virtio-ports/vport*; do
    read -r name <"$port/name"
    $B ln -s "/dev/${port##*/}" "/run/bips-vm/$name"
done
if [ -n "$OUT" ]; then
    $B mkdir -p "$OUT"
    # mmap: else a compiler, which writes through shared mappings, could not work in it.
    $B mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=mmap out "$OUT" || {
        echo "<3>bips-vm: the shared folder could not be mounted" >/dev/kmsg
        $B poweroff -f
    }
fi
# A port can be open once only, and stays open here: each line is a write of its own.
exec 3>/run/bips-vm/status
echo up >&3

# For the same reason the command gets pipes, so that it can open /dev/stdout and /dev/stderr. What ends a stream is said
# in the stream: nothing else tells the host that all of it has arrived.
$B mkfifo /run/bips-vm/out.pipe /run/bips-vm/err.pipe
relay() {
    $B cat <"/run/bips-vm/$1.pipe" 3>&- &
    echo $! >"/run/bips-vm/$1.cat"
    wait $!
    printf %s "$END"
}
relay out >/run/bips-vm/out 3>&- &
out=$!
relay err >/run/bips-vm/err 3>&- &
err=$!
$B setsid sh /run/bips-vm/command </dev/null >/run/bips-vm/out.pipe 2>/run/bips-vm/err.pipe 3>&-
status=$?

# What the command left running would keep its streams open: it ends with it.
keep=" 1 $out $err $($B cat /run/bips-vm/out.cat) $($B cat /run/bips-vm/err.cat) "
while kill -0 $out || kill -0 $err; do
    for process in /proc/[0-9]*; do
        process=${process#/proc/}
        case $keep in
        *" $process "*) ;;
        *) kill -KILL "$process" ;;
        esac
    done
    $B usleep 20000
done 2>/dev/null

[ -z "$OUT" ] || $B umount "$OUT" || $B sync
echo "exit $status" >&3
# The host ends the machine; this is for the case that it does not.
$B poweroff -f
