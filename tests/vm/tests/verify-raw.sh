#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# With 1, 8 and 64 snapshots of a raw origin under fio's verified load: each snapshot's sha256 is the origin's at its
# creation, also after random writes, discards and write-zeroes, and while others come and go.
# groups: verify smp both
# disks: 4M 1G
# timeout: 240
. "$SRC/tests/vm/guest/lib.sh"
. "$SRC/tests/vm/guest/cow.sh"

# load_and_snapshots COUNT LOAD_S: so many snapshots, some of them under fio's load for that time, the others at a quiet
# moment.
load_and_snapshots() {
	local count=$1 id load sums=()
	fio_verify /dev/mapper/origin 4M randwrite --bsrange=512-64k --blockalign=512 --runtime="$2" --time_based &
	load=$!
	for ((id = 1; id <= count / 2 && id <= 8; id++)); do
		dmsetup message store 0 create "$id" 1 || fail "snapshot $id under load"
		snap_make snap store "$id" origin read_only >/dev/null
		sums[id]=$(sum /dev/mapper/snap)
		dmsetup remove snap
	done
	check "fio finds what it wrote" wait "$load"
	for (( ; id <= count; id++)); do
		dd if=/dev/urandom of=/dev/mapper/origin bs=$((id % 16 + 1))b seek=$((id * 229 % 6000 * 512)) count=20 \
			oflag=direct,seek_bytes status=none || fail "a write"
		sums[id]=$(sum /dev/mapper/origin)
		dmsetup message store 0 create "$id" 1 || fail "snapshot $id"
		((id % 5)) || come_and_go store 1
	done
	check "parts are discarded" blkdiscard -o 512 -l $((3 * 512 * 1024 + 512)) /dev/mapper/origin
	check "parts are zeroed" blkdiscard -z -o $((2 * 1024 * 1024 - 512)) -l $((1024 * 1024)) /dev/mapper/origin
	check "parts are punched" fallocate -z -o $((3 * 1024 * 1024)) -l 524288 /dev/mapper/origin
	check "fio finds what it wrote" fio_verify /dev/mapper/origin 4M randwrite --bsrange=4k-64k
	for ((id = 1; id <= count; id++)); do
		snap_make snap store "$id" origin read_only >/dev/null
		[[ $(sum /dev/mapper/snap) == "${sums[id]}" ]] || fail "snapshot $id of $count has changed"
		dmsetup remove snap
	done
	say "ok: $count snapshots are what the origin was"
	for ((id = 1; id <= count; id++)); do
		dmsetup message store 0 delete "$id" || fail "snapshot $id is not deleted"
	done
	all_go store
	free_all store
}

RANDOM=$SEED
SUM_WITH=sha256sum
load_module
store_make store "$DISK1" 2 segment_sectors 256
origin_make origin store 1 "$DISK0"
for count in ${COUNTS:-1 8 64}; do
	load_and_snapshots "$count" "${LOAD_S:-6}"
done
