#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A store that comes back after its origin went on without it does not present its snapshots as exact: they missed writes.
# The module remembers that by itself until it is unloaded; after that it is told, by who has written the event down.
# groups: failure smp
# disks: 16M
# timeout: 240
. "$SRC/tests/vm/guest/lib.sh"
. "$SRC/tests/vm/guest/cow.sh"
. "$SRC/tests/vm/guest/faults.sh"

message() {
	dmsetup message store 0 "$@"
}

# lost_after WHAT [LAST SET]: activates the store again, and tells it of its loss if one is named; the snapshot must be
# known to be lost, and must not be shown.
lost_after() {
	put_in
	store_make store "$pluggable" 2 segment_sectors 256
	[[ -z ${2-} ]] || check "the store is told" message lost "$2"
	origin_make origin store 1 "$DISK0"
	same "$1: the snapshot is known to be lost" lost "$(message snapshots | cut -d' ' -f5)"
	snap_make first store 1 origin read_only
	refused "$1: it is not shown" dd if=/dev/mapper/first of=/dev/null bs=4k count=1 iflag=direct status=none
	dmsetup remove first
}

# taken_away: the store is pulled out; once its loss is written down in $last_set, the origin goes on.
taken_away() {
	local tries=0
	pull_out
	dd if=/dev/urandom of=/dev/mapper/origin bs=64k seek=128 count=64 oflag=direct status=none &
	while last_set=$(message events | awk '$2 == "unrecorded" { print $3 }'); [[ -z $last_set ]]; do
		((++tries < 100)) || fail "no event asks to write the loss down"
		sleep 0.1
	done
	check "the loss is written down (up to set $last_set)" message loss_recorded
	check "the origin goes on" wait $!
	same "the store has failed" failed "$(status_word store 2)"
	dmsetup remove origin
	dmsetup remove store
}

load_module
pluggable_make 64
store_make store "$pluggable" 2 segment_sectors 256
origin_make origin store 1 "$DISK0"
fill /dev/mapper/origin 1
check "a snapshot" message create 1 1
check "some blocks are preserved" dd if=/dev/urandom of=/dev/mapper/origin bs=64k count=32 oflag=direct status=none
taken_away
lost_after "the module was loaded all the time"
check "it is deleted" message delete 1
check "a new snapshot" message create 1 1
taken_away
check "the module is unloaded" rmmod dm-cow-snap
load_module
lost_after "the module was unloaded in between" "$last_set"
