#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The module with dmsetup alone: a store, an origin, snapshots that are read, written and deleted, all back
# after a reboot.
# groups: quick dmsetup smp
# disks: 16M 64M
# timeout: 120
. "$SRC/tests/vm/guest/lib.sh"
. "$SRC/tests/vm/guest/cow.sh"

load_module
if [[ $(phase) == start ]]; then
	store_make store "$DISK1"
	origin_make origin store 1 "$DISK0"
	fill /dev/mapper/origin 1
	before=$(sum /dev/mapper/origin)
	check "a snapshot is created" dmsetup message store 0 create 1 1
	snap_make snap1 store 1 origin read_only
	same "a new snapshot is equal to its origin" "$before" "$(sum /dev/mapper/snap1)"
	fill /dev/mapper/origin 2
	after=$(sum /dev/mapper/origin)
	[[ $after != "$before" ]] || fail "the origin was not overwritten"
	same "the snapshot keeps what the origin had" "$before" "$(sum /dev/mapper/snap1)"
	dmsetup status
	refused "an open snapshot is not deleted" dmsetup message store 0 delete 1
	refused "a store in use is not removed" dmsetup remove store
	refused "an origin with an open snapshot is not removed" dmsetup remove origin
	check "a snapshot's device is removed" dmsetup remove snap1
	check "another snapshot is created" dmsetup message store 0 create 2 1
	snap_make snap2 store 2 origin
	check "a snapshot is written" dd if=/dev/urandom of=/dev/mapper/snap2 bs=64k count=20 oflag=direct status=none
	written=$(sum /dev/mapper/snap2)
	[[ $written != "$after" ]] || fail "the snapshot was not written"
	same "the origin does not see what a snapshot is given" "$after" "$(sum /dev/mapper/origin)"
	snap_make snap1 store 1 origin read_only
	same "nor do other snapshots" "$before" "$(sum /dev/mapper/snap1)"
	dmsetup message store 0 snapshots
	dmsetup message store 0 origins
	dmsetup remove snap1
	dmsetup remove snap2
	dmsetup remove origin
	dmsetup remove store
	printf '%s %s %s\n' "$before" "$after" "$written" >/bed/sums
	sync
	reboot_to again
fi
read -r before after written </bed/sums
store_make store "$DISK1"
origin_make origin store 1 "$DISK0"
same "the origin is as before the reboot" "$after" "$(sum /dev/mapper/origin)"
snap_make snap1 store 1 origin read_only
same "the read-only snapshot is as before the reboot" "$before" "$(sum /dev/mapper/snap1)"
snap_make snap2 store 2 origin
same "the written snapshot is as before the reboot" "$written" "$(sum /dev/mapper/snap2)"
dmsetup remove snap1
dmsetup remove snap2
check "the snapshots are deleted" dmsetup message store 0 delete 1 2
free_all store
