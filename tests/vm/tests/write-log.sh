#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# From a log of all writes to an origin and its store while snapshots are created and deleted: no block is overwritten
# before its old contents are durable, and wherever the power is cut, the store activates with every snapshot exact and
# no block leaked. The log is made and checked outside of the machine; see programs/check_write_log.cpp.
# groups: crash smp
# disks: 6M 64M 1M
# check-write-log: 0 1 2 --most 150
# timeout: 200
. "$SRC/tests/vm/guest/lib.sh"
. "$SRC/tests/vm/guest/cow.sh"

notes=0
RANDOM=$SEED

# note_down WORDS...: into the log, behind all that was written before.
note_down() {
	printf '%s\0' "$*" | dd of="$DISK2" bs=512 seek=$notes conv=sync,notrunc oflag=direct status=none || fail "no note"
	notes=$(((notes + 1) % 2048))
}

load_module
store_make store "$DISK1" 2 segment_sectors 128
fill "$DISK0" 1
origin_any origin store 1 "$DISK0"
note_down ready
fio --name=load --filename="$top" --rw=randwrite --bsrange=512-24k --blockalign=512 --direct=1 \
	--ioengine=libaio --iodepth=8 --fsync=40 --time_based --runtime=1000 --randrepeat=0 --randseed="$SEED" --output=/run/fio.log &
load=$!
first=1
for ((id = 1; id <= ${SNAPSHOTS:-14}; id++)); do
	dmsetup message store 0 create $id 1 || fail "snapshot $id is not created"
	note_down created $id
	sleep "$((RANDOM % 2)).$((RANDOM % 10))"
	if ((id - first >= 3)); then
		# the oldest one, or one in the middle
		gone=$((id % 2 ? first : first + 1))
		dmsetup message store 0 delete $gone || fail "snapshot $gone is not deleted"
		note_down deleted $gone
		((gone == first)) || { dmsetup message store 0 delete $first && note_down deleted $first; }
		first=$((gone + 1))
	fi
done
kill -INT $load
wait $load
kill -0 $load 2>/dev/null && fail "fio goes on"
check "the store has not failed" test "$(status_word store 2)" = active
