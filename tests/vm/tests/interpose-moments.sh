#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Attached at random moments while writers stamp all that they write, and a snapshot at once: it is what the device had at
# an instant, and never changes, so nothing was on its way unseen; detached while they write, and no write is missing. Also on devices
# that take longer for a write than attaching and creating take, of each kind that is waited for in another way, and with
# writers that are held up on their way to it, do not want to wait, or are slowed down.
# groups: interpose both smp
# disks: 8M 128M 8M
# timeout: 500
. "$SRC/tests/vm/guest/lib.sh"
. "$SRC/tests/vm/guest/cow.sh"
. "$SRC/tests/vm/guest/interpose.sh"

# moments DEVICE [OPTIONS...]
moments() {
	blkdiscard --zeroout "$1"
	check "$1: attached at ${ROUNDS:-1} moments, snapshots are exact and no write is lost" \
		"$BUILD/tests/vm/programs/exact-snapshots" --store store --origin "moment:1:$1" --seed "$SEED" --writers 4 \
		"${@:2}" "attach:${ROUNDS:-1}"
	same "nothing is hooked any more" 0 "$(hooks)"
}

# slow NAME DEVICE: as DEVICE, but a write takes a while until it is begun; a flush, with which a snapshot begins, does not.
slow() {
	dmsetup create "$1" --table "0 $(sectors "$2") delay $2 0 0 $2 0 2500 $2 0 0" || fail "no device that is slow"
}

load_module
modprobe -a dm-delay loop raid1 || fail "modules are missing"
mount -t tracefs tracefs /sys/kernel/tracing 2>/dev/null
store_make store "$DISK1" 2 segment_sectors 256

note "a disk"
ROUNDS=$((4 * ${ROUNDS:-1})) moments "$DISK0"

note "a disk that is written without waiting: REQ_NOWAIT"
moments "$DISK0" --nowait

note "a disk whose writers a control group slows down: their writes come back behind the place where others enter"
mount -t cgroup2 none /sys/fs/cgroup 2>/dev/null
echo +io >/sys/fs/cgroup/cgroup.subtree_control
mkdir -p /sys/fs/cgroup/slow
check "writes are slowed down" tee /sys/fs/cgroup/slow/io.max <<<"$(<"/sys/block/${DISK0##*/}/dev") wbps=2000000"
(
	echo "$BASHPID" >/sys/fs/cgroup/slow/cgroup.procs
	ROUNDS=$((4 * ${ROUNDS:-1})) moments "$DISK0"
) || exit 1
rmdir /sys/fs/cgroup/slow

note "a mapped device"
slow slow0 "$DISK0"
slow slow2 "$DISK2"
moments /dev/mapper/slow0

note "a device with a queue, whose requests do not suffice for all writers"
loop=$(losetup --find --show --direct-io=on /dev/mapper/slow0)
echo 4 >"/sys/block/${loop#/dev/}/queue/nr_requests" || fail "the queue cannot be made short"
moments "$loop" --writers 8 --no-discards
losetup -d "$loop"

# array DEVICE DEVICE
array() {
	check "an array" mdadm --create /dev/md9 --quiet --run --level=1 --raid-devices=2 --bitmap=none --assume-clean \
		--metadata=1.2 "$1" "$2"
	[[ -b /dev/md9 ]] || mknod /dev/md9 b 9 9
}

note "MD RAID1"
array /dev/mapper/slow0 /dev/mapper/slow2
moments /dev/md9 --alignment 8
check "the array is stopped" mdadm --stop --quiet /dev/md9
dmsetup remove slow0
dmsetup remove slow2

note "MD with writers that it lets wait before it counts their writes"
array "$DISK0" "$DISK2"
end=$(sectors /dev/md9)
# not from sector 0 on: a flush, with which a snapshot begins, would wait, too
echo 8 >/sys/block/md9/md/suspend_lo
while [[ ! -e /run/stop ]]; do
	echo "$end" >/sys/block/md9/md/suspend_hi
	sleep 5
	echo 0 >/sys/block/md9/md/suspend_hi
	sleep 0.2
done &
holder=$!
moments /dev/md9 --alignment 8
touch /run/stop
wait $holder
check "the array is stopped" mdadm --stop --quiet /dev/md9

free_all store
check "the module is unloaded" eval 'dmsetup remove store && rmmod dm-cow-snap'
