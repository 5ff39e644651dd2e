#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A read of a snapshot that was sent to the origin shows the old contents even if the origin is overwritten before
# the read gets there. For that the reads are held up on their way to the disk, by the limit of a control group.
# groups: quick exact smp
# disks: 8M 64M
. "$SRC/tests/vm/guest/lib.sh"
. "$SRC/tests/vm/guest/cow.sh"

parts=8

# start_readers: one for each MiB of the snapshot, all of them slowed down.
start_readers() {
	local part
	for ((part = 0; part < parts; part++)); do
		(
			echo "$BASHPID" >/sys/fs/cgroup/slow/cgroup.procs
			exec dd if=/dev/mapper/snap of="/run/part$part" bs=1M skip="$part" count=1 iflag=direct status=none
		) &
	done
}

load_module
mount -t cgroup2 none /sys/fs/cgroup 2>/dev/null
echo +io >/sys/fs/cgroup/cgroup.subtree_control
mkdir /sys/fs/cgroup/slow
check "reads of the origin's disk are slowed down" tee /sys/fs/cgroup/slow/io.max \
	<<<"$(cat "/sys/block/${DISK0##*/}/dev") rbps=2000000"
store_make store "$DISK1"
origin_make origin store 1 "$DISK0"
fill /dev/mapper/origin 1
for round in 1 2 3; do
	before=$(sum /dev/mapper/origin)
	check "a snapshot is created" dmsetup message store 0 create "$round" 1
	snap_make snap store "$round" origin read_only
	start_readers
	sleep 0.5
	running=$(jobs -r | wc -l)
	fill /dev/mapper/origin "$((round + 1))"
	wait
	check "readers were on their way" test "$running" -gt 0
	same "they read what the origin had" "$before" "$(cat /run/part? | sum_of_input)"
	same "and so do later ones" "$before" "$(sum /dev/mapper/snap)"
	dmsetup remove snap
done
