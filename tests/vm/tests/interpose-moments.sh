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

# written: how many sectors have got to the disk.
written() {
	local counts
	read -r -a counts <"/sys/block/${DISK0##*/}/stat"
	echo "${counts[6]}"
}

# until_written COUNT: so many more have.
until_written() {
	local end=$(($(written) + $1))
	while kill -0 $stamped 2>/dev/null && (($(written) < end)); do
		sleep 0.1
	done
	kill -0 $stamped 2>/dev/null || fail "who writes has ended: $(</run/stamped.log)"
}

# writes_may BYTES: of those in the control group, in a second.
writes_may() {
	echo "$(<"/sys/block/${DISK0##*/}/dev") wbps=$1" >/sys/fs/cgroup/slow/io.max || fail "the limit is not set"
}

load_module
modprobe -a dm-delay loop raid1 || fail "modules are missing"
mount -t tracefs tracefs /sys/kernel/tracing 2>/dev/null
store_make store "$DISK1" 2 segment_sectors 256

note "a disk"
ROUNDS=$((4 * ${ROUNDS:-1})) moments "$DISK0"

note "a disk that is written without waiting: REQ_NOWAIT"
moments "$DISK0" --nowait

note "writes that a control group holds up while it is attached: they come back behind the place where others enter"
mount -t cgroup2 none /sys/fs/cgroup 2>/dev/null
echo +io >/sys/fs/cgroup/cgroup.subtree_control
mkdir -p /sys/fs/cgroup/slow
(
	echo "$BASHPID" >/sys/fs/cgroup/slow/cgroup.procs
	exec "$BUILD/tests/vm/programs/stamped-writes" "$DISK0" 0 "$(sectors "$DISK0")" "$SEED"
) >/run/stamped.log 2>&1 &
stamped=$!
until_written 20000
for ((round = 1; round <= 2 * ${ROUNDS:-1}; round++)); do
	writes_may 100
	sleep 1
	now=$(written)
	origin_interpose held store 2 "$DISK0"
	check "a snapshot" dmsetup message store 0 create 2 2
	snap_make snap store 2 held read_only
	before=$(sum /dev/mapper/snap)
	same "they were held up all the time" "$now" "$(written)"
	writes_may max
	until_written 1000
	same "the snapshot does not change when they come" "$before" "$(sum /dev/mapper/snap)"
	dmsetup remove snap
	check "it is deleted" dmsetup message store 0 delete 2
	check "it is detached" dmsetup remove held
	check "it is forgotten" dmsetup message store 0 forget 2
done
kill -INT $stamped
wait $stamped || fail "a write is lost: $(</run/stamped.log)"
note "$(</run/stamped.log)"
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
